"""Training of the top half on picked recordings, and its test."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import torch
from halves import BLANK, Cache, Top
from torch import Tensor
from torch.nn import functional as F

EPOCHS = 6
BATCH_SECONDS = 48.0
LEARNING_RATE = 3e-4
MASKED_FRAMES = 20
#: Of the cosine's rise from zero, as a share of all steps.
WARM_UP = 0.1


@dataclass(frozen=True)
class Errors:
    """Of one test recording: edits and reference lengths, by characters and words."""

    char_edits: int
    chars: int
    word_edits: int
    words: int


def labels_of(text: str, vocabulary: str) -> Tensor:
    """Class indices of a text; what the vocabulary lacks is left out."""
    return torch.tensor([vocabulary.index(c) for c in text if c in vocabulary])


def train(top: Top, cache: Cache, picks: Sequence[int], vocabulary: str, *, seed: int) -> None:
    """Train in place: AdamW, a cosine with warm-up, two short time masks, bfloat16 products.

    Args:
        top: what is trained.
        cache: inputs and texts.
        picks: indices of recordings.
        vocabulary: class names in order.
        seed: of order and masks.
    """
    chance = random.Random(seed)
    shuffled = batches(cache, picks)
    optimizer = torch.optim.AdamW(top.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    steps = EPOCHS * len(shuffled)

    def rate(step: int) -> float:
        warm = WARM_UP * steps
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    top.train()
    for _ in range(EPOCHS):
        chance.shuffle(shuffled)
        for batch in shuffled:
            x, lengths = cache.batch(batch)
            _mask(x, lengths, chance)
            targets = [labels_of(cache.recordings[i].text, vocabulary) for i in batch]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits, _ = top(x, lengths)
            loss = F.ctc_loss(
                logits.float().log_softmax(2).transpose(0, 1),
                torch.cat(targets),
                lengths,
                torch.tensor([len(t) for t in targets]),
                blank=BLANK,
                zero_infinity=True,
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(top.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    top.eval()


def batches(cache: Cache, picks: Sequence[int]) -> list[list[int]]:
    """Recordings of like length, so many that their padded audio fits ``BATCH_SECONDS``."""
    found: list[list[int]] = [[]]
    for index in sorted(picks, key=lambda i: cache.recordings[i].seconds):
        longest = cache.recordings[index].seconds
        if found[-1] and longest * (len(found[-1]) + 1) > BATCH_SECONDS:
            found.append([])
        found[-1].append(index)
    return found


def _mask(x: Tensor, lengths: Tensor, chance: random.Random) -> None:
    for row, length in zip(x, lengths.tolist(), strict=True):
        for _ in range(2):
            width = chance.randint(0, min(MASKED_FRAMES, length // 4))
            start = chance.randint(0, length - width)
            row[start : start + width] = 0


@torch.inference_mode()
def test(top: Top, cache: Cache, indices: Sequence[int], vocabulary: str) -> list[Errors]:
    """Errors of the best path, recording by recording."""
    found: dict[int, Errors] = {}
    for batch in batches(cache, indices):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, lengths = top(*cache.batch(batch))
        for index, frames, length in zip(batch, logits.argmax(2), lengths.tolist(), strict=True):
            labels = torch.unique_consecutive(frames[:length]).tolist()
            heard = "".join(vocabulary[c] for c in labels if c != BLANK)
            found[index] = _errors(cache.recordings[index].text, " ".join(heard.split()))
    return [found[index] for index in indices]


def _errors(truth: str, heard: str) -> Errors:
    chars, words = jiwer.process_characters(truth, heard), jiwer.process_words(truth, heard)
    edits = [o.substitutions + o.deletions + o.insertions for o in (chars, words)]
    return Errors(edits[0], len(truth), edits[1], len(truth.split()))
