"""The page of a selection: what was picked, how, and why; nothing about the rest of the pool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from egl_fast.evaluation.reporting import provenance
from egl_fast.evaluation.reporting.gate_section import add_gate
from egl_fast.evaluation.reporting.left_out import (
    left_out_of_selection,
    outlier_threshold,
    quantiles_in,
)
from egl_fast.evaluation.reporting.listening import add_listening
from egl_fast.evaluation.reporting.made_selection import MadeSelection
from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import look
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.pick_list import PickList, add_list
from egl_fast.evaluation.reporting.pool_facts import error_bars, facts_of
from egl_fast.evaluation.reporting.pool_findings import mass_findings
from egl_fast.evaluation.reporting.pool_sections import add_composition
from egl_fast.evaluation.reporting.reasons import Reasons
from egl_fast.evaluation.reporting.saving import Saving
from egl_fast.evaluation.reporting.wording import recordings, shown_text
from egl_fast.files.addresses import Place
from egl_fast.selection.gate import likeness_in


def selection_page(
    made: MadeSelection,
    *,
    folder: Place,
    saving: Saving,
    audio: int,
    advance: Callable[[], None] = lambda: None,
) -> Page:
    """The page of what `select` or `query` picked.

    Args:
        made: the picks, and how they were made.
        folder: what relative audio paths count from.
        saving: how the picks can be saved.
        audio: picks in the listening table, and players of each group that the gate left out; 0
            for none.
        advance: called for each recording of the listening table.

    Raises:
        ManifestError: the list of what the gate left out is damaged, or a format has no room for
            one of the picks.
    """
    pool = made.pool
    page = Page(
        title="Which recordings were picked?",
        lead=_lead(made),
        facts=facts_of(pool, what="pick"),
        looks=[look(Series(name, "single")) for name in pool.strategies],
        findings=mass_findings(pool) if made.strategy in ("egl", "egl_unsquared") else [],
        picked_heading="What the picks are",
    )
    page.made, warning = provenance.of_scores(pool)
    page.warnings += [] if warning is None else [warning]
    if not made.metadata:
        page.missing = (
            f"Not beside the picks: {shown_text(pool.path.name)}.meta.json, which says how they "
            "were made."
        )
    page.see_also = (
        "This page is about the picks alone. For other budgets and strategies, and for where these "
        "recordings stand in the pool, make the page of the pool's scores:",
        f"egl-fast report --scores {made.scores_name or 'SCORES'}",
    )
    page.error_bars = error_bars(pool)
    every = np.arange(len(pool))
    add_composition(page, pool)
    add_listening(page, pool, {}, folder, audio, advance, first=every[: max(audio, 0)].tolist())
    reasons = Reasons(
        pool,
        made.strategy,
        trusted=quantiles_in(likeness_in(made.metadata)),
        threshold=outlier_threshold(made.metadata),
        among=None,
    )
    add_list(
        page,
        PickList(pool, every, made.strategy, made.label, made.scores, reasons),
        saving,
        heading="The picks",
        slider="Keep the first",
        lead="In the order they were picked. To label fewer, keep the start of the list.",
    )
    left_out = left_out_of_selection(made)
    if left_out is not None:
        add_gate(page, left_out, folder=folder, audio=audio, advance=advance)
    page.notes.append(
        "This page cannot say how much the picks help. To measure that, run egl-fast simulate on "
        "data with known transcripts."
    )
    return page


def _lead(made: MadeSelection) -> str:
    picked, of = recordings(len(made.pool)), made.num_scored
    what = picked if of is None else f"{picked} of a pool of {of:,}"
    budget = made.metadata.get("budget")
    if isinstance(budget, str):
        what += f", picked for a budget of {shown_text(budget, most=40)}"
    return f"{what}: {made.how}." if made.how else f"{what}."
