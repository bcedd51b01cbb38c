"""Random CTC problems, and how far apart two correct answers to one may be."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from egl_fast.ops import Hypotheses

EPS = torch.finfo(torch.float64).eps

# The same problems in every run, however slow the machine.
deterministic = settings(derandomize=True, deadline=None, database=None, max_examples=300)


@dataclass(frozen=True)
class CtcProblem:
    """One utterance: ``probs`` [T, C] float64, entries may be 0, rows need not sum to 1."""

    probs: Tensor
    blank: int

    @property
    def log_probs(self) -> Tensor:
        return self.probs.log()

    @property
    def rounding(self) -> float:
        return rounding(self.log_probs)


def rounding(log_probs: Tensor) -> float:
    """How far apart two ways of summing the same alignments in the log domain may be.

    A frame rounds a log mass at most four times (a sum of up to three masses, an emission, the
    total), on either side, and no log mass is larger than the largest emissions of all frames.
    """
    finite = log_probs[log_probs > -torch.inf]
    T = max(1, log_probs.shape[0])
    largest = max(1.0, float(finite.abs().max()) if finite.numel() else 0.0)
    return 2 * 4 * T * (T * largest) * EPS


def enumerate_in_logs(log_probs: Tensor, blank: int) -> dict[tuple[int, ...], float]:
    """Log-probability of every labeling that is possible, from all C^T alignments.

    Every alignment's logarithm is added up without rounding errors (``math.fsum``), and no
    probability is formed but beside the labeling's largest, so nothing underflows that matters.
    """
    frames = log_probs.double().tolist()
    alignments: dict[tuple[int, ...], list[float]] = {}
    for path in itertools.product(*(range(len(frame)) for frame in frames)):
        log_prob = math.fsum(frame[c] for frame, c in zip(frames, path, strict=True))
        if log_prob > -math.inf:
            labeling = tuple(c for c, _ in itertools.groupby(path) if c != blank)
            alignments.setdefault(labeling, []).append(log_prob)
    return {
        labeling: max(own) + math.log(math.fsum(math.exp(x - max(own)) for x in own))
        for labeling, own in alignments.items()
    }


def extreme_log_probs(seed: int, dtype: torch.dtype) -> Tensor:
    """[T, C] up to [5, 4] of a few numbers, near where doubles and floats underflow, or ties."""
    generator = random.Random(seed)
    levels = [0.0, -1e-9, -0.7, -50.0, -103.5, -200.0, -300.0, -350.0, -372.0, -400.0, -660.0,
              -668.0, -699.0, -709.0, -745.0, -1102.0, -1762.0, -1e4, -math.inf]  # fmt: skip
    few = [*generator.choices(levels, k=3), generator.uniform(-720, 0)]
    T, C = generator.randint(1, 5), generator.randint(1, 4)
    return torch.tensor([generator.choices(few, k=C) for _ in range(T)], dtype=dtype)


@st.composite
def small_problems(
    draw: st.DrawFn, *, min_frames: int = 0, max_frames: int = 5, max_classes: int = 4
) -> CtcProblem:
    """Problems that can be enumerated: ties, impossible classes and near-certain ones included."""
    T = draw(st.integers(min_frames, max_frames))
    C = draw(st.integers(1, max_classes))
    blank = draw(st.integers(0, C - 1))
    # Few levels, so that ties are common; 1e-9 beside 1 makes a frame all but certain.
    level = st.sampled_from([0.0, 1e-9, 0.125, 0.25, 0.5, 1.0])
    weights = torch.tensor(
        draw(st.lists(st.lists(level, min_size=C, max_size=C), min_size=T, max_size=T)),
        dtype=torch.float64,
    ).reshape(T, C)
    total = weights.sum(dim=1, keepdim=True)
    probs = torch.where(total > 0, weights / total, weights)  # a frame may allow nothing at all
    return CtcProblem(probs, blank)


def random_logits(
    seed: int, num_utterances: int, num_frames: int, num_classes: int, *, scale: float = 3.0
) -> Tensor:
    """[N, T, C] float64 normal logits; the larger ``scale``, the more peaked."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_utterances, num_frames, num_classes)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def as_hypotheses(labelings: list[list[tuple[int, ...]]]) -> Hypotheses:
    """Labelings of each utterance as operator input; the log-probabilities are not read, so NaN."""
    N, K = len(labelings), max(map(len, labelings), default=0)
    U = max((len(labeling) for row in labelings for labeling in row), default=0)
    labels = torch.full((N, K, U), -1)
    label_lengths = torch.zeros(N, K, dtype=torch.int64)
    for n, row in enumerate(labelings):
        for k, labeling in enumerate(row):
            labels[n, k, : len(labeling)] = torch.tensor(labeling, dtype=torch.int64)
            label_lengths[n, k] = len(labeling)
    unknown = torch.full((N, K), torch.nan, dtype=torch.float64)
    counts = torch.tensor([len(row) for row in labelings], dtype=torch.int64)
    return Hypotheses(labels, label_lengths, unknown, unknown, counts)


def labelings_of(hypotheses: Hypotheses, n: int) -> list[tuple[int, ...]]:
    """Utterance n's labelings as tuples, best first."""
    return [
        tuple(hypotheses.labels[n, k, : hypotheses.label_lengths[n, k]].tolist())
        for k in range(int(hypotheses.counts[n]))
    ]
