"""Units of work, named by what determines their result; ``store`` keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from egl_fast.checkpoint import plain_config
from egl_fast.evaluation.simulation.sets import Member, digest, total_seconds
from egl_fast.hashing import hashed
from egl_fast.model import ModelConfig
from egl_fast.scoring.options import ScoringOptions
from egl_fast.training.config import TrainingConfig
from egl_fast.vocabulary import ENGLISH_CHARACTERS

#: Version of what units compute. A change that alters results needs a new number.
FORMAT_VERSION: Final = 1

TrainKind: TypeAlias = Literal["pretrain", "base", "train"]


@dataclass(frozen=True)
class FreshInit:
    """Random weights."""

    model: ModelConfig
    seed: int

    @property
    def spec(self) -> dict[str, Any]:
        """What identifies it."""
        return {"model": plain_config(self.model), "seed": self.seed}


@dataclass(frozen=True)
class FileInit:
    """The weights of a model file."""

    path: Path
    sha256: str

    @property
    def spec(self) -> dict[str, Any]:
        """What identifies it."""
        return {"file_sha256": self.sha256}


@dataclass(frozen=True)
class TrainUnit:
    """One training run, with its evaluation.

    Attributes:
        kind: "pretrain", "base" or "train".
        init: where its weights come from; a unit must have its model by then.
        train: what it is trained on.
        valid: what decides which epoch is best.
        test: what its model is evaluated on; empty for none.
        config: how it is trained.
        title: what to call it in progress lines.
    """

    kind: TrainKind
    init: Start
    train: tuple[Member, ...]
    valid: tuple[Member, ...]
    test: tuple[Member, ...]
    config: TrainingConfig
    title: str = field(compare=False)

    @cached_property
    def name(self) -> str:
        """Name of its folder."""
        return unit_name(self.spec)

    @property
    def spec(self) -> dict[str, Any]:
        """All that determines the result."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "init": {"unit": self.needs.name} if self.needs else self.init.spec,
            "vocabulary": "".join(ENGLISH_CHARACTERS[1:]),
            "train": _set_spec(self.train),
            "valid": _set_spec(self.valid),
            "test": _set_spec(self.test),
            "training": asdict(self.config),
        }

    @property
    def needs(self) -> TrainUnit | None:
        """The unit whose model it starts from."""
        return self.init if isinstance(self.init, TrainUnit) else None

    @cached_property
    def cost(self) -> float:
        """Seconds of audio; its time is roughly proportional to them."""
        return total_seconds(self.train)


@dataclass(frozen=True)
class ScoreUnit:
    """Scores of a pool, or of the rest of it, by one model.

    Attributes:
        model: the unit whose model scores.
        pool: what is scored; the scorer sees no text, only oracles do.
        options: of the scoring.
        num_hypotheses: labelings kept for each utterance.
        title: what to call it in progress lines.
        trusted: the recordings that typicality is relative to; None: neither typicality nor
            embeddings are kept.
        oracles: whether those of ``table_columns.ON_REQUEST`` are computed, too.
    """

    model: TrainUnit
    pool: tuple[Member, ...]
    options: ScoringOptions
    num_hypotheses: int
    title: str = field(compare=False)
    kind: Literal["score"] = "score"
    trusted: tuple[Member, ...] | None = None
    oracles: bool = False

    @cached_property
    def name(self) -> str:
        """Name of its folder."""
        return unit_name(self.spec)

    @property
    def spec(self) -> dict[str, Any]:
        """All that determines the result."""
        # Options added later appear only if used, so that other scorings keep their names.
        scoring = asdict(self.options)
        for later in ("word_confidence", "mc_dropout"):
            if not scoring[later]:
                del scoring[later]
        spec = {
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "model": self.model.name,
            "pool": _set_spec(self.pool),
            "scoring": scoring,
            "hypotheses": self.num_hypotheses,
        }
        if self.trusted is not None:
            spec["trusted"] = _set_spec(self.trusted)
        return {**spec, "oracles": True} if self.oracles else spec

    @property
    def needs(self) -> TrainUnit:
        """The unit whose model it uses."""
        return self.model

    @cached_property
    def cost(self) -> float:
        """Seconds of audio; its time is roughly proportional to them."""
        return total_seconds(self.pool)


Unit: TypeAlias = TrainUnit | ScoreUnit

#: What a training may start from.
Start: TypeAlias = FreshInit | FileInit | TrainUnit


def unit_name(spec: Mapping[str, Any]) -> str:
    """The name that a unit has by what determines its result."""
    return f"{spec['kind']}-{hashed(json.dumps(spec, sort_keys=True)).hex()[:16]}"


def _set_spec(members: Sequence[Member]) -> dict[str, Any]:
    seconds = round(total_seconds(members), 3)
    return {"clips": len(members), "seconds": seconds, "sha256": digest(members)}
