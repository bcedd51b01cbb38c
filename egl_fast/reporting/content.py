"""The two kinds of page: of an evaluation, and of a pool that was scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from egl_fast.reporting import findings
from egl_fast.reporting.evaluation import Evaluation, Series
from egl_fast.reporting.findings import main_query
from egl_fast.reporting.listening import add_listening
from egl_fast.reporting.metric_tables import add_metrics, paper_tables
from egl_fast.reporting.names import look
from egl_fast.reporting.page_model import Page
from egl_fast.reporting.pool_findings import ranking_findings
from egl_fast.reporting.pool_sections import add_histograms, add_picked, add_ranking
from egl_fast.reporting.ranking import Ranking
from egl_fast.reporting.run_folder import RunFolder
from egl_fast.reporting.scores_file import ScoresFile
from egl_fast.reporting.wording import Finding, shown
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
    """
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
    page.warning = _incomplete(evaluation)
    page.findings = findings.run_findings(evaluation)
    add_metrics(page, evaluation)
    if with_paper:
        page.paper_tables = paper_tables(evaluation)
    if pool is None:
        page.notes.append(
            "The run folder holds no scores of the pool, so there is no rank against rank, no "
            "description of the picks and no listening table."
        )
    else:
        assert seed is not None
        page.findings += ranking_findings(rankings[seed], list(rankings.values()))
        add_ranking(page, pool, rankings[seed], list(rankings.values()))
        picks, page.budget = _picks_of_run(run, evaluation, pools)
        add_picked(page, pool, picks)
        first = {one: of[seed] for one, of in picks.items() if seed in of}
        add_listening(page, pool, first, rankings[seed], Path("/"), audio, advance)
        page.notes.append(
            f"Rank against rank, durations and the listening table show the pool as scored by the "
            f"base model of seed {seed}; shares are averaged over seeds."
        )
    page.notes += _run_notes(evaluation)
    return page


def scores_page(
    pool: ScoresFile,
    ranking: Ranking,
    *,
    audio_folder: Path,
    audio: int,
    advance: Callable[[], None] = lambda: None,
) -> Page:
    """The page of a pool that was scored, without an evaluation.

    Args:
        pool: the scores.
        ranking: of the pool.
        audio_folder: what relative audio paths count from.
        audio: top picks a strategy in the listening table; 0 leaves it out.
        advance: called at each recording of the listening table.
    """
    series = [Series(name, "single") for name in pool.strategies]
    hours = pool.durations.sum() / 3600
    page = Page(
        title="Which recordings are worth transcribing?",
        lead=(
            f"A pool of {len(pool):,} recordings, ranked in {len(series)} ways. Nothing was "
            "trained: what follows says what each ranking prefers, not what it gains."
        ),
        facts=[
            (f"{len(pool):,}", "recordings"),
            (f"{hours:.1f} h" if hours >= 2 else f"{hours * 60:.1f} min", "of audio"),
            (f"{pool.durations.mean():.1f} s", "on average"),
        ],
        looks=[look(one) for one in series],
        budget="20 %",
    )
    if "speaker" in pool.groups:
        page.facts.append((f"{len(pool.groups['speaker'].names):,}", "speakers"))
    page.findings = _mass_finding(pool) + ranking_findings(ranking)
    add_histograms(page, pool)
    add_ranking(page, pool, ranking, [ranking])
    picks = {}
    for one in series:
        order = np.argsort(-pool.strategies[one.strategy], kind="stable")
        count = max(1, int(np.floor(len(pool) * 0.2 + 0.5)))
        picks[one] = {0: order[:count]}
    add_picked(page, pool, picks)
    first = {one: of[0] for one, of in picks.items()}
    add_listening(page, pool, first, ranking, audio_folder, audio, advance)
    page.notes += [
        "Ranks run from 0 to 1, the most informative; equal scores share their rank. Intervals "
        "of correlations are 95 % intervals over the pool's recordings, by bootstrap, or for more "
        "than 20,000 of them by Bonett and Wright's formula.",
        "What a ranking prefers is not yet what it is worth: egl-fast simulate measures that, on "
        "data whose transcripts are known.",
    ]
    if pool.incomplete:
        page.notes.append(
            f"Not every record holds {', '.join(pool.incomplete)}: left out, for it cannot rank "
            "the pool."
        )
    return page


def _run_lead(evaluation: Evaluation) -> str:
    queries = ", ".join(shown(query) for query in evaluation.queries)
    return (
        f"{len({one.strategy for one in evaluation.series})} strategies chose what to label from "
        f"the same pool ({queries} of it); a model was trained on each choice and tested on the "
        "same speech."
    )


def _incomplete(evaluation: Evaluation) -> str:
    missing = evaluation.num_missing()
    done = {
        (series, query.name)
        for series in evaluation.series
        for query in evaluation.queries
        if evaluation.seeds_of([(series, query.name)])
    }
    # Rounds on the way to a query are nobody's but those of series in rounds.
    asked = {(series.mode, query) for series, query in done}
    absent = sorted(
        f"{look(series).label} at {shown(query)}"
        for series in evaluation.series
        for query in evaluation.queries
        if (series.mode, query.name) in asked and (series, query.name) not in done
    )
    if not missing and not absent:
        return ""
    parts = []
    if missing:
        parts.append(f"{missing} of its points lack a seed")
    if absent:
        parts.append(f"there is nothing of {', '.join(absent)}")
    return (
        f"This run is not complete: {'; '.join(parts)}. Compared is what both sides have; "
        "means may be over different seeds."
    )


def _run_facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    facts = evaluation.facts
    return [
        (f"{int(facts['pool_clips']):,}", f"pool clips, {_long(facts['pool_seconds'])}"),
        (f"{int(facts['base_clips']):,}", f"base clips, {_long(facts['base_seconds'])}"),
        (f"{evaluation.num_test:,}", "test utterances"),
        (f"{len(evaluation.seeds)}", "seed" if len(evaluation.seeds) == 1 else "seeds"),
    ]


def _long(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"


def _run_notes(evaluation: Evaluation) -> list[str]:
    seeds = len(evaluation.seeds)
    return [
        f"Intervals are 95 % percentile intervals of a bootstrap with {evaluation.replicates:,} "
        f"resamples of the {evaluation.num_test:,} test utterances; strategies are compared on the "
        "same resamples, seed by seed. They say how far a result hangs on the test set, given the "
        "models that were trained.",
        f"How much training runs differ is shown as it is: every one of the {seeds} seeds as a "
        "thin line or a tick, and in the tables. So few values carry no standard error. A "
        "difference is called one only where its interval excludes zero and every seed points "
        "the same way.",
        "Many comparisons stand on this page. Of those between strategies that are in truth "
        "equal, about one in twenty has an interval that excludes zero.",
        "Curves are straight lines between measured budgets. What is read off between two of them "
        "is no better than that line.",
    ]


def _mass_finding(pool: ScoresFile) -> list[Finding]:
    warning = low_mass_warning({"beam_mass": mass} for mass in pool.beam_mass.tolist()[:200_000])
    if warning is None or "egl" not in pool.strategies:
        return []
    median = float(np.nanmedian(pool.beam_mass))
    return [
        Finding(
            "worse",
            "The K best labelings hold little of the probability",
            f"Half of the recordings have a beam_mass of at most {median:.2g}. EGL, a sum over "
            "those labelings, then follows their mass more than the gradients; EGL normalised and "
            "EGL full do not.",
        )
    ]


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
