"""How a selection was made, as far as `select` or `query` says beside it; nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egl_fast.data.audio_folder import read_metadata
from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import shown_text
from egl_fast.evaluation.statistics.bootstrap import Floats
from egl_fast.selection.batches import without_scores
from egl_fast.selection.strategies import split_unit


@dataclass(frozen=True)
class MadeSelection:
    """A file of picks, most wanted first.

    Attributes:
        pool: the picks, in the form of a scored pool; it holds nothing of the rest.
        metadata: what ``PICKS.meta.json`` says; empty where there is none.
    """

    pool: ScoresFile
    metadata: Mapping[str, Any]

    @property
    def strategy(self) -> str:
        """What they were ranked by, as the user gave it; "" where that is unknown."""
        said = self._text("strategy")
        return "" if self._text("batch") in without_scores() else said

    @property
    def scores(self) -> Floats | None:
        """[N] what they were ranked by; None where the records don't hold it."""
        name, unit = split_unit(self.strategy)
        scores = self.pool.strategies.get(name)
        if scores is None or unit not in ("", "second"):
            return None
        if not unit:
            return scores
        seconds = self.pool.durations
        return np.divide(scores, seconds, out=np.zeros_like(scores), where=seconds > 0)

    @property
    def label(self) -> str:
        """What they were ranked by, for people; "" where that is unknown."""
        name, unit = split_unit(self.strategy)
        if ":" in name:  # code of the user's; its folders are private
            name = Path(name).name
        return f"{label(name)} per {shown_text(unit, most=40)}" if unit else label(name)

    @property
    def num_scored(self) -> int | None:
        """M, of which they were picked; None where it is unknown."""
        said = self.metadata.get("num_scored")
        return said if type(said) is int and said >= len(self.pool) else None

    @property
    def how(self) -> str:
        """By what rule they were picked, in words; "" where that is unknown."""
        parts = [self._order()]
        if not parts[0]:
            return ""
        gate = self.metadata.get("gate")
        option = shown_text(gate.get("option"), most=80) if isinstance(gate, dict) else ""
        left_out = atypical_path(self.pool.path).is_file()
        parts += [f"among those that pass the gate ({option})"] if option and left_out else []
        text = " ".join(parts)
        for one in self._list("per"):
            if isinstance(one, list) and len(one) == 2:
                text += f", at most {one[1]} per {shown_text(str(one[0]), most=40)}"
        return text + (", without those of --exclude" if self._list("exclude") else "")

    def _order(self) -> str:
        batch, share = (shown_text(self._text(name), most=40) for name in ("batch", "share"))
        if batch:
            by = f", with high {self.label}" if self.label else ""
            return f"a varied set by --batch {batch}{by}"
        if self.strategy == "random":
            return "drawn at random"
        if not self.label:
            return ""
        return f"those with the highest {self.label}" + (f" of each {share}" if share else "")

    @property
    def scores_name(self) -> str:
        """The scores file that they were picked from, without its folders; "" if unknown."""
        said = self._text("scores")
        return "" if said == "-" else shown_text(Path(said).name, most=200)

    def _text(self, key: str) -> str:
        said = self.metadata.get(key)
        return said if isinstance(said, str) else ""

    def _list(self, key: str) -> list[Any]:
        said = self.metadata.get(key)
        return said if isinstance(said, list) else []


def atypical_path(picks: Path) -> Path:
    """Where `select` lists what its gate left out."""
    return picks.with_name(f"{picks.name}.atypical.jsonl")


def made_selection(pool: ScoresFile) -> MadeSelection | None:
    """How the recordings of a file were picked; None if they are a scored pool."""
    metadata = read_metadata(str(pool.path))
    if "num_picks" in metadata or atypical_path(pool.path).is_file():
        return MadeSelection(pool, metadata)
    if metadata:
        return None
    # From standard output: `select` numbers what it writes, and `score` does not.
    ends = [record.get("rank") for record in pool.records((0, len(pool) - 1))]
    return MadeSelection(pool, {}) if ends == [1, len(pool)] else None
