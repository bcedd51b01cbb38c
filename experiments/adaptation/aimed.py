"""What recordings teach as seen from a target, forward only: a sketch [m, m] of each.

With directions z_1 .. z_m in the space of the weights, v_j the derivative of a recording's logits
along z_j, and phi_y = (<v_1, delta_y>, .., <v_m, delta_y>), delta_y being the loss's gradient with
respect to the logits if y were the truth, the sketch is M = E_y[phi_y phi_y^T], y ~ p(y|x). Its
trace over m estimates

    aimed    tr(F_x F_T): z ~ N(0, F_T), F_T the Fisher information of the targets, whose labelings
             are drawn from the model
    labeled  the same with the targets' transcripts as their only labelings
    plain    tr(F_x), which is ``egl_full``: z ~ N(0, I)

Targets are recordings that are in no pool and no test set, but of the test set's speakers: what
somebody has who can record the people his model is for. ``--trusted D`` takes those that draw D
trusts, of other speakers.

    python experiments/adaptation/aimed.py --model-dir ../shared/models/quartznet15x5_en \
        --cache runs/adaptation --out runs/aimed --part 0

Eight directions a part (ten minutes of one core), resumable; ``sketches.py`` puts parts together.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from depthwise import use_fourier
from directional import Directional
from halves import BLANK, Cache, Top, load_whole
from pools import Draw, targets
from results import scores_of
from rich.progress import track
from scoring import is_candidate
from torch import Tensor
from training import labels_of

from egl_fast.methods.samples import sample_labelings
from egl_fast.methods.sparse_cotangents import SparseCotangents

#: In a part.
NUM_DIRECTIONS = 8
#: Labelings drawn for a recording of the pool, and for a target.
NUM_LABELINGS, NUM_TARGET_LABELINGS = 256, 32
#: Targets that share a backward pass.
_TARGETS_TOGETHER = 10
NUM_DRAWS = 8
KINDS = ("aimed", "labeled", "plain")


def distinct_draws(log_probs: Tensor, num_draws: int, name: str) -> tuple[SparseCotangents, Tensor]:
    """Cotangents of the distinct labelings among the draws, and their shares [D], in float64."""
    counts = Counter(sample_labelings(log_probs, num_draws, seed=0, name=name, blank=BLANK))
    shares = torch.tensor(list(counts.values()), dtype=torch.float64) / num_draws
    return SparseCotangents.of(log_probs, list(counts), blank=BLANK), shares


def plain_directions(top: Top, chance: torch.Generator) -> dict[str, Tensor]:
    """z ~ N(0, I)."""
    return {
        name: torch.randn(NUM_DIRECTIONS, *parameter.shape, generator=chance)
        for name, parameter in top.named_parameters()
    }


def aimed_directions(
    top: Top,
    cache: Cache,
    goal: Sequence[int],
    chance: torch.Generator,
    *,
    vocabulary: str | None = None,
) -> dict[str, Tensor]:
    """z ~ N(0, F_T), F_T the mean over targets of E_y[g_y g_y^T].

    z_j is a sum of gradients with normal coefficients, so a backward pass of their cotangents'
    sum makes it, for any number of labelings.

    Args:
        top: the model.
        cache: of all recordings.
        goal: indices of targets.
        chance: of the coefficients.
        vocabulary: if given, the transcripts are the labelings; else they are drawn.
    """
    top = copy.deepcopy(top)
    use_fourier(top)
    parameters = dict(top.named_parameters())
    found = {n: torch.zeros(NUM_DIRECTIONS, *p.shape) for n, p in parameters.items()}
    ordered = sorted(goal, key=lambda i: cache.bounds[i + 1] - cache.bounds[i])
    starts = range(0, len(ordered), _TARGETS_TOGETHER)
    for start in track(starts, "targets"):
        batch = ordered[start : start + _TARGETS_TOGETHER]
        x, lengths = cache.batch(batch)
        with torch.no_grad():
            exact, _ = top(x, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, _ = top(x, lengths)
        rows = torch.zeros(NUM_DIRECTIONS, *exact.shape)
        for place, (index, length) in enumerate(zip(batch, lengths.tolist(), strict=True)):
            log_probs = exact[place, :length].double().log_softmax(1)
            one = cache.recordings[index]
            if vocabulary is None:
                cotangents, shares = distinct_draws(log_probs, NUM_TARGET_LABELINGS, one.id)
            else:
                truth = tuple(labels_of(one.text, vocabulary).tolist())
                cotangents = SparseCotangents.of(log_probs, [truth], blank=BLANK)
                shares = torch.ones(1, dtype=torch.float64)
            normal = torch.randn(NUM_DIRECTIONS, len(shares), generator=chance).double()
            combinations = normal * (shares / len(goal)).sqrt()
            rows[:, place, :length] = cotangents.rows(combinations).float()
        for j, row in enumerate(rows):
            gradients = torch.autograd.grad(
                logits, list(parameters.values()), row.to(logits.dtype), retain_graph=True
            )
            for total, gradient in zip(found.values(), gradients, strict=True):
                total[j] += gradient
    return found


def seen(directional: Directional, frames: Tensor, name: str) -> np.ndarray:
    """sqrt(share_y) phi_y [D, m] float32 of the distinct labelings drawn for a recording.

    E_y[phi_y] is zero, and is not taken off: the mean of the draws would only add its noise.

    Args:
        directional: the model and m directions.
        frames: [T, 512].
        name: decides the draws.
    """
    logits, along = directional(frames)
    log_probs = logits.double().log_softmax(1)
    cotangents, shares = distinct_draws(log_probs, NUM_LABELINGS, name)
    along = along.double()
    at_classes = along[:, :, cotangents.classes].flatten(1)  # [m, T V]
    phi = cotangents.values.flatten(1) @ at_classes.T + (along * cotangents.rest).sum((1, 2))
    return (shares.sqrt()[:, None] * phi).float().numpy()


def in_turn(cache: Cache, draws: Sequence[Draw]) -> list[int]:
    """All candidates: first those that the gate of the first draw leaves, and so on.

    Those of a turn by length, so that transforms of the weights are used more than once.
    """
    turns: dict[int, int] = {}
    for number, draw in enumerate(draws):
        turns |= dict.fromkeys(set(draw.gated) - turns.keys(), number)
    candidates = [index for index, one in enumerate(cache.recordings) if is_candidate(one)]
    return sorted(
        candidates,
        key=lambda i: (turns.get(i, len(draws)), cache.bounds[i + 1] - cache.bounds[i]),
    )


def main() -> None:
    """Look at all candidates, or at a sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("experiments/results/adaptation"))
    parser.add_argument("--kind", choices=KINDS, default="aimed")
    parser.add_argument("--part", type=int, default=0, help="other directions of the same kind")
    parser.add_argument("--trusted", type=int, metavar="DRAW")
    parser.add_argument("--sample", type=int, help="how many recordings; all unless given")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cache = Cache(args.cache)
    module, whole = load_whole(args.model_dir)
    top = Top(whole).eval()
    embeddings = np.load(args.cache / "embeddings.npy")
    scores = scores_of(args.results, args.cache)
    draws = [Draw.of("accented", number, cache, scores, embeddings) for number in range(NUM_DRAWS)]
    pool = in_turn(cache, draws)
    if args.sample is not None:
        some = set(random.Random("sample").sample(sorted(pool), args.sample))
        pool = [index for index in pool if index in some]
    args.out.mkdir(parents=True, exist_ok=True)
    name = args.kind if args.trusted is None else f"{args.kind}-{args.trusted}"
    folder = args.out / f"{name}.{args.part}"
    folder.mkdir(parents=True, exist_ok=True)
    left = [index for index in pool if not (folder / f"{index}.npy").exists()]
    chance = torch.Generator().manual_seed(args.part)
    if args.kind == "plain":
        directions = plain_directions(top, chance)
    else:
        goal = targets(cache)
        if args.trusted is not None:
            goal = random.Random("targets").sample(draws[args.trusted].trusted, len(goal))
        vocabulary = module.VOCAB if args.kind == "labeled" else None
        directions = aimed_directions(top, cache, goal, chance, vocabulary=vocabulary)
    directional = Directional(top, directions)
    for index in track(left, folder.name):
        found = seen(directional, cache.batch([index])[0][0], cache.recordings[index].id)
        np.save(folder / f"{index}.npy", found)


if __name__ == "__main__":
    main()
