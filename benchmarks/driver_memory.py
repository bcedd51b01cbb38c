"""Memory of the driver of `egl-fast score`, per line of the manifest, with nothing scored.

    python benchmarks/driver_memory.py [--lines 10000 1000000] [--folder DIR]

Everything but audio and model is as in `score`: the manifest is read and checked, its windows are
dealt out, records are written in order, and a run that was stopped halfway is resumed. A process of
its own for each length prints its peak. More than 16 bytes a line ends with exit status 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

ALLOWED_BYTES = 16.0


def main() -> int:
    """One line for each length, and the growth between the first and the last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", nargs="+", type=int, default=[10_000, 1_000_000])
    parser.add_argument("--folder", help="where files go [default: a temporary folder]")
    parser.add_argument("--measure", metavar="MANIFEST", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(Path(arguments.measure))
        return 0
    peaks = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for count in arguments.lines:
            manifest = Path(folder, f"{count}.jsonl")
            write_manifest(manifest, count)
            command = [sys.executable, __file__, "--measure", str(manifest)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(json.loads(done.stdout))
            print(f"{count:9,} lines: {peaks[-1] / 2**20:.1f} MiB", flush=True)
    per_line = (peaks[-1] - peaks[0]) / (arguments.lines[-1] - arguments.lines[0])
    print(f"{per_line:.1f} bytes per line")
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


def measure(manifest: Path) -> None:
    """Read a manifest twice, stopping halfway the first time, and print the peak in bytes."""
    from egl_fast.data.streamed_manifest import stream_manifest
    from egl_fast.records import ScoreRecord
    from egl_fast.scoring.run.outcome import WINDOW, Outcome
    from egl_fast.scoring.run.resumable_scores import ResumableScores
    from egl_fast.scoring.run.shards import WHOLE
    from egl_fast.selection import low_mass_warning
    from egl_fast.tracking.memory import peak_memory_bytes

    for is_resumed in (False, True):
        pool = stream_manifest(manifest)
        utterances = WHOLE.of(pool, limit=None)
        results = ResumableScores(f"{manifest}.scores.jsonl", resume=True)
        with results.locked():
            results.begin({"pool_sha256": pool.sha256}, len(utterances))
            source = enumerate(utterances)
            while window := list(islice(source, WINDOW)):
                if window[0][0] in results:
                    continue
                outcomes = []
                for position, one in reversed(window):  # any order within a window
                    mass, numbers = 0.5 + position % 7 / 100, (3.0, 0.0, 6.0, None, None, None)
                    record = ScoreRecord(
                        one.id, 2.0, 100, "heard", 100, mass, *numbers, 0.1, 0.02, 0.7
                    )
                    outcomes.append(Outcome(position, one, record))
                results.add(outcomes, 0.0)
                if not is_resumed and position >= len(utterances) // 2:
                    break
            else:
                low_mass_warning({"beam_mass": x} for x in results.column("beam_mass"))
                results.finish({"versions": {}})
    assert results.tally.num_scored == len(utterances)
    print(peak_memory_bytes())


if __name__ == "__main__":
    sys.exit(main())
