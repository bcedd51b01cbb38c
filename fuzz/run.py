"""Fuzz for a while, and keep account in fuzz/hours.tsv of how long each target has run.

    python fuzz/run.py --seconds 3600           every target, for an hour of CPU time in all
    python fuzz/run.py --seconds 3600 search    one of them

What counts is CPU time: at low priority on a busy machine, a process mostly waits. So slices, too,
end after some CPU time; whoever stops this loses at most one of them. A finding stays in
build/fuzz, is printed, and ends its target's run; the status is then 1. `make fuzz` builds the
targets first.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "fuzz/hours.tsv"
HEADER = "target\twall_seconds\tcpu_seconds\texecutions"
#: Target -> the longest input.
TARGETS = {
    **dict.fromkeys(["search", "occupancy", "cotangents", "labelings"], 512),
    "checkpoints": 8192,
}
_LOGGING = threading.Lock()


def account() -> dict[str, list[int]]:
    """Seconds and executions so far, by target."""
    lines = LOG.read_text().splitlines()[1:] if LOG.exists() else []
    rows = (line.split("\t") for line in lines)
    return {name: [int(value) for value in values] for name, *values in rows}


def note(target: str, spent: list[int]) -> None:
    """Add a slice to the log."""
    with _LOGGING:
        total = account()
        old = total.get(target, [0, 0, 0])
        total[target] = [a + b for a, b in zip(old, spent, strict=True)]
        rows = ("\t".join([name, *map(str, values)]) for name, values in sorted(total.items()))
        LOG.write_text("\n".join([HEADER, *rows]) + "\n")


def program(target: str) -> list[str]:
    """The command that fuzzes a target; that in Python needs Atheris."""
    if target == "checkpoints":
        return [sys.executable, str(ROOT / "fuzz/checkpoints.py")]
    return [str(ROOT / "build/fuzz" / f"fuzz_{target}")]


def cpu_seconds(pid: int) -> float:
    """What a process has used; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_slice(target: str, seconds: int) -> bool:
    """Fuzz one target for so much CPU time; whether nothing was found."""
    folder = ROOT / "build/fuzz"
    found = folder / f"corpus-{target}"
    found.mkdir(exist_ok=True)
    command = [
        *(*program(target), str(found), str(ROOT / "fuzz/corpus" / target)),
        f"-max_len={TARGETS[target]}",
        # Wall time: an input takes milliseconds, but the process may have to wait for minutes.
        *("-timeout=600", "-report_slow_units=600", "-rss_limit_mb=2048"),
        *("-print_final_stats=1", f"-artifact_prefix={folder}/{target}-"),
    ]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        # What else runs here is not slowed down by matrix products on several threads.
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=output, stderr=output, env=one_thread)
        while (ended := os.wait4(child.pid, os.WNOHANG))[0] == 0:
            if cpu_seconds(child.pid) >= seconds:
                child.send_signal(signal.SIGUSR1)  # libFuzzer then ends as if its time were up
            time.sleep(1)
        _, status, used = ended
        output.seek(0)
        report = output.read()
    if status != 0:
        print(f"{target}: a finding\n{report[-3000:]}", flush=True)
        return False
    executions = re.search(r"number_of_executed_units: *(\d+)", report)
    spent = [
        round(time.monotonic() - start),
        round(used.ru_utime + used.ru_stime),
        int(executions[1]) if executions else 0,
    ]
    note(target, spent)
    print(f"{target}: {spent[1]} CPU s in {spent[0]} s, {spent[2]:,} executions", flush=True)
    return True


def run_target(target: str, seconds: int, at_a_time: int) -> bool:
    """Fuzz one target until it has run for so long in all; whether nothing was found."""
    while (left := seconds - account().get(target, [0, 0, 0])[1]) > 0:
        if not run_slice(target, min(at_a_time, left)):
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=int, default=3600, help="of CPU time of each target, in all"
    )
    parser.add_argument("--slice", type=int, default=120, help="seconds of CPU time")
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    wanted = parser.parse_args()
    with ThreadPoolExecutor(len(wanted.targets)) as pool:
        runs = [pool.submit(run_target, t, wanted.seconds, wanted.slice) for t in wanted.targets]
        sys.exit(not all(run.result() for run in runs))


if __name__ == "__main__":
    main()
