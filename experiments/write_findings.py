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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.findings import double_query, main_query, run_findings
from egl_fast.evaluation.reporting.measures import METRICS, Metric, Query, Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.pool_findings import ranking_findings
from egl_fast.evaluation.reporting.ranking import estimates, rank_pool
from egl_fast.evaluation.reporting.run_folder import RunFolder, read_run_folder
from egl_fast.evaluation.reporting.scores_file import ScoresFile, read_scores_file
from egl_fast.evaluation.reporting.wording import Finding, number, shown, shown_text, signed

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "experiments" / "adaptation"))
from findings import blocks as adaptation_blocks  # noqa: E402
from findings import in_short as adaptation_in_short  # noqa: E402

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
    adaptation = arguments.results / "adaptation"
    blocks = [*introduction(runs), "## In short", *adaptation_in_short(adaptation)]
    blocks += [*in_short(evaluations), *adaptation_blocks(adaptation)]
    for name in runs:
        blocks += section(name, folders[name], evaluations[name])
    arguments.out.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return 0


def introduction(runs: list[str]) -> Iterator[str]:
    """What the page is, and what it is not yet."""
    yield "# What held up of the paper's claims"
    yield (
        "Written by `python experiments/write_findings.py` from the run folders in "
        "`experiments/results/`, which hold the result of every training; `experiments/*.toml` "
        "made them (the command is in each file's head). Every number and every sentence about "
        "one comes from there."
    )
    yield (
        "Intervals are 95% intervals of a paired bootstrap over test utterances, given the models "
        "that were trained; seeds are shown as they are. A difference is called one only where its "
        "interval excludes zero and every seed agrees. Among so many comparisons about one in "
        "twenty would exclude zero by chance alone."
    )
    missing = [heading for name, (heading, _) in EXPERIMENTS.items() if name not in runs]
    if missing:
        yield f"Not run yet: {'; '.join(missing)}."


def table_of(corner: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [[*corner, *columns], *rows]
    texts = [f"| {' | '.join(cells)} |" for cells in lines]
    texts.insert(1, f"|{' --- |' * len(lines[0])}")
    return "\n".join(texts)


def list_of(findings: Iterable[Finding]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {finding.title}. {finding.text}" for finding in findings)


def in_short(evaluations: dict[str, Evaluation]) -> Iterator[str]:
    """The paper's claims, and what became of them."""
    at = {name: main_query(evaluation) for name, evaluation in evaluations.items()}
    columns = {name: query for name, query in at.items() if query is not None}
    metric = METRICS[0]

    def against(name: str, score: str, strategy: str, *, double: bool) -> str:
        evaluation, query = evaluations[name], columns[name]
        other = double_query(evaluation, query) if double else query
        in_rounds = any(series.mode == "sequential" for series in evaluation.series)
        subject, opponent = (
            Series(name, "sequential" if in_rounds else "single") for name in (score, strategy)
        )
        if other is None or not {subject, opponent} <= set(evaluation.series):
            return ""
        comparison = evaluation.compare(
            subject, opponent, query.name, metric, other_query=other.name
        )
        if comparison is None:
            return ""
        span = comparison.reduction
        change, low, high = (-100 * end for end in (span.estimate, span.high, span.low))
        return f"{VERDICTS[comparison.verdict]}: {change:+.1f}% ({low:+.1f} to {high:+.1f})"

    yield (
        f"The paper's claims at {shown(next(iter(columns.values())))} of the pool, for its score "
        "and for two that do not depend on how much probability the beam holds: relative "
        f"difference of the {metric.label}, negative where the claim is right."
    )
    claims = (
        ("beats random selection", "random", False),
        ("beats entropy", "entropy", False),
        ("beats pCTC", "pctc", False),
        ("does as well as random selection with twice the labels", "random", True),
    )
    rows = [
        [label(score), words, *(against(name, score, strategy, double=double) for name in columns)]
        for words, strategy, double in claims
        for score in ("egl", "egl_normalized", "egl_full")
    ]
    names = [EXPERIMENTS[name][0].partition(":")[0] for name in columns]
    yield table_of(["", ""], names, (row for row in rows if any(row[2:])))


def section(name: str, run: RunFolder, evaluation: Evaluation) -> Iterator[str]:
    """One experiment."""
    heading, words = EXPERIMENTS[name]
    pools = {
        seed: read_scores_file(file, keep_ids=True) for seed, file in sorted(run.scores.items())
    }
    facts = evaluation.facts
    pool_minutes, base_minutes = (facts[f"{name}_seconds"] / 60 for name in ("pool", "base"))
    yield f"## {heading}"
    yield (
        f"{words} Pool: {int(facts['pool_clips']):,} utterances, {pool_minutes:.0f} min; base set: "
        f"{int(facts['base_clips']):,} utterances, {base_minutes:.1f} min; test: "
        f"{evaluation.num_test:,} utterances; {len(evaluation.seeds)} seeds. "
        f"{end_points(evaluation)}"
    )
    if evaluation.num_missing():
        yield (
            f"**This run is not complete**: {evaluation.num_missing()} of its points lack a seed. "
            "What is compared is what both sides have."
        )
    for metric in METRICS:
        yield metric_table(evaluation, metric)
        yield (
            "Against random selection: ▼ better, ▲ worse, by an interval that excludes zero and in "
            "every seed; ▽ △ not in every seed."
        )
    yield "### Each strategy"
    for series in evaluation.series:
        found = run_findings(evaluation, subject=series) if series.strategy != "random" else []
        own = [one for one in found if not one.title.startswith("Lowest")]
        if own:
            yield f"**{look(series).label}**"
            yield list_of(own)
    if pools:
        yield "### Rankings by the base models"
        yield from rankings(pools)
    query = main_query(evaluation)
    if run.picks is not None and any("kind" in pool.groups for pool in pools.values()):
        yield "### Outliers among the picks"
        if query is not None:
            yield from outliers(run.picks, evaluation, query, next(iter(pools.values())))
    if (run.path / "strength.json").exists():
        yield from strength(run.path / "strength.json")


def end_points(evaluation: Evaluation) -> str:
    """Where the curves start and end."""
    metric = METRICS[0]
    baseline = evaluation.baseline or evaluation.series[0]
    said: list[str] = []
    for query in evaluation.end_points(baseline.mode):
        values = evaluation.by_seed(baseline, query, metric)
        low, mean, high = (
            number(value, metric) for value in (min(values), statistics.mean(values), max(values))
        )
        said.append(
            f"{mean} with all of the pool labeled"
            if said
            else f"{metric.label} {mean} with the base models ({low} to {high} over seeds)"
        )
    return f"{', '.join(said)}." if said else ""


def metric_table(evaluation: Evaluation, metric: Metric) -> str:
    """Means over seeds, with intervals, and what can be said against random selection."""
    marks = {"better": " ▼", "worse": " ▲", "ahead": " ▽", "behind": " △", "open": ""}
    baseline = evaluation.baseline
    columns = []
    for query in evaluation.queries:
        values = {s: evaluation.value(s, query.name, metric) for s in evaluation.series}
        lowest = min((value.estimate for value in values.values() if value), default=None)
        cells = []
        for series, value in values.items():
            if value is None:
                cells.append("")
                continue
            comparison = None
            if baseline is not None and series != baseline:
                comparison = evaluation.compare(series, baseline, query.name, metric)
            mark = "" if comparison is None else marks[comparison.verdict]
            ends = (value.estimate, value.low, value.high)
            mean, low, high = (f"{end * metric.scale:.2f}" for end in ends)
            bold = "**" if value.estimate == lowest else ""
            cells.append(f"{bold}{mean}{bold} ({low} to {high}){mark}")
        columns.append(cells)
    rows = zip((look(series).label for series in evaluation.series), *columns, strict=True)
    return table_of([metric.long_label], [shown(query) for query in evaluation.queries], rows)


def rankings(pools: dict[int, ScoresFile]) -> Iterator[str]:
    """How the scores' rankings compare."""
    ranked = [rank_pool(pool.strategies) for pool in pools.values()]
    masses = [float(np.nanmedian(pool.beam_mass)) for pool in pools.values()]
    found = list_of(ranking_findings(ranked[0], ranked))
    held = f"The K best labelings hold {min(masses):.1e} to {max(masses):.1e} of the probability"
    yield f"{found}\n- {held} of the median utterance, by base model.".lstrip()
    names = [strategy for strategy in ranked[0].strategies if strategy != "random"]

    def mean(one: str, other: str) -> str:
        return "" if one == other else f"{statistics.mean(estimates(ranked, one, other)):.2f}"

    yield table_of(
        ["Spearman, mean over base models"],
        [label(name) for name in names],
        ([label(one), *(mean(one, other) for other in names)] for one in names),
    )


def outliers(
    picks: pl.DataFrame, evaluation: Evaluation, query: Query, pool: ScoresFile
) -> Iterator[str]:
    """What share of each strategy's picks is not speech worth transcribing."""
    kind_of = kinds_of(pool)
    everyone = Counter(kind_of.values())
    kinds = [kind for kind, _ in everyone.most_common() if kind]
    limit = round(query.fraction * len(kind_of))
    shares = [everyone[kind] / len(kind_of) for kind in kinds]
    rows = [["share of the pool", *(f"{share:.1%}" for share in [sum(shares), *shares])]]
    for series in evaluation.series:
        by_seed: dict[int, list[str]] = {}
        for row in sorted(picks.to_dicts(), key=lambda row: int(row["rank"])):
            if (row["strategy"], row["mode"]) == (series.strategy, series.mode):
                by_seed.setdefault(row["seed"], []).append(kind_of[row["id"]])
        counts = [Counter(picked[:limit]) for picked in by_seed.values()]
        if counts:
            sums = [sum(count[kind] for kind in kinds) / limit / sum(shares) for count in counts]
            means = [
                statistics.mean(count[kind] / limit / share for count in counts)
                for kind, share in zip(kinds, shares, strict=True)
            ]
            all_of_them = f"{statistics.mean(sums):.1f} ({min(sums):.1f} to {max(sums):.1f})"
            rows.append([look(series).label, all_of_them, *(f"{mean:.1f}" for mean in means)])
    yield (
        f"How often a kind is among the first {shown(query)} that a strategy picks, as a multiple "
        "of its share of the pool: mean over seeds, all seeds' range for the sum. 1 is chance."
    )
    named = [shown_text(kind, most=40).replace("|", "\\|").replace("<", "&lt;") for kind in kinds]
    yield table_of([""], ["all of them", *named], rows)


def kinds_of(pool: ScoresFile) -> dict[str, str]:
    """Id -> kind of outlier, "" for an utterance that is not one."""
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
    yield (
        "Base models trained on more and more of the labeled utterances, in an order drawn by "
        "seed, score the test set, which none of them has seen (`experiments/strength.py`). "
        "Spearman's rank correlation with entropy, 95% intervals over utterances."
    )
    weakest, strongest = (row["correlations"]["egl entropy"] for row in (rows[0], rows[-1]))
    yield (
        f"EGL against entropy goes from {signed(weakest[0])} at a CER of {rows[0]['cer']:.1%} to "
        f"{signed(strongest[0])} at {rows[-1]['cer']:.1%}, as the K best come to hold "
        f"{rows[-1]['median_beam_mass']:.2f} of the probability instead of "
        f"{rows[0]['median_beam_mass']:.3f}."
    )
    yield "![Rank correlations with entropy by character error rate](figures/strength.png)"
    yield "(`python experiments/plot_strength.py`)"
    subjects = ("egl", "egl_normalized", "egl_unsquared", "egl_full", "pctc")
    rows_of_table = []
    for row in rows:
        spans = [map(signed, row["correlations"][f"{subject} entropy"]) for subject in subjects]
        cells = [f"{rho} ({low} to {high})" for rho, low, high in spans]
        amount, mass = f"{row['clips']} ({row['seed']})", f"{row['median_beam_mass']:.3f}"
        rows_of_table.append([amount, f"{row['cer']:.1%}", mass, *cells])
    corner = ["labeled utterances (seed)", "CER", "median beam mass"]
    yield table_of(corner, [label(subject) for subject in subjects], rows_of_table)


if __name__ == "__main__":
    sys.exit(main())
