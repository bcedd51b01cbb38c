"""How unsure a model is of the words that it hears, from the entropies of their frames.

Laptev and Ginsburg, "Fast Entropy-Based Methods of Word-Level Confidence Estimation for End-to-End
Automatic Speech Recognition", SLT 2022. Of what they compare, this is what they recommend:
exponential normalization, order 1/3, blank frames left out, and the least sure frame of a word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from egl_fast.recognizers.classes import Classes

#: The order of the entropies. Below 1, unlikely classes count for more than in Shannon's.
ALPHA = 1 / 3


class WordUncertainty(NamedTuple):
    """1 - confidence, from 0 (sure of every word) to 1, by two entropies."""

    tsallis: float
    renyi: float


def word_uncertainty(log_probs: Tensor, classes: Classes) -> WordUncertainty:
    """The mean uncertainty of the words of the best path, or of all frames where there is no word.

    Args:
        log_probs: [T, C] of one utterance.
        classes: the C classes.
    """
    words = words_of_path(log_probs.argmax(dim=1).tolist(), classes)
    words = words or [list(range(len(log_probs)))]
    frames = frame_uncertainties(log_probs).tolist()
    return WordUncertainty(
        *(math.fsum(max(own[t] for t in word) for word in words) / len(words) for own in frames)
    )


def frame_uncertainties(log_probs: Tensor) -> Tensor:
    """[2, T] float64, by Tsallis and by Renyi entropy: 1 - F of the paper's section 3.

    F = (exp(-H) - exp(-H_max)) / (1 - exp(-H_max)), where H_max is the entropy of the uniform
    distribution. So 1 - F = (1 - exp(-H)) / (1 - exp(-H_max)).
    """
    num_classes = log_probs.shape[1]
    if num_classes == 1:
        return log_probs.new_zeros(2, len(log_probs), dtype=torch.float64)
    sums = (ALPHA * log_probs.double()).exp().sum(dim=1)
    largest = num_classes ** (1 - ALPHA)
    found = [
        torch.expm1(-entropy).div(math.expm1(-maximum))
        for entropy, maximum in (
            ((sums - 1) / (1 - ALPHA), (largest - 1) / (1 - ALPHA)),
            (sums.log() / (1 - ALPHA), math.log(num_classes)),
        )
    ]
    return torch.stack(found).clamp(0.0, 1.0)  # except for rounding, they are in between


def words_of_path(path: Sequence[int], classes: Classes) -> list[list[int]]:
    """The frames of each word of a path, without those of spaces and of classes that are not text.

    A word begins at a label whose text begins with a space, and after a label whose text ends with
    one. Without such labels, everything is one word.

    Args:
        path: [T] class indices.
        classes: what they stand for.
    """
    words: list[list[int]] = []
    begins = True
    for t, (label, previous) in enumerate(zip(path, (classes.blank, *path), strict=False)):
        text = classes.spelling.pieces[label].decode("utf-8", "replace")
        if not text:  # the blank, or another class that is not text
            continue
        is_new = label != previous
        begins |= is_new and text[:1].isspace()
        if text.isspace():
            continue
        if is_new and begins:
            words.append([])
        words[-1].append(t)
        begins = text[-1:].isspace()
    return words
