"""What changes a score besides model, recording, and options, and by how much.

    python benchmarks/agreement.py [--recordings 24] [--k 100] [--method exact]

Scores part of the sample's pool on one thread, and again with one thing changed at a time, each in
its own process. A line for each change: how many scores are the same to the last bit, and the
largest relative difference of the others; recordings whose K labelings differ, or their order; and
the largest difference, in nats, between log-probabilities of the same rank.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import ROOT, machine

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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recordings", type=int, default=24, help="taken evenly over the pool")
    parser.add_argument("--k", default="100")
    parser.add_argument("--method", default="exact")
    arguments = parser.parse_args()
    print(json.dumps(machine()), flush=True)
    pool = (ROOT / "examples" / "pool.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [
        json.loads(pool[i * len(pool) // arguments.recordings]) for i in range(arguments.recordings)
    ]
    for line in lines:
        line["audio_filepath"] = str(ROOT / "examples" / line["audio_filepath"])
    options = ["--k", arguments.k, "--method", arguments.method, "--per-hypothesis"]
    plain = scores(lines, options, Change("the first run"))
    print("| changed | " + " | ".join(COMPARED) + " | other labelings | log_prob |")
    print("| --- |" + " --- |" * (len(COMPARED) + 2))
    for change in CHANGES:
        got = scores(lines, options, change)
        cells = [agreement([(a[f], got[name][f]) for name, a in plain.items()]) for f in COMPARED]
        others = sum(labelings(record) != labelings(got[name]) for name, record in plain.items())
        gap = max(log_prob_gap(record, got[name]) for name, record in plain.items())
        print(f"| {change.name} | {' | '.join(cells)} | {others} | {gap:.1e} |", flush=True)


def scores(
    lines: list[dict[str, Any]], options: list[str], change: Change
) -> dict[str, dict[str, Any]]:
    """Records by id."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, out = Path(folder, "pool.jsonl"), Path(folder, "scores.jsonl")
        order = lines[::-1] if change.backwards else lines
        manifest.write_text("".join(json.dumps(line) + "\n" for line in order), encoding="utf-8")
        command = [sys.executable, "-m", "egl_fast", "score", "--threads", "1", *options]
        command += ["--model", str(ROOT / "examples" / "base.pt"), "--pool", str(manifest)]
        command += ["--out", str(out), *change.options]
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
