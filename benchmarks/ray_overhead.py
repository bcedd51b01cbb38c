"""What the Ray engine costs against a local run of the same pool, on this machine.

    python benchmarks/ray_overhead.py [--recordings 2000] [--rounds 2]

Runs alternate between `egl-fast score` and the same with `--engine ray --workers 1`, with as many
threads. Scores must be the same to the byte before anything is reported. "run" is the command from
its start to its end, in which Ray starts a cluster and stops it again; "scoring" is the time
between the events `started` and `finished` of its log. Ends with status 1 if scoring takes more
than a tenth longer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from machine import ROOT, machine
from script import RESULTS, write_json

LOCAL, RAY = "local", "ray"
ALLOWED = 0.1


def main() -> int:
    """Measure, write results, and say whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "ray-overhead.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            one_round(Path(folder), options.recordings, options.threads)
            for _ in range(options.rounds)
        ]
    overhead = {
        what: statistics.median(one[RAY][what] / one[LOCAL][what] - 1 for one in rounds)
        for what in ("scoring", "run")
    }
    found = {
        "recordings": options.recordings,
        "threads": options.threads,
        "rounds": rounds,
        "overhead": overhead,
        "machine": machine(),
    }
    write_json(options.out, found)
    print(", ".join(f"{what}: {share:+.1%}" for what, share in overhead.items()))
    return 0 if overhead["scoring"] <= ALLOWED else 1


def one_round(folder: Path, num_recordings: int, threads: int) -> dict[str, Any]:
    """Seconds of both runs."""
    pool = folder / "pool.jsonl"
    sample = [json.loads(line) for line in (ROOT / "examples" / "pool.jsonl").open()]
    with pool.open("w") as file:
        for number in range(num_recordings):
            one = sample[number % len(sample)]
            audio = str(ROOT / "examples" / one["audio_filepath"])
            file.write(json.dumps({**one, "audio_filepath": audio, "id": f"{number}"}) + "\n")
    found: dict[str, Any] = {}
    scores: dict[str, bytes] = {}
    for engine in (LOCAL, RAY):
        out, log = folder / f"{engine}.jsonl", folder / f"{engine}.log"
        log.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "egl_fast", "score", "--quiet", "--overwrite"),
            *("--model", ROOT / "examples" / "base.pt", "--pool", pool, "--k", "100"),
            *("--method", "lowrank", "--tolerance", "0.1", "--threads", str(threads)),
            *("--memory", "2GiB", "--out", out, "--log-json", log),
            *(("--engine", "ray", "--workers", "1") if engine == RAY else ()),
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        at = {
            event["event"]: datetime.fromisoformat(event["time"])
            for event in map(json.loads, log.open())
        }
        scoring = (at["finished"] - at["started"]).total_seconds()
        found[engine] = {"run": seconds, "scoring": scoring}
        scores[engine] = out.read_bytes()
        print(f"{engine}: {seconds:.1f} s, {scoring:.1f} s of it scoring", flush=True)
    assert scores[LOCAL] == scores[RAY], "not the same scores"
    assert scores[LOCAL].count(b"\n") == num_recordings
    return found


if __name__ == "__main__":
    sys.exit(main())
