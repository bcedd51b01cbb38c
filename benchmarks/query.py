"""How much of the exact set ``egl-fast query`` finds, against the inference passes it takes.

    python benchmarks/query.py collect --data ../shared/data --recordings 400
    python benchmarks/query.py replay

``collect`` scores recordings exactly, and notes what looks of every number of rows would have said
of them under several seeds. All of that follows from one matrix of inner products between
gradients, so a look costs nothing here. It goes on where it was stopped. ``replay`` then runs the
very function that ``query`` runs (``egl_fast.query.rounds``) on those looks.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from script import MODEL, RESULTS

from egl_fast import Scorer, ops
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.methods.exact import SPAN
from egl_fast.query.beliefs import Beliefs
from egl_fast.query.looks import GRADIENTS, ROWS
from egl_fast.query.rounds import Goal, State, run_rounds
from egl_fast.selection import rank

CORPORA = ("grid_s1", "speechocean762", "librispeech", "an4", "outliers")
ALL_ROWS = (2, 4, 8, 16, 32)
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
                file.write(json.dumps({"path": path, **rounded(found)}) + "\n")
                file.flush()
                print(f"\r{number + 1}/{arguments.recordings}", end="", file=sys.stderr)


def looks(engine: GradientEngine, scorer: Scorer, utterance: Utterance) -> dict[str, Any]:
    """The exact score of a recording, and what every look would have said.

    All per unit of ``beam_mass``, as ``egl_normalized`` is.
    """
    assert scorer.features is not None
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
        "output": output,
        "exact_rows": num_rows,
        "exact": output + float(inner.trace()),
    }
    generator = np.random.default_rng(int(lengths[0]) * 1000 + num_rows)
    for m in ALL_ROWS:
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


def rounded(value: Any) -> Any:
    """With six digits, for a smaller file."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def budget_of(values: npt.NDArray[np.float64], rows: int) -> tuple[int, int]:
    """Directions and probes, as ``probe`` splits its rows."""
    from egl_fast.reference.compression import budget_of_probes

    return budget_of_probes(values.tolist(), rows)


def replay(arguments: argparse.Namespace) -> None:
    """Tables of overlap against passes."""
    lines = [json.loads(line) for line in arguments.cache.read_text("utf-8").splitlines()]
    lines = lines[: arguments.recordings]
    exact = np.array([line["exact"] for line in lines])
    mass = np.array([line["beam_mass"] for line in lines])
    seconds = np.array([line["seconds"] for line in lines])
    print(f"{len(lines)} recordings, {arguments.seeds} seeds; output layer alone, refitted:")
    design = np.stack([np.ones(len(lines)), np.log([line["output"] for line in lines])], axis=1)
    fit = np.linalg.lstsq(design, np.log(exact), rcond=None)[0]
    print(f"  standard deviation of log: {np.log(exact).std():.2f}", end="; ")
    print(f"of the residuals: {(np.log(exact) - design @ fit).std():.2f}")
    for rows in ALL_ROWS:
        errors = np.array([line[f"rows {rows}"] for line in lines])[:, :, 0] / exact[:, None] - 1
        print(f"{rows:3} rows: rms error {np.sqrt(np.square(errors).mean()):.1%}", end=", ")
        print(f"median {np.median(np.abs(errors)):.2%}, mean {errors.mean():+.2%}")
    for strategy, factor in {"egl": mass, "egl_normalized": np.ones(len(lines))}.items():
        truth = exact * factor
        looks = {
            rows: np.array([line[f"rows {rows}"] for line in lines]) * factor[:, None, None]
            for rows in ALL_ROWS
        }
        for budget in (0.1, 0.2, 0.4):
            count = round(budget * len(lines))
            right = set(top(truth, count))
            for rows in (4, 16):
                found = [
                    len(right.intersection(top(looks[rows][:, seed, 0], count))) / count
                    for seed in range(SEEDS)
                ]
                cost = GRADIENTS.passes[ROWS.index(rows)]
                tell(strategy, budget, f"{rows} rows each", found, [], [cost] * len(found))
            for confidence, effort in ((0.98, 5.0), (0.9, 20.0), (0.95, 20.0), (0.98, 20.0)):
                ends = [
                    query(looks, seconds, count, Goal(confidence, effort, seed=seed))
                    for seed in range(arguments.seeds)
                ]
                found = [len(right.intersection(end.picks)) / count for end, _ in ends]
                believed = [end.overlap for end, _ in ends]
                label = f"query {confidence:.0%}, at most {effort:g}"
                tell(strategy, budget, label, found, believed, [cost for _, cost in ends])


def top(scores: npt.NDArray[np.float64] | Sequence[float], count: int) -> list[int]:
    """Indices of the highest scores."""
    return rank(list(scores))[:count]


def query(
    looks: dict[int, npt.NDArray[np.float64]],
    seconds: npt.NDArray[np.float64],
    count: int,
    goal: Goal,
) -> tuple[Beliefs, float]:
    """One query, and what it cost."""
    draws = np.random.default_rng(goal.seed).integers(0, SEEDS, (len(ROWS), len(seconds)))

    def look(number: int, level: int, indices: Sequence[int]) -> list[tuple[float, float]]:
        return [tuple(looks[ROWS[level]][i, draws[level, i]].tolist()) for i in indices]

    state = State.of(look(1, 0, range(len(seconds))), seconds.tolist())
    end = run_rounds(state, lambda scores: top(scores, count), look, goal)
    return end, state.effort


def tell(
    strategy: str,
    budget: float,
    label: str,
    found: Sequence[float],
    believed: Sequence[float],
    costs: Sequence[float],
) -> None:
    """One row of the table."""
    said = f"{np.mean(believed):.1%}" if believed else ""
    print(
        f"{strategy:14} {budget:4.0%} {label:22} overlap {np.mean(found):6.1%} "
        f"(worst {min(found):6.1%}) said {said:6} passes {np.mean(costs):4.1f} "
        f"(most {max(costs):4.1f})"
    )


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["collect", "replay"])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, help="the folder of the corpora")
    parser.add_argument("--max-seconds", type=float, default=2.5)
    parser.add_argument("--recordings", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--cache", type=Path, default=RESULTS / "query.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    given = parse_arguments()
    {"collect": collect, "replay": replay}[given.what](given)
