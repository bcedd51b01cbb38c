"""Time and peak memory of `egl-fast select` on a million scores, and of each --batch on 100,000.

    python benchmarks/select_million.py [--records 1000000] [--sketches 100000] [--folder DIR]

Each selection is a process of its own. The top of the list is compared with what NumPy sorts; a
batch has to pick as many as it was asked for, each once. The machine must be quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from machine import machine
from script import ROOT

from egl_fast.embeddings.file import embeddings_path
from egl_fast.records import STRATEGIES
from egl_fast.selection import batches

#: Of an embedding: mean and standard deviation of the shipped model's 512 outputs.
DIMENSIONS = 1024


def main() -> int:
    """A line for each selection."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--sketches", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS)
    parser.add_argument("--folder", help="where files go [default: a temporary folder]")
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        scores = Path(folder, "scores.jsonl")
        values = write_scores(scores, arguments.records)
        best = np.argsort(-values, kind="stable").tolist()
        for budget, count in (("1%", arguments.records // 100), ("20%", arguments.records // 5)):
            picks = selected(scores, "--budget", budget, "--strategy", "egl_full")
            check(picks == best[:count], f"--budget {budget}: other picks than the highest scores")
        hours = f"{arguments.records // 1000}h"
        picks = selected(scores, "--budget", hours, "--strategy", "egl_full")
        check(picks == best[: len(picks)], f"--budget {hours}: not the start of the ranking")
        scores.unlink()
        write_scores(scores, arguments.sketches)
        write_embeddings(embeddings_path(scores), arguments.sketches, arguments.dimensions)
        count = arguments.sketches // 10
        for batch in batches.described():
            picks = selected(scores, "--budget", str(count), "--batch", batch)
            check(len(set(picks)) == len(picks) == count, f"--batch {batch}: {len(set(picks))}")
    return 0


def selected(scores: Path, *options: str) -> list[int]:
    """What a selection picks, as line numbers; prints what it took."""
    out = scores.with_name("picks.jsonl")
    words = [sys.executable, "-m", "egl_fast", "select", str(scores), *options]
    words += ["--out", str(out), "--overwrite", "--quiet"]
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while process.poll() is None:
        peak = max(peak, peak_kib(process.pid))
        time.sleep(0.05)
    seconds = time.monotonic() - started
    check(process.returncode == 0, f"{' '.join(options)}: exit status {process.returncode}")
    print(f"{' '.join(options)}: {seconds:.1f} s, peak {peak / 1024:.0f} MiB", flush=True)
    with out.open(encoding="utf-8") as lines:
        return [
            int(json.loads(line)["id"].rpartition("/")[2].removesuffix(".flac")) for line in lines
        ]


def peak_kib(process: int) -> int:
    """The most memory that a running process has held. Its parent's ``rusage`` would not do: it
    begins with the memory of the parent."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def check(is_right: bool, complaint: str) -> None:
    """End here if a result is wrong."""
    if not is_right:
        sys.exit(complaint)


def write_scores(path: Path, count: int) -> np.ndarray:
    """A scores file like those of large corpora; returns its ``egl_full`` [n]."""
    random = np.random.default_rng(0)
    values = random.lognormal(size=(count, len(STRATEGIES))).tolist()
    column = list(STRATEGIES).index("egl_full")
    text = "a transcript that is as long as they tend to be"
    with path.open("w", encoding="utf-8") as file:
        for n, numbers in enumerate(values):
            name = f"speakers/{n % 5000:05d}/session_{n // 50:07d}/{n:09d}.flac"
            record = {
                "audio_filepath": f"/corpus/{name}",
                "text": text,
                "speaker": f"{n % 5000:05d}",
                **dict(zip(STRATEGIES, numbers, strict=True)),
                "id": name,
                "duration": 2.0 + n % 170 / 10,
                "num_frames": 100 + n % 850,
                "pred_text": text,
                "num_hypotheses": 100,
                "beam_mass": 0.5 + n % 7 / 100,
            }
            file.write(f"{json.dumps(record)}\n")
    return np.array([numbers[column] for numbers in values])


def write_embeddings(path: Path, count: int, dimensions: int) -> None:
    """Points around a few hundred centers, in a space of few directions, and noise."""
    random = np.random.default_rng(1)
    centers = 3 * random.standard_normal((300, 40))
    directions = random.standard_normal((40, dimensions))
    found = np.lib.format.open_memmap(path, "w+", np.float32, (count, dimensions))
    for start in range(0, count, 4096):
        block = min(4096, count - start)
        points = centers[random.integers(300, size=block)] + random.standard_normal((block, 40))
        noise = 0.1 * random.standard_normal((block, dimensions))
        found[start : start + block] = points @ directions + noise
    found.flush()


if __name__ == "__main__":
    sys.exit(main())
