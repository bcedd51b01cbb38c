"""The page of an evaluation: which strategy was worth it, and what each of them picked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from egl_fast.data.audio_folder import audio_folder
from egl_fast.errors import ReportError
from egl_fast.evaluation.reporting import findings, provenance
from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.findings import main_query
from egl_fast.evaluation.reporting.latex import latex_table
from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.metric_tables import add_metrics, paper_tables
from egl_fast.evaluation.reporting.names import look
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.pool_page import Picks, add_pool
from egl_fast.evaluation.reporting.ranking import Ranking
from egl_fast.evaluation.reporting.run_folder import RunFolder
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.training_curves import add_training
from egl_fast.evaluation.reporting.value_tables import value_tables
from egl_fast.evaluation.reporting.wording import duration, listed, shown
from egl_fast.files.copies import folder_of


def run_page(
    run: RunFolder,
    evaluation: Evaluation,
    pools: Mapping[int, ScoresFile],
    rankings: Mapping[int, Ranking],
    *,
    with_paper: bool,
    audio: int,
    advance: Callable[[], None] = lambda: None,
) -> Page:
    """The page of an evaluation.

    Args:
        run: its tables.
        evaluation: what they say.
        pools: the pool's scores by the base model of each seed; may be empty.
        rankings: of each of these pools.
        with_paper: put the paper's Table 1 beside ours.
        audio: top picks of each strategy in the listening table; 0 leaves it out.
        advance: called for each recording of the listening table.

    Raises:
        ReportError: the pools are not the same recordings.
    """
    seed = min(pools, default=None)
    pool = None if seed is None else pools[seed]
    for other in pools.values():
        # Picks of all seeds are positions in one pool.
        if pool is not None and other.ids != pool.ids:
            raise ReportError(
                f"scores {pool.path} and {other.path}: list different recordings; `egl-fast "
                "simulate` with the same run folder writes them again"
            )
    ranked = () if pool is None else (Series(name, "single") for name in pool.strategies)
    queries = listed([shown(query) for query in evaluation.queries])
    page = Page(
        title="Which recordings were worth transcribing?",
        lead=f"Each strategy picked recordings to label from the same pool ({queries} of it). A "
        "model was trained on each selection, and all models were tested on the same speech."
        if queries
        else "Models trained on none and on all of a pool, tested on the same speech.",
        facts=_run_facts(evaluation),
        looks=[look(series) for series in dict.fromkeys([*evaluation.series, *ranked])],
        config=run.config,
        warnings=_incomplete(evaluation),
        made=provenance.of_run(run.config),
        findings=findings.run_findings(evaluation),
    )
    add_metrics(page, evaluation)
    page.latex = latex_table(page.metric_tables)
    add_training(page, run)
    if run.results_by is not None:
        page.value_tables = value_tables(run.results_by, evaluation)
    if with_paper:
        page.paper_tables = paper_tables(evaluation)
    if pool is None or seed is None:
        page.notes.append(
            "The run folder holds no scores of the pool, so this page does not compare rankings, "
            "describe the picks, or let you listen to them."
        )
    else:
        picks, page.budget = _picks_of_run(run, evaluation, pools)
        folder = audio_folder(str(pool.path), None) or folder_of(pool.path)
        every = list(rankings.values())
        page.picked_note = f"The top {page.budget} of the pool by each strategy."
        add_pool(page, pool, rankings[seed], every, picks, seed, folder, audio, advance)
        page.notes.append(
            f"Rankings, recording lengths and the listening table use the scores of seed {seed}'s "
            "base model; shares of the picks are averaged over seeds."
        )
    page.notes += _run_notes(evaluation)
    return page


def _incomplete(evaluation: Evaluation) -> list[str]:
    missing = evaluation.num_missing()
    done = {
        (series, query.name)
        for series in evaluation.series
        for query in evaluation.queries
        if evaluation.seeds_of([(series, query.name)])
    }
    # Rounds on the way to a query exist only for series that run in rounds.
    asked = {(series.mode, query) for series, query in done}
    absent = sorted(
        f"{look(series).label} at {shown(query)}"
        for series in evaluation.series
        for query in evaluation.queries
        if (series.mode, query.name) in asked and (series, query.name) not in done
    )
    parts = [f"{missing} of its points lack a seed"] if missing else []
    parts += [f"there are no results for {', '.join(absent)}"] if absent else []
    return [
        f"This run is not complete: {'; '.join(parts)}. Comparisons use what both sides have; "
        "means may be over different seeds."
    ] * bool(parts)


def _run_facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    facts = evaluation.facts
    pool, base = (
        duration(facts[f"{name}_seconds"] / 3600, digits=(1, 0)) for name in ("pool", "base")
    )
    return [
        (f"{int(facts['pool_clips']):,}", f"recordings in the pool, {pool}"),
        (f"{int(facts['base_clips']):,}", f"labeled to begin with, {base}"),
        (f"{evaluation.num_test:,}", "test utterances"),
        (f"{len(evaluation.seeds)}", "seed" if len(evaluation.seeds) == 1 else "seeds"),
    ]


def _run_notes(evaluation: Evaluation) -> list[str]:
    seeds = len(evaluation.seeds)
    return [
        f"Intervals are 95% percentile intervals from a bootstrap with {evaluation.replicates:,} "
        f"resamples of the {evaluation.num_test:,} test utterances. Strategies are compared on the "
        "same resamples, seed by seed. The intervals show how much a result depends on the choice "
        "of test utterances, given the trained models. They do not cover how much training runs "
        "differ.",
        f"For that, look at the seeds: each of the {seeds} is shown as a thin line or a tick, and "
        "in the tables. There are too few for a standard error. This page calls one strategy "
        "better than another only if the interval excludes zero and every seed agrees."
        if seeds > 1
        else "There is one seed, so nothing here shows how much training runs differ.",
        "The page makes many comparisons. Among strategies that are equally good, about 1 in 20 "
        "has an interval that excludes zero by chance.",
        "Curves are straight lines between measured budgets; values read off between two budgets "
        "are interpolated.",
    ]


def _picks_of_run(
    run: RunFolder, evaluation: Evaluation, pools: Mapping[int, ScoresFile]
) -> tuple[Picks, str]:
    """What each series picked at the main query, and the query's name."""
    query = main_query(evaluation)
    if run.picks is None or query is None:
        return {}, ""
    place = {identity: at for at, identity in enumerate(next(iter(pools.values())).ids)}
    found: dict[tuple[Series, int], dict[int, None]] = {}
    for row in run.picks.sort("round", "rank").to_dicts():
        key = (Series(row["strategy"], row["mode"]), int(row["seed"]))
        if row["id"] in place and key[1] in pools:
            found.setdefault(key, {})[place[row["id"]]] = None
    picks: Picks = {series: {} for series in evaluation.series}
    for (series, seed), indices in found.items():
        count = evaluation.num_labeled(series, query.name, seed) if series in picks else None
        if count:
            picks[series][seed] = np.array(list(indices)[:count])
    return {series: of for series, of in picks.items() if of}, shown(query)
