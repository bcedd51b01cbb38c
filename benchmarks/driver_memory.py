"""Memory of the driver of `egl-fast score`, per line of the manifest, with nothing scored.

    python benchmarks/driver_memory.py [--engine ray] [--lines 10000 1000000] [--folder DIR]

Everything but audio and model is as in `score`: the manifest is read and checked, its windows are
dealt out, records are written in order, and a run that was stopped halfway is resumed. A process of
its own for each length prints its peak. With `--engine ray`, windows go to a worker on a cluster
and come back from it. Writes results/driver-memory.json. More than 16 bytes a line ends with exit
status 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

ALLOWED_BYTES = 16.0


def main() -> int:
    """One line for each length, and the growth between the first and the last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", nargs="+", type=int, default=[10_000, 1_000_000])
    parser.add_argument("--folder", help="where files go [default: a temporary folder]")
    parser.add_argument("--engine", choices=list(SCORINGS), default="local")
    parser.add_argument("--measure", metavar="MANIFEST", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(Path(arguments.measure), arguments.engine)
        return 0
    peaks = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for count in arguments.lines:
            manifest = Path(folder, f"{count}.jsonl")
            write_manifest(manifest, count)
            command = [sys.executable, __file__, "--measure", str(manifest)]
            command += ["--engine", arguments.engine]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            peaks.append(json.loads(done.stdout))
            print(f"{count:9,} lines: {peaks[-1] / 2**20:.1f} MiB", flush=True)
    per_line = (peaks[-1] - peaks[0]) / (arguments.lines[-1] - arguments.lines[0])
    print(f"{per_line:.1f} bytes per line")
    from machine import machine  # it imports torch, which would hide what grows
    from script import RESULTS, write_json

    out = RESULTS / "driver-memory.json"
    known = json.loads(out.read_text()) if out.exists() else {}
    known[arguments.engine] = {
        "lines": arguments.lines,
        "peak_bytes": peaks,
        "bytes_per_line": per_line,
        "machine": machine(),
    }
    write_json(out, known)
    return 0 if per_line <= ALLOWED_BYTES else 1


def write_manifest(path: Path, count: int) -> None:
    """A manifest like those of large corpora."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            record = {
                "audio_filepath": f"speakers/{n % 5000:05d}/session_{n // 50:07d}/{n:09d}.flac",
                "duration": 2.0 + n % 170 / 10,
                "text": "a transcript that is as long as they tend to be",
                "speaker": f"{n % 5000:05d}",
            }
            file.write(f"{json.dumps(record)}\n")


def record_of(position: int, name: str) -> Any:
    """A record as a model gives them."""
    from egl_fast.records import ScoreRecord

    mass, numbers = 0.5 + position % 7 / 100, (3.0, 0.0, 6.0, None, None, None)
    return ScoreRecord(name, 2.0, 100, "heard", 100, mass, *numbers, 0.1, 0.02, 0.7)


@contextmanager
def in_this_process() -> Iterator[Any]:
    """Outcomes of utterances whose positions are not completed, window by window."""
    from egl_fast.scoring.run.outcome import WINDOW, Outcome

    def outcomes(utterances: Iterable[Any], completed: Any) -> Iterator[list[Outcome]]:
        source = enumerate(utterances)
        while window := list(islice(source, WINDOW)):
            if window[0][0] not in completed:
                # In any order within a window.
                yield [Outcome(n, one, record_of(n, one.id)) for n, one in reversed(window)]

    yield outcomes


@contextmanager
def on_ray() -> Iterator[Any]:
    """The same from a cluster's worker that has no model."""
    from egl_fast.ray import workers
    from egl_fast.ray.connection import connected
    from egl_fast.ray.scoring import RayScoring
    from egl_fast.ray.worker import ModelPlan, Reply, ScoringPlan
    from egl_fast.scoring.options import ScoringOptions
    from egl_fast.scoring.schedule.batches import Scored

    class Stub:
        """In place of ``egl_fast.ray.worker.Worker``."""

        def __init__(self, *how: Any) -> None:
            pass

        def load(self, model: ModelPlan) -> Reply:
            return Reply(0, [])

        def do(self, plan: Any, work: Any, window: Any, completed: Any) -> Reply:
            return Reply({n: Scored(record_of(n, one.id), None) for n, one in window.items()}, [])

    workers.Worker = Stub  # type: ignore[assignment, misc]
    with connected(None), workers.Workers(workers.Request(1, 1), ModelPlan("")) as one:
        scoring = RayScoring(one, ScoringPlan(ScoringOptions()))
        yield lambda utterances, completed: scoring.outcomes(utterances, completed=completed)


SCORINGS = {"local": in_this_process, "ray": on_ray}


def measure(manifest: Path, engine: str) -> None:
    """Read a manifest twice, stopping halfway the first time, and print the peak in bytes."""
    from egl_fast.data.streamed_manifest import stream_manifest
    from egl_fast.scoring.run.resumable_scores import ResumableScores
    from egl_fast.scoring.run.shards import WHOLE
    from egl_fast.selection import low_mass_warning

    with SCORINGS[engine]() as scored:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
        for is_resumed in (False, True):
            pool = stream_manifest(manifest)
            utterances = WHOLE.of(pool, limit=None)
            results = ResumableScores(f"{manifest}.scores.jsonl", resume=True)
            with results.locked():
                results.begin({"pool_sha256": pool.sha256}, len(utterances))
                for outcomes in scored(utterances, results):
                    results.add(outcomes, 0.0)
                    if not is_resumed and results.num_completed >= len(utterances) // 2:
                        break
                else:
                    low_mass_warning({"beam_mass": x} for x in results.column("beam_mass"))
                    results.finish({"versions": {}})
    assert results.tally.num_scored == len(utterances)
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")))


if __name__ == "__main__":
    sys.exit(main())
