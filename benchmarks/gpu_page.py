"""The GPU's part of docs/performance.md, from benchmarks/results/gpu-h200.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from script import table

OPENING = """
## On a GPU

From [gpu-h200.json](../benchmarks/results/gpu-h200.json), measured in one run; the file says
how. `make gpu-report` measures the same on your GPU. [cuda.md](cuda.md) says what ran, what
didn't, and what the numbers mean.
"""


def section(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the section."""
    yield OPENING
    machine = found["machine"]
    yield (
        f"One {machine['gpu']['name']}, {machine['cores']} cores of {machine['cpu']}, torch "
        f"{machine['torch']}, Python {machine['python']}, {found['date']}."
    )
    ceilings = {row["what"]: row["rate"] for row in found["ceilings"]}
    yield "\n### The machine's peak rates\n"
    yield from table(
        ["", "per second"],
        [[what, f"{rate:.3g}"] for what, rate in ceilings.items()],
    )
    yield "\nA launch is a product of 64 x 64 matrices called from Python, one after another.\n"
    yield "### The shipped model, from audio files to records\n"
    yield from table(
        ["method", "recordings per second"],
        [[row["what"], f"{row['utterances_per_second']:.3g}"] for row in found["pipeline"]],
    )
    yield f"\nBy {found['sources']['pipeline']}."
    yield "\n### CTC operators, 32 recordings of the sample, K = 100\n"
    yield from table(
        ["what", "per call", "per utterance"],
        [
            [row["what"], f"{1e3 * row['median_s']:.3g} ms", f"{1e3 * row['median_s'] / 32:.2g} ms"]
            for row in found["operators"]
            if row.get("median_s")
        ],
    )
    yield "\n### A GRU of 512 units, one direction\n"
    yield from table(
        ["what", "rows", "per frame", "share of the float32 rate"],
        [
            [
                row["what"],
                str(row["rows"]),
                f"{1e6 * row['seconds_per_frame']:.3g} us",
                f"{row['multiply_adds_per_second'] / ceilings['multiply-adds, float32']:.0%}"
                if "double" not in row["what"]
                else "",
            ]
            for row in found["recurrent"]
        ],
    )
    yield "\n### What the kernels spend their time on (ncu)\n"
    yield from table(
        ["kernel", "ms", "compute", "L2", "DRAM", "occupancy", "blocks of threads"],
        [
            [
                row["kernel"],
                f"{row['milliseconds']:.3g}",
                *(f"{row[f'{name}_percent']:.0f}%" for name in ("compute", "l2", "dram")),
                f"{row['occupancy_percent']:.0f}%",
                f"{row['blocks']} x {row['threads']}",
            ]
            for row in found["kernels"]
        ],
    )
    yield "\n### The backward pass of a convolution, by cuDNN's settings\n"
    yield from table(
        ["cuDNN", "ms", "share of the float32 rate"],
        [
            [
                row["cudnn"],
                f"{1e3 * row['median_s']:.3g}",
                f"{row['multiply_adds_per_second'] / ceilings['multiply-adds, float32']:.0%}",
            ]
            for row in found["convolution, way back"]
        ],
    )
    yield (
        "\nA share above 100% is not an error: there cuDNN takes an algorithm based on Fourier "
        "transforms, which needs fewer multiplications than are counted."
    )
