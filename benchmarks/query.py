"""How much of the exact set ``egl-fast query`` finds, against the inference passes it takes.

    python benchmarks/query.py collect --data ../shared/data --recordings 320 --cache build/query.jsonl
    python benchmarks/query.py replay --cache build/query.jsonl

``collect`` scores recordings exactly, and notes what looks of 2 to 32 rows would have said of them
under several seeds. All of that follows from one matrix of inner products between gradients, so a
look costs nothing here. It goes on where it was stopped. ``replay`` then runs the very function that
``query`` asks what to look at next (``egl_fast.query.plan``) on those looks.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import ROOT

from egl_fast import Scorer, ops
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.methods.exact import SPAN

CORPORA = ("grid_s1", "speechocean762", "librispeech", "an4", "outliers")
ROWS = (2, 4, 8, 16, 32)
SEEDS = 6


def collect(arguments: argparse.Namespace) -> None:
    """Fill the cache."""
    torch.set_num_threads(1)
    scorer = Scorer.from_checkpoint(arguments.model)
    engine = GradientEngine(scorer.model)
    pool = [
        utterance
        for corpus in CORPORA
        for utterance in read_manifest(arguments.data / corpus / "manifest.jsonl")
        if (utterance.duration_seconds or 0.0) <= arguments.max_seconds
    ]
    random.Random(0).shuffle(pool)
    arguments.cache.parent.mkdir(parents=True, exist_ok=True)
    with arguments.cache.open("a+", encoding="utf-8") as file:
        file.seek(0)
        known = {json.loads(line)["path"] for line in file}
        for number, utterance in enumerate(pool[: arguments.recordings]):
            path = str(Path(utterance.audio_path).relative_to(arguments.data.resolve()))
            if path not in known:
                found = looks(engine, scorer, utterance)
                file.write(json.dumps({"path": path, **found}) + "\n")
                file.flush()
                print(f"\r{number + 1}/{arguments.recordings}", end="", file=sys.stderr)


def looks(engine: GradientEngine, scorer: Scorer, utterance: Utterance) -> dict[str, Any]:
    """The exact score of a recording, and what every look would have said.

    All per unit of ``beam_mass``, as ``egl_normalized`` is.
    """
    features = load_spectrogram(utterance, scorer.features).features
    tape = engine.run(*pad_features([features]))
    logits, lengths = tape.outputs
    layer = output_layer_of(tape)
    assert layer is not None
    found = ops.ctc_nbest_cotangents(
        logits,
        lengths,
        num_hypotheses=100,
        span=SPAN,
        frame_gram=layer.frame_gram(lengths),
    )
    count = int(found.hypotheses.counts[0])
    weights = found.hypotheses.log_prob[0, :count].softmax(0)
    num_rows = int(found.num_directions[0])
    own = num_rows == count
    rows = found.cotangents[:, :num_rows]
    parts = engine.gram(tape, rows)
    gram = torch.stack([gram for name, gram in parts.items() if name not in layer.names]).sum(0)[0]
    flat = rows[0].double().flatten(1)
    lengths_of = found.cotangent_sq_norms[0, :count].sqrt()
    # Columns of D in coordinates of the rows.
    unit = (
        torch.eye(count).double() if own else found.combinations[0, :num_rows, :count] * lengths_of
    )
    columns = (unit * weights.sqrt()).numpy()
    energy = columns.T @ (flat @ flat.T).numpy() @ columns
    values, vectors = np.linalg.eigh(energy)
    directions = columns @ vectors[:, ::-1]  # D v_r, largest first
    inner = directions.T @ gram.numpy() @ directions
    assert found.output_sq_norms is not None
    output = float(weights @ found.output_sq_norms[0, :count])
    result: dict[str, Any] = {
        "seconds": utterance.duration_seconds,
        "num_frames": int(lengths[0]),
        "beam_mass": float(found.hypotheses.log_prob[0, :count].exp().sum()),
        "pctc": -float(found.hypotheses.log_prob[0, 0]) / int(lengths[0]),
        "energy": float(energy.trace()),
        "output": output,
        "exact_rows": num_rows,
        "exact": output + float(inner.trace()),
    }
    generator = np.random.default_rng(int(lengths[0]) * 1000 + num_rows)
    for m in ROWS:
        split, probes = budget_of(np.maximum(values[::-1], 0.0), m)
        kept = output + float(inner[:split, :split].trace())
        estimates = []
        for _ in range(SEEDS):
            signs = generator.choice([-1.0, 1.0], size=(probes, count - split))
            tail = np.einsum("ij,jk,ik->i", signs, inner[split:, split:], signs)
            error = float(tail.std(ddof=1) / math.sqrt(probes)) if probes > 1 else 0.0
            estimates.append([kept + (float(tail.mean()) if probes else 0.0), error])
        result[f"rows {m}"] = estimates
    return result


def budget_of(values: npt.NDArray[np.float64], rows: int) -> tuple[int, int]:
    """Directions and probes, as ``probe`` splits its rows."""
    from egl_fast.reference.compression import budget_of_probes

    return budget_of_probes(values.tolist(), rows)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["collect", "replay"])
    parser.add_argument("--model", default=ROOT / "examples" / "base.pt")
    parser.add_argument("--data", type=Path, help="the folder of the corpora")
    parser.add_argument("--max-seconds", type=float, default=2.5)
    parser.add_argument("--recordings", type=int, default=320)
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "query.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    collect(parse_arguments())
