"""docs/findings.md from the results of the experiments: no number in it is typed by hand.

    python experiments/write_findings.py [--results experiments/results] [--out docs/findings.md]

Reads every run folder there is in RESULTS. Intervals are those of ``egl-fast report``: 95%, by a
paired bootstrap over test utterances.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.findings import double_query, main_query, run_findings
from egl_fast.evaluation.reporting.measures import METRICS, Metric, Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.pool_findings import ranking_findings
from egl_fast.evaluation.reporting.ranking import Ranking, rank_pool
from egl_fast.evaluation.reporting.run_folder import RunFolder, read_run_folder
from egl_fast.evaluation.reporting.scores_file import ScoresFile, read_scores_file
from egl_fast.evaluation.reporting.wording import number, shown, shown_text, signed

ROOT = Path(__file__).resolve().parent.parent

#: Run folder -> heading, and what was done, in words.
EXPERIMENTS = {
    "grid": (
        "GRID: one talker, a grammar of 51 words",
        "The easy experiment. All models start from one that heard other corpora and nothing of "
        "GRID, then 30 GRID sentences; query trainings go on from there.",
    ),
    "speechocean": (
        "speechocean762: unseen speakers",
        "The realistic experiment: test speakers are neither in the base set nor in the pool.",
    ),
    "speechocean_outliers": (
        "speechocean762 with outliers in the pool",
        "Noise, room tone, fillers, overlapping speech and hardly intelligible recordings are "
        "mixed into the pool.",
    ),
    "speechocean_sequential": (
        "speechocean762 in rounds",
        "The same budget spent at once, or in rounds with the pool scored again by each model.",
    ),
}


#: What a comparison says of a claim that the first of two does better.
VERDICTS = {
    "better": "**yes**",
    "ahead": "perhaps",
    "open": "not seen",
    "behind": "rather the reverse",
    "worse": "**the reverse**",
}


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "experiments" / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "findings.md")
    arguments = parser.parse_args()
    runs = [name for name in EXPERIMENTS if (arguments.results / name / "results.csv").exists()]
    if not runs:
        print(f"{arguments.results}: holds no results", file=sys.stderr)
        return 2
    folders = {name: read_run_folder(arguments.results / name) for name in runs}
    evaluations = {name: Evaluation(folder) for name, folder in folders.items()}
    lines = [*introduction(runs), "", *in_short(evaluations)]
    for name in runs:
        lines += ["", *section(name, folders[name], evaluations[name])]
    text = "\n".join(lines) + "\n"
    arguments.out.write_text(text, encoding="utf-8")
    return 0


def introduction(runs: list[str]) -> Iterator[str]:
    """What the page is, and what it is not yet."""
    yield "# What held up of the paper's claims"
    yield ""
    yield (
        "Written by `python experiments/write_findings.py` from the run folders in "
        "`experiments/results/`, which hold the result of every training; `experiments/*.toml` "
        "made them (the command is in each file's head). Every number and every sentence about "
        "one comes from there."
    )
    yield ""
    yield (
        "Intervals are 95% intervals of a paired bootstrap over test utterances, given the models "
        "that were trained; seeds are shown as they are. A difference is called one only where its "
        "interval excludes zero and every seed agrees. Among so many comparisons about one in "
        "twenty would exclude zero by chance alone."
    )
    missing = [heading for name, (heading, _) in EXPERIMENTS.items() if name not in runs]
    if missing:
        yield ""
        yield f"Not run yet: {'; '.join(missing)}."


def in_short(evaluations: dict[str, Evaluation]) -> Iterator[str]:
    """The paper's claims, and what became of them."""
    at = {name: main_query(evaluation) for name, evaluation in evaluations.items()}
    columns = [name for name, query in at.items() if query is not None]
    metric = METRICS[0]

    def against(name: str, score: str, strategy: str, *, double: bool = False) -> str:
        evaluation, query = evaluations[name], at[name]
        assert query is not None
        other = double_query(evaluation, query) if double else query
        in_rounds = any(series.mode == "sequential" for series in evaluation.series)
        mode = "sequential" if in_rounds else "single"
        subject, opponent = Series(score, mode), Series(strategy, mode)
        if other is None or not {subject, opponent} <= set(evaluation.series):
            return ""
        comparison = evaluation.compare(
            subject, opponent, query.name, metric, other_query=other.name
        )
        if comparison is None:
            return ""
        verdict = VERDICTS[comparison.verdict]
        low, high = (-100 * end for end in (comparison.reduction.high, comparison.reduction.low))
        return (
            f"{verdict}: {-100 * comparison.reduction.estimate:+.1f}% ({low:+.1f} to {high:+.1f})"
        )

    yield "## In short"
    yield ""
    query = at[columns[0]]
    assert query is not None
    yield (
        f"The paper's claims at {shown(query)} of the pool, for its score and for two that do not "
        "depend on how much probability the beam holds: relative difference of the "
        f"{metric.label}, negative where the claim is right."
    )
    yield ""
    yield f"| | | {' | '.join(EXPERIMENTS[name][0].partition(':')[0] for name in columns)} |"
    yield f"| --- | --- |{' --- |' * len(columns)}"
    claims = (
        ("beats random selection", "random", False),
        ("beats entropy", "entropy", False),
        ("beats pCTC", "pctc", False),
        ("does as well as random selection with twice the labels", "random", True),
    )
    for words, strategy, double in claims:
        for score in ("egl", "egl_normalized", "egl_full"):
            cells = [against(name, score, strategy, double=double) for name in columns]
            if any(cells):
                yield f"| {label(score)} | {words} | {' | '.join(cells)} |"


def section(name: str, run: RunFolder, evaluation: Evaluation) -> Iterator[str]:
    """One experiment."""
    heading, words = EXPERIMENTS[name]
    pools = {
        seed: read_scores_file(file, keep_ids=True) for seed, file in sorted(run.scores.items())
    }
    facts = evaluation.facts
    pool_minutes, base_minutes = (facts[f"{name}_seconds"] / 60 for name in ("pool", "base"))
    yield f"## {heading}"
    yield ""
    yield (
        f"{words} Pool: {int(facts['pool_clips']):,} utterances, {pool_minutes:.0f} min; base set: "
        f"{int(facts['base_clips']):,} utterances, {base_minutes:.1f} min; test: "
        f"{evaluation.num_test:,} utterances; {len(evaluation.seeds)} seeds. "
        f"{end_points(evaluation)}"
    )
    if evaluation.num_missing():
        yield ""
        yield (
            f"**This run is not complete**: {evaluation.num_missing()} of its points lack a seed. "
            "What is compared is what both sides have."
        )
    for metric in METRICS:
        yield ""
        yield from table(evaluation, metric)
    yield ""
    yield "### Each strategy"
    for series in evaluation.series:
        found = run_findings(evaluation, subject=series) if series.strategy != "random" else []
        own = [one for one in found if not one.title.startswith("Lowest")]
        if own:
            yield ""
            yield f"**{look(series).label}**"
            yield ""
            for finding in own:
                yield f"- {finding.title}. {finding.text}"
    if pools:
        yield ""
        yield "### Rankings by the base models"
        yield ""
        yield from rankings(pools)
    if run.picks is not None and any("kind" in pool.groups for pool in pools.values()):
        yield ""
        yield "### Outliers among the picks"
        yield ""
        yield from outliers(run, evaluation, pools)
    if (run.path / "strength.json").exists():
        yield ""
        yield from strength(run.path / "strength.json")


def end_points(evaluation: Evaluation) -> str:
    """Where the curves start and end."""
    metric = METRICS[0]
    baseline = evaluation.baseline or evaluation.series[0]
    said = []
    for query, words in zip(
        evaluation.end_points(baseline.mode),
        ("base models", "all of the pool labeled"),
        strict=False,
    ):
        values = evaluation.by_seed(baseline, query, metric)
        if values:
            mean = number(statistics.mean(values), metric)
            said.append(
                f"{metric.label} {mean} with the {words} ({number(min(values), metric)} to "
                f"{number(max(values), metric)} over seeds)"
                if "base" in words
                else f"{mean} with {words}"
            )
    return f"{', '.join(said)}." if said else ""


def table(evaluation: Evaluation, metric: Metric) -> Iterator[str]:
    """Means over seeds, with intervals, and what can be said against random selection."""
    queries = evaluation.queries
    yield f"| {metric.long_label} | {' | '.join(shown(query) for query in queries)} |"
    yield f"| --- |{' --- |' * len(queries)}"
    lowest = {}
    for query in queries:
        values = {s: evaluation.value(s, query.name, metric) for s in evaluation.series}
        known = {s: value.estimate for s, value in values.items() if value is not None}
        lowest[query] = min(known, key=lambda s: known[s], default=None)
    for series in evaluation.series:
        cells = []
        for query in queries:
            value = evaluation.value(series, query.name, metric)
            if value is None:
                cells.append("")
                continue
            shown_value = f"{value.estimate * metric.scale:.2f}"
            if lowest[query] == series:
                shown_value = f"**{shown_value}**"
            low, high = (f"{end * metric.scale:.2f}" for end in (value.low, value.high))
            mark = against_random(evaluation, series, query.name, metric)
            cells.append(f"{shown_value} ({low} to {high}){mark}")
        yield f"| {look(series).label} | {' | '.join(cells)} |"
    yield ""
    yield (
        "Against random selection: ▼ better, ▲ worse, by an interval that excludes zero and in "
        "every seed; ▽ △ not in every seed."
    )


def against_random(evaluation: Evaluation, series: Series, query: str, metric: Metric) -> str:
    """A mark, or nothing."""
    baseline = evaluation.baseline
    if baseline is None or series == baseline:
        return ""
    comparison = evaluation.compare(series, baseline, query, metric)
    if comparison is None:
        return ""
    marks = {"better": " ▼", "worse": " ▲", "ahead": " ▽", "behind": " △", "open": ""}
    return marks[comparison.verdict]


def rankings(pools: dict[int, ScoresFile]) -> Iterator[str]:
    """How the scores' rankings go together."""
    ranked: dict[int, Ranking] = {seed: rank_pool(pool.strategies) for seed, pool in pools.items()}
    for finding in ranking_findings(next(iter(ranked.values())), list(ranked.values())):
        yield f"- {finding.title}. {finding.text}"
    masses = [float(np.nanmedian(pool.beam_mass)) for pool in pools.values()]
    yield (
        f"- The K best labelings hold {min(masses):.1e} to {max(masses):.1e} of the probability of "
        "the median utterance, by base model."
    )
    first = next(iter(ranked.values()))
    names = [s for s in first.strategies if s != "random"]
    yield ""
    yield f"| Spearman, mean over base models | {' | '.join(label(s) for s in names)} |"
    yield f"| --- |{' --- |' * len(names)}"
    for one in names:
        cells = [
            "" if one == other else f"{mean_correlation(ranked, one, other):.2f}" for other in names
        ]
        yield f"| {label(one)} | {' | '.join(cells)} |"


def mean_correlation(ranked: dict[int, Ranking], one: str, other: str) -> float:
    """Over the base models."""
    return statistics.mean(
        float(
            ranking.correlations.estimate[
                ranking.strategies.index(one), ranking.strategies.index(other)
            ]
        )
        for ranking in ranked.values()
    )


def outliers(run: RunFolder, evaluation: Evaluation, pools: dict[int, ScoresFile]) -> Iterator[str]:
    """What share of each strategy's picks is not speech worth transcribing."""
    assert run.picks is not None
    query = main_query(evaluation)
    if query is None:
        return
    kind_of = kinds_of(next(iter(pools.values())))
    everyone = Counter(kind_of.values())
    kinds = [kind for kind, _ in everyone.most_common() if kind]
    limit = round(query.fraction * len(kind_of))
    yield (
        f"How often a kind is among the first {shown(query)} that a strategy picks, as a multiple "
        "of its share of the pool: mean over seeds, all seeds' range for the sum. 1 is chance."
    )
    yield ""
    named = [shown_text(kind, most=40).replace("|", "\\|").replace("<", "&lt;") for kind in kinds]
    yield f"| | all of them | {' | '.join(named)} |"
    yield f"| --- | --- |{' --- |' * len(kinds)}"
    sizes = [everyone[kind] for kind in kinds]
    shares = " | ".join(f"{size / len(kind_of):.1%}" for size in sizes)
    yield f"| share of the pool | {sum(sizes) / len(kind_of):.1%} | {shares} |"
    for series in evaluation.series:
        by_seed: dict[int, list[str]] = {}
        for row in sorted(run.picks.to_dicts(), key=lambda row: int(row["rank"])):
            if (row["strategy"], row["mode"]) == (series.strategy, series.mode):
                by_seed.setdefault(row["seed"], []).append(kind_of[row["id"]])
        first = [Counter(picked[:limit]) for picked in by_seed.values()]
        if not first:
            continue
        lifts = [
            [count[kind] / limit / (everyone[kind] / len(kind_of)) for kind in kinds]
            for count in first
        ]
        sums = [
            sum(count[kind] for kind in kinds) / limit / (sum(sizes) / len(kind_of))
            for count in first
        ]
        means = " | ".join(f"{statistics.mean(column):.1f}" for column in zip(*lifts, strict=True))
        yield (
            f"| {look(series).label} | {statistics.mean(sums):.1f} ({min(sums):.1f} to "
            f"{max(sums):.1f}) | {means} |"
        )


def kinds_of(pool: ScoresFile) -> dict[str, str]:
    """Id -> kind of outlier, "" for an utterance that is none."""
    kinds, corpora = pool.groups["kind"], pool.groups.get("corpus")
    found = {name: kinds.names[code] for name, code in zip(pool.ids, kinds.codes, strict=True)}
    if corpora is not None:
        for name, code in zip(pool.ids, corpora.codes, strict=True):
            if corpora.names[code].endswith("_hard"):
                found[name] = "hard to understand"
    return found


def strength(path: Path) -> Iterator[str]:
    """From a weak base model to a strong one: what experiments/strength.py wrote."""
    rows = sorted(json.loads(path.read_text("utf-8")), key=lambda row: -row["cer"])
    yield "### From a weak base model to a strong one"
    yield ""
    yield (
        "Base models trained on more and more of the labeled utterances, in an order drawn by "
        "seed, score the test set, which none of them has seen (`experiments/strength.py`). "
        "Spearman's rank correlation with entropy, 95% intervals over utterances."
    )
    yield ""
    weakest, strongest = (row["correlations"]["egl entropy"] for row in (rows[0], rows[-1]))
    yield (
        f"EGL against entropy goes from {signed(weakest[0])} at a CER of {rows[0]['cer']:.1%} to "
        f"{signed(strongest[0])} at {rows[-1]['cer']:.1%}, as the K best come to hold "
        f"{rows[-1]['median_beam_mass']:.2f} of the probability instead of "
        f"{rows[0]['median_beam_mass']:.3f}."
    )
    yield ""
    yield "![Rank correlations with entropy by character error rate](figures/strength.png)"
    yield ""
    yield "(`python experiments/plot_strength.py`)"
    yield ""
    subjects = ("egl", "egl_normalized", "egl_unsquared", "egl_full", "pctc")
    names = " | ".join(label(subject) for subject in subjects)
    yield f"| labeled utterances (seed) | CER | median beam mass | {names} |"
    yield f"| --- | --- | --- |{' --- |' * len(subjects)}"
    for row in rows:
        cells = []
        for subject in subjects:
            rho, low, high = row["correlations"][f"{subject} entropy"]
            cells.append(f"{signed(rho)} ({signed(low)} to {signed(high)})")
        yield (
            f"| {row['clips']} ({row['seed']}) | {row['cer']:.1%} | {row['median_beam_mass']:.3f} "
            f"| {' | '.join(cells)} |"
        )


if __name__ == "__main__":
    sys.exit(main())
