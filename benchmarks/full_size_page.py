"""The part of docs/performance.md about models of full size, from results/full-size.json."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from script import RESULTS as _FOLDER
from script import table

RESULTS = _FOLDER / "full-size.json"

OPENING = """
## Models of full size

From [full-size.json](../benchmarks/results/full-size.json), which
`python benchmarks/full_size.py MODEL` writes, one model at a time. K = 100, one recording at a
time, from the model's input to the record. A pass is one inference pass, which is what entropy
costs. The plain loop is timed on a few labelings, and scaled. wav2vec2 is wav2vec 2.0 base in
shape, with random weights and an output layer scaled up until emissions are about as peaked as a
trained model's; all but its convolutional feature encoder counts. QuartzNet is pretrained, and all
of it counts. Exact scoring takes as many rows as the labelings have independent directions, which
differs from recording to recording. The last column is "times the loop" with half of the memory.
"""

NAMES = {
    "exact": "exact",
    "lowrank --tolerance 0.1": "lowrank, 10%",
    "probe --probes 4": "probe, 4",
}


def section(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of the section."""
    yield OPENING
    yield from table(
        ["model", "speech", "method", "rows", "passes", "times the loop", "half of the memory"],
        [row for entry in entries for row in _rows(entry)],
    )
    yield ""
    for entry in entries:
        machine = entry["machine"]
        clock = "CPU seconds" if entry["clock"] == "cpu" else "seconds"
        recordings = entry["recordings"]
        yield (
            f"- {entry['model']}, {entry['seconds']:g} s: {entry['parameters']:,} parameters; "
            f"{clock}, {entry['threads']} of {machine['cores']} cores of {machine['cpu']} "
            f"({machine['instruction_set']}), load {machine['load_average']:g}, commit "
            f"{machine['commit']}; {_count(len(recordings), 'recording')}, "
            f"{_count(entry['rounds'], 'round')}; a pass takes "
            f"{_median(recordings, 'timings', 'one inference pass'):.2f} s, the loop "
            f"{1 / _passes(recordings, 'plain loop'):.0f} passes (scaled from "
            f"{entry['looped']} labelings); --memory {entry['memory_bytes'] / 2**30:g}GiB, peak of "
            f"the process {max(one['peak_bytes'] for one in recordings) / 2**30:.1f} GiB, "
            f"{entry['peak_bytes_before'] / 2**30:.1f} GiB of it before scoring; squared norms "
            f"differ from autograd's in float64 by "
            f"{max(one['largest_error'] for one in recordings):.1e} at most."
        )


def _rows(entry: dict[str, Any]) -> Iterator[list[str]]:
    recordings = entry["recordings"]
    for name, shown in NAMES.items():
        halved = f"{name}, half of the memory"
        yield [
            entry["model"],
            f"{entry['seconds']:g} s",
            shown,
            ", ".join(str(one["rows"][name]) for one in recordings),
            f"{1 / _passes(recordings, name):.1f}",
            f"{_median(recordings, 'times_loop', name):.1f}",
            f"{_median(recordings, 'times_loop', halved):.1f}",
        ]


def _median(recordings: Sequence[dict[str, Any]], what: str, name: str) -> float:
    return statistics.median(one[what][name] for one in recordings)


def _passes(recordings: Sequence[dict[str, Any]], name: str) -> float:
    """Scorings in the time of one inference pass."""
    return statistics.median(
        one["timings"]["one inference pass"] / one["timings"][name] for one in recordings
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
