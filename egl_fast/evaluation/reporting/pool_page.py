"""The page of a scored pool: what to label, and what each strategy prefers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from egl_fast.errors import SelectionError
from egl_fast.evaluation.reporting import provenance
from egl_fast.evaluation.reporting.gate_section import add_gate
from egl_fast.evaluation.reporting.left_out import left_out_of_pool
from egl_fast.evaluation.reporting.listening import add_listening
from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.pick_order import PickOrder, pick_order
from egl_fast.evaluation.reporting.pick_section import add_picks
from egl_fast.evaluation.reporting.pool_facts import error_bars, facts_of
from egl_fast.evaluation.reporting.pool_findings import mass_findings, ranking_findings
from egl_fast.evaluation.reporting.pool_sections import add_histograms, add_picked, add_ranking
from egl_fast.evaluation.reporting.ranking import Ranking
from egl_fast.evaluation.reporting.saving import Saving
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import recordings
from egl_fast.files.addresses import Place

#: Positions in the pool that each series picked, by seed.
Picks = dict[Series, dict[int, npt.NDArray[np.int64]]]


def pool_page(
    pool: ScoresFile,
    ranking: Ranking,
    *,
    folder: Place,
    saving: Saving,
    audio: int,
    advance: Callable[[], None] = lambda: None,
) -> Page:
    """The page of a pool that was scored, without an evaluation.

    Args:
        pool: the scores; with ids where embeddings are beside them.
        ranking: of the pool.
        folder: what relative audio paths count from.
        saving: how what to label can be saved.
        audio: top picks of each strategy in the listening table, and players of each group that
            the gate leaves out; 0 for none.
        advance: called for each recording of the listening table.
    """
    series = [Series(name, "single") for name in pool.strategies]
    size, ending = len(pool), "y" if len(series) == 1 else "ies"
    page = Page(
        title="Which recordings are worth transcribing?",
        lead=(
            f"A pool of {recordings(size)}, ranked by {len(series)} strateg{ending}. No model was "
            "trained on the picks: this page shows what each strategy prefers, not how much its "
            "picks help."
        ),
        facts=facts_of(pool),
        looks=[look(one) for one in series],
        budget="20%",
        findings=mass_findings(pool),
    )
    page.made, warning = provenance.of_scores(pool)
    page.warnings += [] if warning is None else [warning]
    missing = provenance.missing(pool)
    if missing and not np.isnan(pool.typicality).any():
        page.warnings.append(missing)  # its absence changes what to label
    else:
        page.missing = missing
    add_histograms(page, pool)
    count = max(1, int(np.floor(size * 0.2 + 0.5)))
    order, left_out = None, left_out_of_pool(pool)
    try:
        order = pick_order(pool)
    except SelectionError as error:
        page.notes.append(f"This page does not say what to label: {error}.")
    picks: Picks = {}
    for one in series:
        scores = pool.strategies[one.strategy]
        top = np.argsort(-scores, kind="stable")[:count]
        picks[one] = {0: top if order is None else order.first(scores, count)}
    page.picked_note = f"The top {page.budget} of the pool by each strategy."
    if order is not None and len(order.indices) < size:
        page.picked_by = _picked_by(order)
    add_pool(page, pool, ranking, [ranking], picks, 0, folder, audio, advance, order=order)
    if order is not None:
        add_picks(page, pool, order, saving)
    if left_out is not None:
        add_gate(page, left_out, folder=folder, audio=audio, advance=advance)
    page.notes += [
        "Ranks count from 1, the most informative; equal scores share a rank. Normalized ranks run "
        "from 0 to 1, the most informative. They and rank correlations are over the whole pool"
        f"{', with what the gate leaves out' if page.picked_by else ''}. Intervals of rank "
        "correlations are 95% intervals over its recordings, from a bootstrap up to 20,000 "
        "recordings and from Bonett and Wright's formula beyond.",
        "This page cannot say which strategy is best. To measure that, run egl-fast simulate on "
        "data with known transcripts.",
    ]
    if pool.incomplete:
        page.notes.append(
            "Left out because some records have no such score: "
            f"{', '.join(label(name) for name in pool.incomplete)}."
        )
    return page


def _picked_by(order: PickOrder) -> str:
    """How the picks of all strategies differ from the top of the pool; "" where they do not."""
    parts = ["what the gate leaves out"] * bool(order.num_away)
    parts += ["further copies of a recording"] * bool(order.copies)
    return f"As with select, without {' and '.join(parts)}." if parts else ""


def add_pool(
    page: Page,
    pool: ScoresFile,
    ranking: Ranking,
    every_ranking: list[Ranking],
    picks: Picks,
    seed: int,
    folder: Place,
    audio: int,
    advance: Callable[[], None],
    *,
    order: PickOrder | None = None,
) -> None:
    """What the pages of a pool and of a run say about a pool, here that of a seed's base model."""
    page.findings += ranking_findings(ranking, every_ranking)
    add_ranking(page, pool, ranking, every_ranking)
    page.error_bars = error_bars(pool)
    add_picked(page, pool, picks, candidates=None if order is None else order.indices)
    own = {series: of[seed] for series, of in picks.items() if seed in of}
    first = () if order is None else order.indices[: max(audio, 0)].tolist()
    add_listening(page, pool, own, folder, audio, advance, first=first)
    utterances = page.data["ranking"]["utterances"]
    for index, utterance in zip(ranking.shown.tolist(), utterances, strict=True):
        if index in page.listen_numbers:
            utterance["n"] = page.listen_numbers[index]
