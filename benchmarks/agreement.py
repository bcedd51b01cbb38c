"""What changes a score besides model, recording, and options, and by how much.

    python benchmarks/agreement.py [--recordings 24] [--k 100] [--method exact]

Scores part of the sample's pool on one thread, and again with one thing changed at a time, each in
its own process. A line for each change: how many scores are the same to the last bit, and the
largest relative difference of the others; recordings whose K labelings differ, or their order; and
the largest difference, in nats, between log-probabilities of the same rank.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import machine
from script import options_of, table

Records = dict[str, dict[str, Any]]

COMPARED = ("egl", "egl_normalized", "beam_mass", "entropy")


@dataclass(frozen=True)
class Change:
    """What is done differently: options, the environment, or the manifest's order."""

    name: str
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    backwards: bool = False


CHANGES = [
    Change("nothing"),
    Change("manifest backwards", backwards=True),
    Change("--batch-seconds 0.01", ("--batch-seconds", "0.01")),
    Change("--batch-seconds 40", ("--batch-seconds", "40")),
    Change("--memory 512MiB", ("--memory", "512MiB")),
    Change("--threads 2", ("--threads", "2")),
    Change("EGL_ISA=avx2", environment={"EGL_ISA": "avx2"}),
    Change("EGL_ISA=baseline", environment={"EGL_ISA": "baseline"}),
    Change("torch for AVX2", environment={"ATEN_CPU_CAPABILITY": "avx2"}),
]


def main() -> None:
    """Print the table."""
    parser = options_of(__doc__, recordings=24, k=100)
    parser.add_argument("--method", default="exact")
    arguments = parser.parse_args()
    print(json.dumps(machine()), flush=True)
    pool = arguments.pool.read_text(encoding="utf-8").splitlines()
    lines = [
        json.loads(pool[i * len(pool) // arguments.recordings]) for i in range(arguments.recordings)
    ]
    for line in lines:
        line["audio_filepath"] = str(arguments.pool.parent / line["audio_filepath"])
    options = ["--model", str(arguments.model), "--k", str(arguments.k)]
    options += ["--method", arguments.method, "--per-hypothesis"]
    plain = scores(lines, options, Change("the first run"))
    head = ["changed", *COMPARED, "other labelings", "log_prob"]
    for line in table(
        head, (row(change, plain, scores(lines, options, change)) for change in CHANGES)
    ):
        print(line, flush=True)


def row(change: Change, plain: Records, got: Records) -> list[str]:
    """How far apart two runs' scores are."""
    pairs = [(record, got[name]) for name, record in plain.items()]
    cells = [agreement([(one[f], other[f]) for one, other in pairs]) for f in COMPARED]
    others = sum(labelings(one) != labelings(other) for one, other in pairs)
    gap = max(log_prob_gap(one, other) for one, other in pairs)
    return [change.name, *cells, str(others), f"{gap:.1e}"]


def scores(lines: list[dict[str, Any]], options: list[str], change: Change) -> Records:
    """Records by id."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, out = Path(folder, "pool.jsonl"), Path(folder, "scores.jsonl")
        order = lines[::-1] if change.backwards else lines
        manifest.write_text("".join(json.dumps(line) + "\n" for line in order), encoding="utf-8")
        command = [sys.executable, "-m", "egl_fast", "score", "--threads", "1", *options]
        command += ["--pool", str(manifest), "--out", str(out), *change.options]
        environment = {**os.environ, **change.environment}
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
        records = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        return {record["id"]: record for record in records}


def agreement(pairs: list[tuple[float, float]]) -> str:
    """How many are equal, and the largest relative difference of the others."""
    worst = max(abs(a - b) / max(abs(a), abs(b), 1e-300) for a, b in pairs)
    equal = sum(a == b for a, b in pairs)
    return "all equal" if equal == len(pairs) else f"{equal} equal, {worst:.1e}"


def log_prob_gap(record: dict[str, Any], other: dict[str, Any]) -> float:
    """Largest difference between log-probabilities of the same rank."""
    pairs = zip(record["hypotheses"], other["hypotheses"], strict=True)
    return max(abs(a["log_prob"] - b["log_prob"]) for a, b in pairs)


def labelings(record: dict[str, Any]) -> list[list[int]]:
    """Labels of the record's hypotheses, best first."""
    return [hypothesis["labels"] for hypothesis in record["hypotheses"]]


if __name__ == "__main__":
    main()
