"""The section that answers a pool's page's title: what to label at a budget, and why each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from egl_fast.data.audio_folder import read_metadata
from egl_fast.evaluation.reporting.left_out import outlier_threshold, quantiles_in
from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.pick_list import PickList, add_list
from egl_fast.evaluation.reporting.pick_order import PickOrder
from egl_fast.evaluation.reporting.reasons import Reasons
from egl_fast.evaluation.reporting.saving import Saving
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import recordings, shown_text
from egl_fast.selection.gate import how_to_close, likeness_in


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
    reasons = Reasons(
        pool,
        order.strategy,
        trusted=quantiles_in(likeness_in(metadata)),
        threshold=None if order.gate else outlier_threshold(metadata),
        among=order.inside,
        whole="recordings that pass the gate" if order.num_away else "pool",
    )
    scores = pool.strategies[order.strategy]
    add_list(
        page,
        PickList(
            pool, order.indices, order.strategy, label(order.strategy), scores, reasons,
            order.copies,
        ),
        saving,
        heading="What to label",
        slider="Budget",
        lead=f"picks at any budget: the highest {label(order.strategy)} first.",
        command=shlex.join(("egl-fast", "select", shown_text(pool.path.name), *order.options)),
        gate=shown_text(order.gate),
        notes=_notes(pool, order, metadata),
        start=int(np.floor(len(pool) * 0.2 + 0.5)),
    )  # fmt: skip


def _notes(pool: ScoresFile, order: PickOrder, metadata: Mapping[str, Any]) -> list[str]:
    notes = []
    if order.num_away:
        notes.append(f"leaves out {recordings(order.num_away)}, shown below.")
    copies = sum(map(len, order.copies.values()))
    if copies:
        notes.append(f"Of copies of a recording one is taken; {recordings(copies)} left out.")
    if not order.gate:
        remedy = how_to_close(metadata, holds_typicality=not np.isnan(pool.typicality).all())
        notes.append(f"Noise, music, and other languages are not left out: for that, {remedy}.")
    return notes
