"""What `score --engine ray` costs beside the same run without it.

    python benchmarks/ray_overhead.py [--recordings 2000] [--rounds 3] [--threads 2] [--k 100]

The sample's pool, repeated. One worker on a cluster that the command starts on this machine has the
threads that the local run has. A short run of each comes first, whose scores must have the same
bytes; then every round times both, and compares again. The steady state is what the command itself
counts, from the first window to the last; start and end are the rest of its time: Python, torch,
the model, the cluster. Writes results/ray-overhead.json and the paragraph in docs/scale.md. Ends
with status 2 if the median of the steady state's overhead is more than 10 %.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import machine
from script import RESULTS, ROOT, options_of, write_json

from egl_fast.data.manifest import read_manifest
from egl_fast.scoring.run.outcome import WINDOW

LIMIT = 0.10
PAGE = ROOT / "docs" / "scale.md"
OPENING = "What the engine costs, by `python benchmarks/ray_overhead.py`: "
ENGINES = {"local": (), "ray": ("--engine", "ray", "--workers", "1")}

Timing = dict[str, float]


def main() -> int:
    """Measure, and write."""
    parser = options_of(__doc__, rounds=3, threads=2, k=100)
    parser.add_argument("--recordings", type=int, default=2000, help="lines of the manifest")
    parser.add_argument("--out", type=Path, default=RESULTS / "ray-overhead.json")
    parser.add_argument("--no-page", action="store_true", help="leave docs/scale.md alone")
    options = parser.parse_args()
    command = [
        *(sys.executable, "-m", "egl_fast", "score", "--quiet", "--model", str(options.model)),
        *("--k", str(options.k), "--threads", str(options.threads)),
    ]
    rounds: list[dict[str, Timing]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = write_repeated(options.pool, folder / "pool.jsonl", options.recordings)
        # With a window more than one, so that a second one is decoded meanwhile.
        first = write_repeated(options.pool, folder / "first.jsonl", 2 * WINDOW)
        one_round(command, first, folder, ENGINES)
        for number in range(options.rounds):
            order = dict(list(ENGINES.items())[:: 1 if number % 2 == 0 else -1])
            rounds.append(one_round(command, whole, folder, order))
            print(json.dumps(rounds[-1]), flush=True)
    results = {
        "recordings": options.recordings,
        "threads": options.threads,
        "k": options.k,
        "model": options.model.name,
        "rounds": rounds,
        "machine": machine(),
    }
    write_json(options.out, results)
    print(paragraph(results))
    if not options.no_page:
        write_page(results)
    return 0 if statistics.median(overheads(rounds, "steady_s")) <= LIMIT else 2


def write_repeated(pool: Path, path: Path, count: int) -> Path:
    """A manifest of so many lines, with the recordings of another in turn."""
    recordings = read_manifest(pool)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            audio = recordings[number % len(recordings)].audio_path.resolve()
            line = {"id": f"line-{number}", "audio_filepath": str(audio)}
            file.write(json.dumps(line) + "\n")
    return path


def one_round(
    command: Sequence[str], pool: Path, folder: Path, engines: Mapping[str, Sequence[str]]
) -> dict[str, Timing]:
    """Seconds of each engine, after a check that the scores are the same."""
    found: dict[str, Timing] = {}
    scores = set()
    for engine, more in engines.items():
        out = folder / f"{engine}.jsonl"
        started = time.monotonic()
        subprocess.run(
            [*command, "--pool", str(pool), *more, "--out", str(out), "--overwrite"], check=True
        )
        total = time.monotonic() - started
        steady = json.loads(Path(f"{out}.meta.json").read_text())["seconds"]
        found[engine] = {"steady_s": steady, "total_s": total}
        scores.add(out.read_bytes())
    if len(scores) > 1:
        sys.exit("the engines' scores differ")
    return found


def overheads(rounds: Sequence[Mapping[str, Timing]], what: str) -> list[float]:
    """How much longer Ray took in each round, as a share."""
    return [one["ray"][what] / one["local"][what] - 1 for one in rounds]


def paragraph(results: Mapping[str, Any]) -> str:
    """The results in words."""
    rounds, where = results["rounds"], results["machine"]
    steady, total = (overheads(rounds, what) for what in ("steady_s", "total_s"))

    def median(engine: str, what: str) -> str:
        return f"{statistics.median(one[engine][what] for one in rounds):.1f} s"

    return (
        f"{OPENING}{results['recordings']:,} recordings (`{results['model']}`, K = {results['k']}, "
        f"{results['threads']} threads) took {median('ray', 'steady_s')} with one worker, and "
        f"{median('local', 'steady_s')} without Ray: {statistics.median(steady):.1%} more "
        f"({', '.join(f'{share:.1%}' for share in steady)} in {len(rounds)} rounds). From start to "
        f"end, a cluster that is started and stopped included, {median('ray', 'total_s')} and "
        f"{median('local', 'total_s')}: {statistics.median(total):.1%} more. The scores had the "
        f"same bytes. ({where['cores']} cores of {where['cpu']}, commit {where['commit']}.)"
    )


def write_page(results: Mapping[str, Any]) -> None:
    """Replace the paragraph of docs/scale.md that begins with ``OPENING``."""
    text = PAGE.read_text(encoding="utf-8")
    old = re.compile(re.escape(OPENING) + r".*?\n(?=\n)", re.DOTALL)
    text, count = old.subn(lambda _: paragraph(results) + "\n", text)
    assert count == 1, "docs/scale.md lacks the paragraph"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
