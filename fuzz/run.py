"""Fuzz for a while, and keep account of how long each target has run.

    python fuzz/run.py --seconds 3600              every target until it has an hour in fuzz/hours.tsv

Runs in slices; whoever stops it loses at most one. A finding stays in build/fuzz, is named, and ends
the run with status 1. Build first: `make fuzz` does.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "fuzz/hours.tsv"
HEADER = "target\twall_seconds\tcpu_seconds\texecutions"
TARGETS = ("search", "occupancy")


def account() -> dict[str, list[int]]:
    """Seconds and executions so far, by target."""
    lines = LOG.read_text().splitlines()[1:] if LOG.exists() else []
    rows = (line.split("\t") for line in lines)
    return {name: [int(value) for value in values] for name, *values in rows}


def note(target: str, spent: list[int]) -> None:
    """Add a slice to the log."""
    total = account()
    total[target] = [a + b for a, b in zip(total.get(target, [0, 0, 0]), spent, strict=True)]
    rows = ("\t".join([name, *map(str, values)]) for name, values in sorted(total.items()))
    LOG.write_text("\n".join([HEADER, *rows]) + "\n")


def run_slice(target: str, seconds: int) -> bool:
    """Fuzz one target; whether nothing was found."""
    folder = ROOT / "build/fuzz"
    found = folder / f"corpus-{target}"
    found.mkdir(exist_ok=True)
    command = [
        *(str(folder / f"fuzz_{target}"), str(found), str(ROOT / "fuzz/corpus" / target)),
        *(f"-max_total_time={seconds}", "-max_len=512", "-timeout=60", "-rss_limit_mb=2048"),
        *("-print_final_stats=1", f"-artifact_prefix={folder}/{target}-"),
    ]
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    after = os.times()
    if done.returncode != 0:
        print(f"{target}: a finding\n{done.stderr[-3000:]}", flush=True)
        return False
    executions = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    cpu = sum(after[2:4]) - sum(before[2:4])
    spent = [round(after.elapsed - before.elapsed), round(cpu), int(executions[1]) if executions else 0]
    note(target, spent)
    print(f"{target}: {spent[0]} s, {spent[2]:,} executions", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3600, help="of each target, in all")
    parser.add_argument("--slice", type=int, default=120)
    wanted = parser.parse_args()
    while True:
        left = {t: wanted.seconds - account().get(t, [0])[0] for t in TARGETS}
        target = max(left, key=lambda name: left[name])
        if left[target] <= 0:
            return
        if not run_slice(target, min(wanted.slice, left[target])):
            sys.exit(1)


if __name__ == "__main__":
    main()
