"""How the time that `egl-fast score` takes depends on recordings, audio, K, model, and processes.

    python benchmarks/cost_law.py [--minutes 20] [--recordings 100000]

Runs the command from start to end, in its own process, on the sample's pool, cut into recordings of
one length and repeated. Every run is a line of results/cost-law.jsonl, on disk once it is done:
after an interruption, or when the minutes are over, the same command does what is left. First come
runs from which each (model, method) gets its own law, then the many recordings, all of one simple
kind. Every run must score each recording once, and runs that differ only in their processes or
repetition must write the same bytes. `python benchmarks/cost_page.py` writes the results into
docs/scale.md. The machine must be quiet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import machine
from script import MODEL, POOL, RESULTS, ROOT

from egl_fast.checkpoint import Checkpoint, save_checkpoint
from egl_fast.features import FeatureConfig
from egl_fast.model import DeepSpeech2, preset
from egl_fast.vocabulary import ENGLISH_CHARACTERS

RESULTS_FILE = RESULTS / "cost-law.jsonl"
METHODS = {"none": (), "exact": (), "probe": ("--probes", "4")}
#: Recordings in a run of the many: so much is lost when one is interrupted.
PER_RUN = 20_000


@dataclass(frozen=True)
class Run:
    """One scoring.

    Attributes:
        model: a preset with random weights, or ``base``, the shipped model, of preset `small`.
        method: of scoring.
        k: hypotheses.
        seconds: length of each recording.
        recordings: how many there are.
        processes: shards that are scored side by side, each on one thread.
        repetition: tells otherwise equal runs apart.
    """

    model: str
    method: str
    k: int
    seconds: float
    recordings: int
    processes: int = 1
    repetition: int = 0


def planned(many: int) -> Iterator[Run]:
    """All runs: those that tell more come first."""
    # Few recordings show what a start costs; the others take about ten seconds each.
    for model, method, recordings in (
        ("base", "none", 160),
        ("base", "exact", 24),
        ("base", "probe", 64),
        ("tiny", "none", 1600),
        ("tiny", "exact", 320),
        ("tiny", "probe", 640),
        ("paper", "none", 48),
        ("paper", "exact", 6),
    ):
        yield Run(model, method, 10, 1.0, 2)
        for seconds in (1.0, 2.0):
            for k in (10, 100) if model == "paper" else (10, 50, 100):
                yield Run(model, method, k, seconds, max(6, int(recordings / seconds)))
    for processes in (1, 2):
        # Shards are made of windows of 64 recordings.
        yield Run("base", "exact", 100, 2.0, 128, processes)
        yield Run("tiny", "none", 10, 1.0, 2560, processes)
    for repetition in range(-(-many // PER_RUN)):
        yield Run("tiny", "none", 10, 1.0, min(PER_RUN, many), 2, repetition)


def main() -> int:
    """Do what is left, and say how far it came."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="no run starts later")
    parser.add_argument("--recordings", type=int, default=100_000, help="the many")
    parser.add_argument("--results", type=Path, default=RESULTS_FILE)
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    found = finished(arguments.results)
    done = {run_of(one) for one in found}
    digests = {alike(run_of(one)): one["scores_sha256"] for one in found}
    left = [run for run in planned(arguments.recordings) if run not in done]
    with tempfile.TemporaryDirectory() as folder:
        for number, run in enumerate(left):
            if time.monotonic() > deadline:
                print(f"{len(left) - number} runs are left: the same command does them")
                return 0
            seconds = timed(run, Path(folder))
            digest = digest_of_scores(run, Path(folder))
            if digests.setdefault(alike(run), digest) != digest:
                sys.exit(f"{run}: other scores than those of a run like it")
            facts = {
                **asdict(run),
                "wall_seconds": round(seconds, 3),
                "scores_sha256": digest,
                "machine": machine(),
            }
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")
            print(f"{number + 1}/{len(left)}: {run}: {seconds:.1f} s", flush=True)
    print("all runs are done; python benchmarks/cost_page.py writes them into docs/scale.md")
    return 0


def finished(results: Path = RESULTS_FILE) -> list[dict[str, Any]]:
    """The runs in a results file. A last line that was cut off is removed."""
    if not results.exists():
        return []
    text = results.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        results.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def run_of(facts: dict[str, Any]) -> Run:
    """The run that a line is about."""
    return Run(**{name: facts[name] for name in Run.__dataclass_fields__})


def alike(run: Run) -> Run:
    """What runs with the same scores have in common."""
    return replace(run, processes=1, repetition=0)


def timed(run: Run, folder: Path) -> float:
    """Seconds from the start of the first process to the end of the last."""
    for old in folder.glob("scores.*"):
        old.unlink()
    pool, model = manifest(run, folder), model_file(run.model, folder)
    commands = [command(run, pool, model, folder, number) for number in range(run.processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    with ExitStack() as running:
        processes = []
        for words in commands:
            process = subprocess.Popen(
                words, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True
            )
            running.callback(process.kill)  # if this script is interrupted
            processes.append(process)
        said = [process.communicate()[1] for process in processes]
        seconds = time.monotonic() - started
    if any(process.returncode for process in processes):
        sys.exit(f"{run} failed:\n" + "".join(said))
    return seconds


def digest_of_scores(run: Run, folder: Path) -> str:
    """Of all scores in the order of the pool, each of which must be there once."""
    lines = {}
    for out in folder.glob("scores.*.jsonl"):
        for line in out.read_bytes().splitlines():
            number = int(json.loads(line)["id"])
            if number in lines:
                sys.exit(f"{run}: recording {number} was scored twice")
            lines[number] = line
    if sorted(lines) != list(range(run.recordings)):
        sys.exit(f"{run}: {len(lines)} scores of {run.recordings} recordings")
    return hashlib.sha256(b"\n".join(lines[number] for number in sorted(lines))).hexdigest()


def command(run: Run, pool: Path, model: Path, folder: Path, number: int) -> Sequence[str]:
    """The command of one of a run's processes."""
    shard = ["--shard", f"{number + 1}/{run.processes}"] if run.processes > 1 else []
    return [
        *(sys.executable, "-m", "egl_fast", "score", "--model", str(model), "--pool", str(pool)),
        *("--method", run.method, *METHODS[run.method], "--k", str(run.k), "--threads", "1"),
        *("--device", "cpu", "--quiet", *shard, "--out", str(folder / f"scores.{number}.jsonl")),
    ]


def manifest(run: Run, folder: Path) -> Path:
    """Recordings of one length: the pool's that are long enough, again and again."""
    pool = [json.loads(line) for line in POOL.read_text(encoding="utf-8").splitlines()]
    long = [one for one in pool if one["duration"] >= run.seconds]
    lines = []
    for number in range(run.recordings):
        again, place = divmod(number, len(long))
        one = long[place]
        # Other parts of a recording each time, as far as it has them.
        offset = round(0.01 * again % max(0.01, one["duration"] - run.seconds), 2)
        audio = str(POOL.parent / one["audio_filepath"])
        where = {"audio_filepath": audio, "offset": offset, "duration": run.seconds}
        lines.append(json.dumps({"id": str(number), **where}) + "\n")
    path = folder / "pool.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def model_file(name: str, folder: Path) -> Path:
    """A preset with random weights, or the shipped model."""
    if name == "base":
        return MODEL
    path = folder / f"{name}.pt"
    if not path.exists():
        torch.manual_seed(0)
        model = DeepSpeech2(preset(name)).eval()
        with torch.no_grad():
            model.output.weight.mul_(20)  # so that the best labelings differ in probability
        save_checkpoint(path, Checkpoint(model, FeatureConfig(), ENGLISH_CHARACTERS))
    return path


if __name__ == "__main__":
    sys.exit(main())
