"""Writes the section "Cost" of docs/scale.md from results/cost-law.jsonl and gpu-h200.json.

python benchmarks/cost_page.py
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from cost_law import PER_RUN, finished
from script import RESULTS, ROOT, read_json, table

PAGE = ROOT / "docs" / "scale.md"
#: Of a typical recording of the projection, in seconds.
TYPICAL_SECONDS = 2.5
CORES = 32
POOLS = {"1.1 million": 1.1e6, "100 million": 1e8}

OPENING = """## Cost

From [cost-law.jsonl](../benchmarks/results/cost-law.jsonl), which `python benchmarks/cost_law.py`
measures; `python benchmarks/cost_page.py` writes this section. Recordings are parts of the
sample's pool, of one length per run, repeated. A run is the whole command, from start to end, on
one thread. `base` is the shipped model (preset `small`); `tiny` and `paper` have random weights.

    seconds = start + recordings * (a + audio * (b + c * K))

with `audio` the length of a recording in seconds, fitted to each model and method by least squares
of relative errors, without negative terms."""

PROJECTION = f"""What this means for large pools, *on paper*: recordings of {TYPICAL_SECONDS:g} s,
K = 100, preset `small`. The server is *assumed* to have {CORES} cores like ours, each of which
scores a shard as fast as one does here; nothing larger than two cores was measured, and memory
bandwidth may make it slower. The H200's rates were measured on the 64 recordings of the sample's
pool ([gpu-h200.json](../benchmarks/results/gpu-h200.json)), without reading audio; eight are
assumed to be eight times as fast.
"""


def main() -> int:
    """Replace the section, which is the last one or followed by another."""
    lines = finished()
    if not lines:
        sys.exit("no results: run benchmarks/cost_law.py first")
    text = PAGE.read_text(encoding="utf-8")
    before, _, after = text.partition("## Cost\n")
    rest = re.search(r"^## ", after, re.MULTILINE)
    section = "\n".join(cost_section(lines)) + "\n"
    tail = "" if rest is None else "\n" + after[rest.start() :]
    PAGE.write_text(f"{before.rstrip()}\n\n{section}{tail}", encoding="utf-8")
    return 0


def cost_section(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of the section."""
    yield OPENING
    yield ""
    laws = {}
    rows = []
    single = [one for one in lines if one["processes"] == 1]
    single.sort(key=kind)
    for (model, method), group in groupby(single, key=kind):
        runs = list(group)
        terms, errors = fitted(runs)
        if terms is None:
            continue
        laws[model, method] = terms
        start, a, b, c = terms
        rows.append(
            [
                *(f"`{model}`", f"`{method}`", f"{start:.1f} s"),
                *(f"{1e3 * a:.2f} ms", f"{1e3 * b:.2f} ms", f"{1e3 * c:.3f} ms"),
                f"{len(runs)} ({sum(one['recordings'] for one in runs):,})",
                f"{100 * statistics.median(errors):.0f} %, {100 * max(errors):.0f} %",
            ]
        )
    head = [
        "model",
        "method",
        "start",
        "a",
        "b",
        "c",
        "runs (recordings)",
        "error: median, largest",
    ]
    yield from table(head, rows)
    yield ""
    yield from of_processes(lines)
    yield from of_many(lines, laws)
    yield from projections(laws)
    machines = {
        f"{one['machine']['cores']} cores of {one['machine']['cpu']} "
        f"({one['machine']['instruction_set']}), commit {one['machine']['commit']}"
        for one in lines
    }
    loads = [one["machine"]["load_average"] for one in lines]
    yield (
        f"Machine: {'; '.join(sorted(machines))}; load at the end of a run {min(loads):g} to "
        f"{max(loads):g}."
    )


def kind(one: dict[str, Any]) -> tuple[str, str]:
    """What has a law of its own."""
    return one["model"], one["method"]


def fitted(runs: Sequence[dict[str, Any]]) -> tuple[Any, list[float]]:
    """Start, a, b, and c, and relative errors; None with fewer runs than two per term."""
    if len(runs) < 5 or len({(one["seconds"], one["k"]) for one in runs}) < 3:
        return None, []
    features = np.array([terms_of(one) for one in runs])
    took = np.array([one["wall_seconds"] for one in runs])
    weighted = features / took[:, None]
    scale = np.abs(weighted).max(axis=0)
    terms = nonnegative(weighted / scale, np.ones(len(runs))) / scale
    errors = np.abs(features @ terms / took - 1)
    return terms, errors.tolist()


def terms_of(one: dict[str, Any]) -> list[float]:
    """What start, a, b, and c are multiplied by."""
    audio = one["recordings"] * one["seconds"]
    return [1.0, one["recordings"], audio, audio * one["k"]]


def nonnegative(matrix: Any, target: Any) -> Any:
    """Least squares without negative terms: the best of the few sets of terms that may be zero."""
    best, least = None, np.inf
    count = matrix.shape[1]
    for subset in range(1, 2**count):
        kept = [place for place in range(count) if subset >> place & 1]
        solution = np.linalg.lstsq(matrix[:, kept], target, rcond=None)[0]
        error = np.square(matrix[:, kept] @ solution - target).sum()
        if (solution >= 0).all() and error < least:
            least, best = error, np.zeros(count)
            best[kept] = solution
    return best


def of_processes(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What a second process gains."""
    for two in lines:
        if two["processes"] != 2 or two["recordings"] >= PER_RUN:
            continue
        same = ("model", "method", "k", "seconds", "recordings")
        for one in lines:
            if one["processes"] == 1 and all(one[name] == two[name] for name in same):
                yield (
                    f"Two shards side by side, a thread each, took {two['wall_seconds']:.1f} s "
                    f"where one took {one['wall_seconds']:.1f} s (`{one['model']}`, "
                    f"`{one['method']}`, {one['recordings']} recordings of {one['seconds']:g} s, "
                    f"K = {one['k']}), starts included.\n"
                )


def of_many(lines: Sequence[dict[str, Any]], laws: dict[tuple[str, str], Any]) -> Iterator[str]:
    """The runs with most recordings, and what the law of a single process says of them."""
    runs = [one for one in lines if one["recordings"] >= PER_RUN]
    total = sum(one["recordings"] for one in lines)
    if runs:
        took = [one["wall_seconds"] for one in runs]
        count = sum(one["recordings"] for one in runs)
        yield (
            f"{count:,} recordings of {runs[0]['seconds']:g} s in {len(runs)} runs of two shards "
            f"(`{runs[0]['model']}`, `{runs[0]['method']}`, K = {runs[0]['k']}) took "
            f"{sum(took):.0f} s: {count / sum(took):.0f} per second, from "
            f"{runs[0]['recordings'] / max(took):.0f} in the slowest run to "
            f"{runs[0]['recordings'] / min(took):.0f} in the fastest."
        )
        law = laws.get(kind(runs[0]))
        if law is not None:
            half = {**runs[0], "recordings": runs[0]["recordings"] / 2}
            says = len(runs) * float(np.dot(law, terms_of(half)))
            yield (
                f"The law, from shorter runs, says {says:.0f} s, if two shards side by "
                "side do not slow each other down."
            )
        yield ""
    yield f"All runs together scored {total:,} recordings.\n"


def projections(laws: dict[tuple[str, str], Any]) -> Iterator[str]:
    """What large pools take, on paper."""
    yield PROJECTION
    rows = []
    for method in ("none", "probe", "exact"):
        law = laws.get(("base", method))
        at_100 = [0, 1, TYPICAL_SECONDS, 100 * TYPICAL_SECONDS]
        per_recording = 0.0 if law is None else float(law @ at_100)
        if per_recording > 0:
            rows.append([f"{CORES} cores", f"`{method}`", f"{CORES / per_recording:.0f}"])
            rows[-1] += [duration(size * per_recording / CORES) for size in POOLS.values()]
    for one in read_json(RESULTS / "gpu-h200.json")["pipeline"]:
        if "commit" not in one:
            for count in (1, 8):
                rate = count * one["utterances_per_second"]
                name = "one H200" if count == 1 else "eight H200"
                rows.append([name, f"`{one['what']}`", f"{rate:.0f}"])
                rows[-1] += [duration(size / rate) for size in POOLS.values()]
    yield from table(["hardware", "method", "recordings a second", *POOLS], rows)
    yield ""


def duration(seconds: float) -> str:
    """A length of time for people."""
    for unit, length in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
