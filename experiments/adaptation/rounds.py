"""The budget in four rounds: train on what was picked, and rank the rest by that model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from halves import BLANK, Cache, Top
from pools import Draw
from training import batches, train

from egl_fast.ops import ctc_beam_search

ROUNDS = 4
#: More would change the order of few recordings.
BEAM_WIDTH = 100

#: Name -> the candidates. All rank by ``pctc``.
IN_ROUNDS: dict[str, Callable[[Draw], list[int]]] = {"gate pctc in rounds": lambda d: d.gated}


def in_rounds(
    draw: Draw, candidates: Callable[[Draw], list[int]], base: Top, vocabulary: str
) -> list[int]:
    """What is picked in all rounds, best first within each. Trains copies of the base."""
    left = candidates(draw)
    scores = {index: draw.score(index, "pctc") for index in left}
    picks: list[int] = []
    for number in range(1, ROUNDS + 1):
        order = sorted(left, key=lambda index: scores[index], reverse=True)
        picks = draw.within_budget([*picks, *order], share=number / ROUNDS)
        left = [index for index in left if index not in set(picks)]
        if number < ROUNDS:
            model = copy.deepcopy(base)
            kept = [index for index in picks if not draw.is_rejected(index)]
            train(model, draw.cache, kept, vocabulary, seed=draw.number)
            scores = dict(zip(left, pctc(model, draw.cache, left), strict=True))
    return picks


@torch.inference_mode()
def pctc(top: Top, cache: Cache, indices: Sequence[int]) -> list[float]:
    """-log p of the best labeling, per frame."""
    found: dict[int, float] = {}
    for batch in batches(cache, indices):
        logits, lengths = top(*cache.batch(batch))
        best = ctc_beam_search(
            logits.double().log_softmax(2),
            lengths,
            num_hypotheses=1,
            beam_width=BEAM_WIDTH,
            blank=BLANK,
        )
        for index, log_prob, length in zip(
            batch, best.log_prob[:, 0].tolist(), lengths.tolist(), strict=True
        ):
            found[index] = -log_prob / length
    return [found[index] for index in indices]
