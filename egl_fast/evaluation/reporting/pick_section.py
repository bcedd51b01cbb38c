"""The section that answers the page's title: what to label at a budget, and why each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from egl_fast.data.audio_folder import read_metadata
from egl_fast.errors import SelectionError
from egl_fast.evaluation.reporting.differences import marked
from egl_fast.evaluation.reporting.left_out import DEFAULT, quantiles_in
from egl_fast.evaluation.reporting.listening import readings
from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.page_model import Page, PickSection
from egl_fast.evaluation.reporting.pick_order import PickOrder
from egl_fast.evaluation.reporting.reasons import Reasons
from egl_fast.evaluation.reporting.saving import Saving, saved
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import plain_exp, shown_id, shown_text
from egl_fast.labeling.formats import Record
from egl_fast.selection.gate import Gate, how_to_close, likeness_in

#: What the page lists; `select` knows no such limit.
MAX_ROWS = 10_000
#: Of the rows, as written into the page.
MAX_BYTES = 4 * 2**20
#: Recordings whose other readings are listed, and how many of these.
_WITH_READINGS, _MAX_READINGS = 100, 5
_MAX_COPIES = 5


def add_picks(page: Page, pool: ScoresFile, order: PickOrder, saving: Saving) -> None:
    """What `select` picks, first to label first.

    Args:
        page: gets the section; its listening table has to be there by now.
        pool: the scores.
        order: of the picks.
        saving: how they can be saved.

    Raises:
        ManifestError: a format has no room for one of them.
    """
    metadata = read_metadata(str(pool.path))
    phrases: dict[str, int] = {}
    rows, records = _rows(page, pool, order, metadata, phrases, len(saving.formats))
    scores = pool.strategies[order.strategy][order.indices[: len(rows)]].tolist()
    command = ("egl-fast", "select", shown_text(pool.path.name), *order.options)
    page.picks = PickSection(
        strategy=label(order.strategy),
        command="" if order.is_made else shlex.join(command),
        gate=shown_text(order.gate),
        notes=tuple(_notes(pool, order, metadata, len(rows))),
        is_estimate=order.strategy in pool.stderrs,
        saves=saved(records, scores, saving),
        is_found=saving.folder is not None,
    )
    page.data["picks"] = {
        "label": label(order.strategy),
        "barLabel": label(_estimated(pool, order) or ""),
        "command": page.picks.command,
        "rows": rows,
        "phrases": list(phrases),
        "saves": [{"file": one["file"], "packed": one["packed"]} for one in page.picks.saves],
        "start": len(rows) if order.is_made else int(np.floor(len(pool) * 0.2 + 0.5)),
    }


def _notes(
    pool: ScoresFile, order: PickOrder, metadata: Mapping[str, Any], num_rows: int
) -> list[str]:
    notes = []
    if order.num_away:
        notes.append(f"leaves out {_recordings(order.num_away)}, shown below.")
    copies = sum(map(len, order.copies.values()))
    if copies:
        notes.append(f"Of copies of a recording one is taken; {_recordings(copies)} left out.")
    if not order.is_made and not order.gate:
        remedy = how_to_close(metadata, holds_typicality=not np.isnan(pool.typicality).all())
        notes.append(f"Noise, music, and other languages are not left out: for that, {remedy}.")
    if num_rows < len(order.indices):
        notes.append(
            f"To keep the page small, it lists the first {num_rows:,} of {len(order.indices):,}."
        )
    return notes


def _recordings(count: int) -> str:
    return f"{count:,} recording{'' if count == 1 else 's'}"


def _rows(
    page: Page,
    pool: ScoresFile,
    order: PickOrder,
    metadata: Mapping[str, Any],
    phrases: dict[str, int],
    num_formats: int,
) -> tuple[list[dict[str, Any]], list[Record]]:
    """The rows of the list, and the records to save, both as many as there is room for."""
    indices = order.indices[:MAX_ROWS].tolist()
    detailed = set(indices[:_WITH_READINGS])
    likeness = likeness_in(metadata)
    reasons = Reasons(
        pool,
        order.strategy,
        trusted=quantiles_in(likeness),
        threshold=None if order.gate else _threshold(metadata),
        among=order.inside,
        whole=_whole(order),
    )
    estimated = _estimated(pool, order)

    def row(index: int, record: Record) -> tuple[dict[str, Any], Record]:
        why = reasons.of(index, record)
        heard = record.get("pred_text")
        heard = heard if isinstance(heard, str) else ""
        found = {
            "id": shown_id(record["id"]),
            "heard": shown_text(heard),
            "words": len(heard.split()),
            "seconds": float(pool.durations[index]),
            "score": float(pool.strategies[order.strategy][index]),
            "why": why,
        }
        if estimated is not None and pool.stderrs[estimated][index] > 0:
            bar = (pool.strategies[estimated][index], pool.stderrs[estimated][index])
            found["bar"] = [float(f"{value:.6g}") for value in bar]
        if reasons.is_outlier(index):
            found["outlier"] = True
        if index in order.copies:
            found["copies"] = _copies(pool, order.copies[index])
        if index in page.listen_numbers:
            found["number"] = page.listen_numbers[index]
        if index in detailed:
            found["readings"] = _readings(record)
        kept = {"why": "; ".join(why), **record}
        if isinstance(kept.get("hypotheses"), list):
            kept["hypotheses"] = kept["hypotheses"][:_MAX_READINGS]
        return found, kept

    rows, records, size = list[dict[str, Any]](), list[Record](), 0
    for own, kept in pool.parts(indices, row):
        own["why"] = [phrases.setdefault(phrase, len(phrases)) for phrase in own["why"]]
        # Compressed, a record takes about a quarter.
        size += len(json.dumps(own)) + num_formats * len(json.dumps(kept)) // 4
        if rows and size > MAX_BYTES:
            break
        rows.append(own)
        records.append({**kept, "rank": len(rows)})
    return rows, records


def _whole(order: PickOrder) -> str:
    if order.is_made:
        return "selection"
    return "recordings that pass the gate" if order.num_away else "pool"


def _estimated(pool: ScoresFile, order: PickOrder) -> str | None:
    """The score that is shown with its error bar: the one ranked by, if it is an estimate."""
    return next((name for name in (order.strategy, "egl_full") if name in pool.stderrs), None)


def _copies(pool: ScoresFile, indices: Sequence[int]) -> list[str]:
    named = [shown_id(pool.ids[index]) for index in indices[:_MAX_COPIES]]
    more = len(indices) - len(named)
    return [*named, f"{more} more"] if more else named


def _readings(record: Mapping[str, Any]) -> list[Any]:
    read = list(islice(readings(record), _MAX_READINGS))
    return [[plain_exp(log_prob), marked(read[0][0], text)] for text, log_prob, _ in read]


def _threshold(metadata: Mapping[str, Any]) -> float | None:
    """Where `--drop-atypical auto` would cut, if it were asked for."""
    try:
        gate = Gate.of(DEFAULT, None, metadata=metadata)
    except SelectionError:
        return None
    return None if gate is None else gate.minimum
