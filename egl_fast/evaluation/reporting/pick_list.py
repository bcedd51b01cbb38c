"""A list of picks as a page holds it: rows to look at, and the same as files to save."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.evaluation.reporting.differences import marked
from egl_fast.evaluation.reporting.listening import readings
from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.page_model import Page, PickSection
from egl_fast.evaluation.reporting.reasons import Reasons
from egl_fast.evaluation.reporting.saving import Saving, saved
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import plain_exp, shown_id, shown_text
from egl_fast.evaluation.statistics.bootstrap import Floats
from egl_fast.labeling.formats import Record

#: What the page lists; `select` knows no such limit.
MAX_ROWS = 10_000
#: Of the rows, as written into the page.
MAX_BYTES = 4 * 2**20
#: Recordings whose other readings are listed, and how many of these.
_WITH_READINGS, _MAX_READINGS = 100, 5
_MAX_COPIES = 5


@dataclass(frozen=True)
class PickList:
    """N picks of the M recordings of a file, the first to label first.

    Attributes:
        pool: the file.
        indices: [N] positions in it.
        strategy: what they are ranked by; "" where that is unknown.
        label: the same for people.
        scores: [M] by that; None where the records don't hold it.
        reasons: why each is picked.
        copies: position -> positions of the copies left out in its favor.
    """

    pool: ScoresFile
    indices: npt.NDArray[np.int64]
    strategy: str
    label: str
    scores: Floats | None
    reasons: Reasons
    copies: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def estimated(self) -> str | None:
        """The score that is shown with its error bar: the one ranked by, if it is an estimate."""
        names = (self.strategy, "egl_full")
        return next((name for name in names if name in self.pool.stderrs), None)


def add_list(
    page: Page,
    picks: PickList,
    saving: Saving,
    *,
    heading: str,
    slider: str,
    lead: str,
    notes: Sequence[str] = (),
    command: str = "",
    gate: str = "",
    start: int | None = None,
) -> None:
    """A list of picks with a slider that takes the start of it.

    Args:
        page: gets the section; its listening table has to be there by now.
        picks: what to list; as many as there is room for.
        saving: how they can be saved.
        heading: of the section.
        slider: what the slider sets.
        lead: what the list is.
        notes: on what it does not hold.
        command: the `select` that picks it, but for the budget; "" where it is picked already.
        gate: the gate's option, or "".
        start: how many picks the slider starts with; None: all.

    Raises:
        ManifestError: a format has no room for one of them.
    """
    rows, phrases, records = _rows(page, picks, len(saving.formats))
    if len(rows) < len(picks.indices):
        cut = f"To keep the page small, it lists the first {len(rows):,} of {len(picks.indices):,}."
        notes = [*notes, cut]
    scores = None if picks.scores is None else picks.scores[picks.indices[: len(rows)]].tolist()
    page.picks = PickSection(
        heading=heading,
        slider=slider,
        lead=lead,
        command=command,
        gate=gate,
        notes=tuple(notes),
        is_estimate=picks.strategy in picks.pool.stderrs,
        saves=saved(records, scores, saving),
        is_found=saving.folder is not None,
    )
    page.data["picks"] = {
        "label": picks.label,
        "barLabel": label(picks.estimated or ""),
        "command": command,
        "rows": rows,
        "phrases": phrases,
        "saves": [{"file": one["file"], "packed": one["packed"]} for one in page.picks.saves],
        "start": len(rows) if start is None else start,
    }


def _rows(
    page: Page, picks: PickList, num_formats: int
) -> tuple[list[dict[str, Any]], list[str], list[Record]]:
    """The rows of the list, what their reasons say, and the records to save; as many as fit."""
    pool, indices = picks.pool, picks.indices[:MAX_ROWS].tolist()
    detailed, estimated = set(indices[:_WITH_READINGS]), picks.estimated

    def row(index: int, record: Record) -> tuple[dict[str, Any], Record]:
        why = picks.reasons.of(index, record)
        heard = record.get("pred_text")
        heard = heard if isinstance(heard, str) else ""
        found = {
            "id": shown_id(record["id"]),
            "heard": shown_text(heard),
            "words": len(heard.split()),
            "seconds": float(pool.durations[index]),
            "why": why,
        }
        if picks.scores is not None:
            found["score"] = float(picks.scores[index])
        if estimated is not None and pool.stderrs[estimated][index] > 0:
            bar = (pool.strategies[estimated][index], pool.stderrs[estimated][index])
            found["bar"] = [float(f"{value:.6g}") for value in bar]
        if picks.reasons.is_outlier(index):
            found["outlier"] = True
        if index in picks.copies:
            found["copies"] = _copies(pool, picks.copies[index])
        if index in page.listen_numbers:
            found["number"] = page.listen_numbers[index]
        if index in detailed:
            found["readings"] = _readings(record)
        kept = {"why": "; ".join(why), **record}
        if isinstance(kept.get("hypotheses"), list):
            kept["hypotheses"] = kept["hypotheses"][:_MAX_READINGS]
        return found, kept

    rows, records, size = list[dict[str, Any]](), list[Record](), 0
    phrases: dict[str, int] = {}
    for own, kept in pool.parts(indices, row):
        own["why"] = [phrases.setdefault(phrase, len(phrases)) for phrase in own["why"]]
        # Compressed, a record takes about a quarter.
        size += len(json.dumps(own)) + num_formats * len(json.dumps(kept)) // 4
        if rows and size > MAX_BYTES:
            break
        rows.append(own)
        records.append({**kept, "rank": len(rows)})
    return rows, list(phrases), records


def _copies(pool: ScoresFile, indices: Sequence[int]) -> list[str]:
    named = [shown_id(pool.ids[index]) for index in indices[:_MAX_COPIES]]
    more = len(indices) - len(named)
    return [*named, f"{more} more"] if more else named


def _readings(record: Mapping[str, Any]) -> list[Any]:
    read = list(islice(readings(record), _MAX_READINGS))
    return [[plain_exp(log_prob), marked(read[0][0], text)] for text, log_prob, _ in read]
