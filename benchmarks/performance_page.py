"""docs/performance.md and its plots, from the JSON of a full run.

    make bench BENCH_JSON=benchmarks/results/performance.json
    python benchmarks/performance_page.py [--results FILE] [--docs FOLDER]

Every number on the page comes from the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import full_size_page
import gpu_page
import must_hold
import performance_plots
from performance_plots import MODELS, SCORING, medians
from script import RESULTS, ROOT, read_json, table

Entry = dict[str, Any]

OPENING = """\
# Performance

Written by `make performance-page` from [performance.json](../benchmarks/results/performance.json),
which `make bench BENCH_JSON=benchmarks/results/performance.json` writes. No number is typed by
hand. Timing is interleaved: whatever is compared runs once per round, and a ratio is the median of
the rounds' ratios. The speed of a shared machine drifts, but hardly within a round. Results are
compared before anything is timed.
"""

NORMS = """
## Squared norms of R cotangents

The backward pass and the norms, without the forward pass. Operations are counted from the model's
shapes ([how](../egl_fast/benchmarking/operation_count.py)): back through every layer but the first,
and for every weight the cheaper route to the norm. The machine's rate is that of a large matrix
product in the same round, by MKL or oneDNN, whichever was faster. The shipped model has two
convolutions and three bidirectional GRUs of 256; seven layers of 512 are bidirectional GRUs with
random weights behind two convolutions with twice as many channels.
"""

PIPELINE = """
## A recording's whole score

From features to record, on real speech of about two seconds. The plain loop is one forward pass,
then one `torch.autograd.grad` of torch's CTC loss per labeling, with the labelings given; the
inference pass is what entropy costs.
"""

LIBRARIES = """
## Other libraries

The same squared norms of the same cotangents, forward pass included. Libraries that need a batch
get the utterance repeated, in parts that fit in memory; Opacus gets its own GRUs with the same
weights.
"""

THROUGH_TIME = """
## Backward through time

All layers are bidirectional; forward passes are not timed. A batch that repeats the utterance gives
torch's input cotangents, but only the sum over rows of the parameters' gradients; it is timed
nevertheless, as a lower bound.
"""


def main() -> int:
    """Write the page and its plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "performance.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    run = read_json(arguments.results)
    figures = arguments.docs / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    performance_plots.draw(run, figures)
    text = "\n".join(page(run)) + "\n"
    (arguments.docs / "performance.md").write_text(text, encoding="utf-8")
    return 0


def page(run: dict[str, Any]) -> Iterator[str]:
    """Lines of the page."""
    yield OPENING
    yield from provenance(run)
    yield from goals(run)
    yield "\n## Search and occupancy, one thread\n"
    yield from comparisons(group(run, "ctc"))
    yield THROUGH_TIME
    yield from comparisons(group(run, "backward through time"))
    yield NORMS
    yield "![Share of the machine's rate](figures/performance-engine.png)\n"
    yield from norms(group(run, "engine by rows") + group(run, "engine by length"))
    yield PIPELINE
    yield "![Times of a recording's score](figures/performance-pipeline.png)\n"
    yield from pipeline(group(run, "pipeline"))
    yield LIBRARIES
    yield "![Times of other libraries](figures/performance-libraries.png)\n"
    yield from comparisons(group(run, "libraries"))
    if full_size_page.RESULTS.exists():
        yield from full_size_page.section(read_json(full_size_page.RESULTS))
    yield from gpu_page.section(read_json(RESULTS / "gpu-h200.json"))


def group(run: dict[str, Any], name: str) -> list[Entry]:
    """Benchmarks of a group, in the order that they ran."""
    return [entry for entry in run["benchmarks"] if entry["group"] == name]


def provenance(run: dict[str, Any]) -> Iterator[str]:
    """The machine that the numbers are from."""
    machine = run["machine"]
    small = " **From small sizes: these numbers only show that the benchmarks work.**"
    yield (
        f"{machine['cores']} cores of {machine['cpu']} ({machine['instruction_set']}), torch "
        f"{machine['torch']}, Python {machine['python']}, commit {machine['commit']}, "
        f"load {machine['load_average']} at the start.{small if run['quick'] else ''}"
    )


def goals(run: dict[str, Any]) -> Iterator[str]:
    """Every figure that must hold, and whether it does."""
    values = must_hold.figures(run)

    def row(name: str, figure: must_hold.Figure) -> list[str]:
        value = values.get(name)
        judged = value is None or not run["quick"]
        return [
            figure.what,
            figure.requirement,
            "" if value is None else f"{value:.2f}",
            must_hold.verdict(name, value) if judged else "not judged",
        ]

    yield "\n## What must hold\n"
    yield from table(
        ["figure", "required", "measured", ""],
        [row(name, figure) for name, figure in must_hold.MUST_HOLD.items()],
    )


def comparisons(entries: list[Entry]) -> Iterator[str]:
    """Our time per call and that of others, and remarks."""
    rows = []
    remarks = []
    for entry in entries:
        title = entry["title"]
        for name, seconds in medians(entry).items():
            times = entry["timings"][name].get("times")
            ratio = "" if times is None else f"{times:.2g}"
            rows.append([title, name, duration(seconds / entry["calls"]), ratio])
            title = ""
        remarks += [f"- {entry['title']}: {code(remark)}" for remark in entry.get("remarks", [])]
    yield from table(["what", "by", "median", "times egl-fast"], rows)
    if remarks:
        yield ""
        yield from remarks


def norms(entries: list[Entry]) -> Iterator[str]:
    """One row for each measurement of the engine."""
    yield from table(
        ["model", "s", "threads", "R", "per cotangent", "GFLOP", "GFLOP/s of a product", "share"],
        [
            [
                MODELS[entry["model"]],
                f"{entry['seconds']:g}",
                str(entry["threads"]),
                f"{entry['rows']:,}",
                duration(medians(entry)["egl-fast"] / entry["rows"]),
                f"{2e-9 * entry['multiply_adds'] / entry['rows']:.2f}",
                f"{2e-9 * entry['rate']:.0f}",
                f"{entry['share']:.0%}",
            ]
            for entry in entries
        ],
    )


def pipeline(entries: list[Entry]) -> Iterator[str]:
    """One row for each method and baseline, with the plain loop's time over its own."""
    rows = []
    for entry in entries:
        spent, ratio = medians(entry), entry["timings"]["plain loop"]["times"]
        for name in SCORING:
            times = ratio if name == "exact" else spent["plain loop"] / spent[name]
            rows.append([MODELS[entry["model"]], name, duration(spent[name]), f"{times:.3g}"])
    yield from table(["model", "by", "median", "times faster than the loop"], rows)
    yield ""
    for entry in entries:
        most = max(entry["hypotheses"])
        whole = entry["looped"] >= most
        loop = "all hypotheses" if whole else f"{entry['looped']} of {most} hypotheses, and scaled"
        yield (
            f"- {MODELS[entry['model']]}: {len(entry['hypotheses'])} recordings; the loop is timed "
            f"on {loop}; squared norms differ by {entry['largest_error']:.1e} at most. Exact "
            f"scoring pulls back {' and '.join(map(str, entry['rows']))} rows instead of {most}; "
            f"counting the operations of one cotangent per hypothesis, it runs at "
            f"{entry['share']:.0%} of the machine's rate."
        )


def duration(seconds: float) -> str:
    """Milliseconds or seconds, to three digits."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def code(remark: str) -> str:
    """A remark, with errors and commands marked as code."""
    name, _, rest = remark.replace("`", "'").partition(": ")
    return f"{name}: `{rest}`" if rest else name


if __name__ == "__main__":
    sys.exit(main())
