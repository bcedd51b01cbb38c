"""The two kinds of page: of an evaluation, and of a pool that was scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from egl_fast.data.audio_folder import audio_folder
from egl_fast.errors import ReportError
from egl_fast.evaluation.reporting import findings, provenance
from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.findings import main_query
from egl_fast.evaluation.reporting.listening import add_listening
from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.metric_tables import add_metrics, paper_tables
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.pool_findings import ranking_findings
from egl_fast.evaluation.reporting.pool_sections import add_histograms, add_picked, add_ranking
from egl_fast.evaluation.reporting.ranking import Ranking
from egl_fast.evaluation.reporting.run_folder import RunFolder
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import Finding, duration, listed, plain, shown
from egl_fast.selection import low_mass_warning

Integers = npt.NDArray[np.int64]


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
        audio: top picks a strategy in the listening table; 0 leaves it out.
        advance: called at each recording of the listening table.

    Raises:
        ReportError: the pools are not the same recordings.
    """
    _refuse_unlike(pools)
    seed = min(pools, default=None)
    pool = None if seed is None else pools[seed]
    series = list(evaluation.series)
    if pool is not None:
        ranked = [Series(name, "single") for name in pool.strategies]
        series += [one for one in ranked if one not in series]
    page = Page(
        title="Which recordings were worth transcribing?",
        lead=_run_lead(evaluation),
        facts=_run_facts(evaluation),
        looks=[look(one) for one in series],
        config=run.config,
    )
    page.warnings += _incomplete(evaluation)
    page.made = provenance.of_run(run.config)
    page.findings = findings.run_findings(evaluation)
    add_metrics(page, evaluation)
    if with_paper:
        page.paper_tables = paper_tables(evaluation)
    if pool is None:
        page.notes.append(
            "The run folder holds no scores of the pool, so this page does not compare rankings, "
            "describe the picks, or let you listen to them."
        )
    else:
        assert seed is not None
        page.findings += ranking_findings(rankings[seed], list(rankings.values()))
        add_ranking(page, pool, rankings[seed], list(rankings.values()))
        page.error_bars = _error_bars(pool)
        picks, page.budget = _picks_of_run(run, evaluation, pools)
        add_picked(page, pool, picks)
        first = {one: of[seed] for one, of in picks.items() if seed in of}
        folder = audio_folder(str(pool.path), None) or pool.path.parent
        add_listening(page, pool, first, rankings[seed], folder, audio, advance)
        page.notes.append(
            f"Rankings, recording lengths and the listening table use the scores of seed {seed}'s "
            "base model; shares of the picks are averaged over seeds."
        )
    page.notes += _run_notes(evaluation)
    return page


def scores_page(
    pool: ScoresFile,
    ranking: Ranking,
    *,
    folder: Path,
    audio: int,
    advance: Callable[[], None] = lambda: None,
) -> Page:
    """The page of a pool that was scored, without an evaluation.

    Args:
        pool: the scores.
        ranking: of the pool.
        folder: what relative audio paths count from.
        audio: top picks a strategy in the listening table; 0 leaves it out.
        advance: called at each recording of the listening table.
    """
    series = [Series(name, "single") for name in pool.strategies]
    page = Page(
        title="Which recordings are worth transcribing?",
        lead=(
            f"A pool of {_recordings(len(pool))}, ranked by {_strategies(len(series))}. No model "
            "was trained on the picks: this page shows what each strategy prefers, not how much "
            "its picks help."
        ),
        facts=[
            (f"{len(pool):,}", "recordings" if len(pool) > 1 else "recording"),
            (duration(pool.durations.sum() / 3600, digits=(1, 1)), "of audio"),
            (f"{pool.durations.mean():.1f} s", "on average"),
        ],
        looks=[look(one) for one in series],
        budget="20%",
    )
    page.made, warning = provenance.of_scores(pool)
    if warning is not None:
        page.warnings.append(warning)
    if "speaker" in pool.groups:
        page.facts.append((f"{len(pool.groups['speaker'].names):,}", "speakers"))
    page.findings = _mass_finding(pool) + ranking_findings(ranking)
    add_histograms(page, pool)
    add_ranking(page, pool, ranking, [ranking])
    page.error_bars = _error_bars(pool)
    picks = {}
    for one in series:
        order = np.argsort(-pool.strategies[one.strategy], kind="stable")
        count = max(1, int(np.floor(len(pool) * 0.2 + 0.5)))
        picks[one] = {0: order[:count]}
    add_picked(page, pool, picks)
    first = {one: of[0] for one, of in picks.items()}
    add_listening(page, pool, first, ranking, folder, audio, advance)
    page.notes += [
        "Ranks run from 0 to 1, with 1 the most informative; equal scores share a rank. Intervals "
        "of rank correlations are 95% intervals over the pool's recordings, from a bootstrap up "
        "to 20,000 recordings and from Bonett and Wright's formula beyond.",
        "This page cannot say which strategy is best. To measure that, run egl-fast simulate on "
        "data with known transcripts.",
    ]
    if pool.incomplete:
        page.notes.append(
            "Left out because some records have no such score: "
            f"{', '.join(label(name) for name in pool.incomplete)}."
        )
    return page


def _refuse_unlike(pools: Mapping[int, ScoresFile]) -> None:
    """Picks of all seeds are positions in one pool."""
    first = next(iter(pools.values()), None)
    for pool in pools.values():
        if first is not None and pool.ids != first.ids:
            raise ReportError(
                f"scores {first.path} and {pool.path}: list different recordings; `egl-fast "
                "simulate` with the same run folder writes them again"
            )


def _run_lead(evaluation: Evaluation) -> str:
    if not evaluation.queries:
        return "Models trained on none and on all of a pool, tested on the same speech."
    queries = listed([shown(query) for query in evaluation.queries])
    return (
        f"Each strategy picked recordings to label from the same pool ({queries} of it). A model "
        "was trained on each selection, and all models were tested on the same speech."
    )


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
    if not missing and not absent:
        return []
    parts = []
    if missing:
        parts.append(f"{missing} of its points lack a seed")
    if absent:
        parts.append(f"there are no results for {', '.join(absent)}")
    return [
        f"This run is not complete: {'; '.join(parts)}. Comparisons use what both sides have; "
        "means may be over different seeds."
    ]


def _run_facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    facts = evaluation.facts
    return [
        (
            f"{int(facts['pool_clips']):,}",
            f"recordings in the pool, {_long(facts['pool_seconds'])}",
        ),
        (f"{int(facts['base_clips']):,}", f"labeled to begin with, {_long(facts['base_seconds'])}"),
        (f"{evaluation.num_test:,}", "test utterances"),
        (f"{len(evaluation.seeds)}", "seed" if len(evaluation.seeds) == 1 else "seeds"),
    ]


def _long(seconds: float) -> str:
    return duration(seconds / 3600, digits=(1, 0))


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


def _mass_finding(pool: ScoresFile) -> list[Finding]:
    masses = pool.beam_mass[~np.isnan(pool.beam_mass)]
    warning = low_mass_warning({"beam_mass": mass} for mass in masses.tolist()[:200_000])
    if warning is None or "egl" not in pool.strategies:
        return []
    median = float(np.median(masses))
    return [
        Finding(
            "worse",
            "The K most probable labelings cover little of the probability",
            f"For half of the recordings they hold {plain(median)} or less of it. EGL sums over "
            "these labelings only, so it then follows how much they hold more than how long the "
            "gradients are. EGL normalized and EGL full do not have this problem.",
        )
    ]


def _error_bars(pool: ScoresFile) -> str:
    """How far the scores are estimates, and what that means for ranks; "" where all are exact."""
    if not pool.stderrs:
        return ""
    shares = []
    for name, stderr in pool.stderrs.items():
        estimated = stderr > 0
        sizes = np.maximum(np.abs(pool.strategies[name][estimated]), 1e-300)
        share = float(np.median(stderr[estimated] / sizes))
        shares.append(f"{label(name)} {plain(100 * share, digits=2)}%")
    return (
        "Some scores are estimates. Their standard errors (±), as a share of the score: "
        f"{', '.join(shares)} (medians). Where two scores differ by less than about three standard "
        "errors, which recording ranks higher is chance."
    )


def _recordings(count: int) -> str:
    return f"{count:,} recording{'' if count == 1 else 's'}"


def _strategies(count: int) -> str:
    return f"{count} strateg{'y' if count == 1 else 'ies'}"


def _picks_of_run(
    run: RunFolder, evaluation: Evaluation, pools: Mapping[int, ScoresFile]
) -> tuple[dict[Series, dict[int, Integers]], str]:
    """Positions in the pool that each series picked at the main query, by seed; that query."""
    query = main_query(evaluation)
    if run.picks is None or query is None:
        return {}, ""
    place = {
        seed: {identity: index for index, identity in enumerate(pool.ids)}
        for seed, pool in pools.items()
    }
    found: dict[tuple[Series, int], dict[int, None]] = {}
    for row in run.picks.sort("round", "rank").to_dicts():
        series, seed = Series(row["strategy"], row["mode"]), int(row["seed"])
        index = place.get(seed, {}).get(row["id"])
        if index is not None and series in evaluation.series:
            found.setdefault((series, seed), {})[index] = None
    picks: dict[Series, dict[int, Integers]] = {}
    for (series, seed), indices in found.items():
        count = evaluation.num_labeled(series, query.name, seed)
        if count:
            picks.setdefault(series, {})[seed] = np.array(list(indices)[:count])
    return {series: picks[series] for series in evaluation.series if series in picks}, shown(query)
