"""CTC forward-backward for one labeling: log domain, float64, plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LOG_ZERO = -math.inf


def log_add(*values: float) -> float:
    """log(sum(exp(values))); -inf stands for zero, and is the sum of no values."""
    largest = max(values, default=LOG_ZERO)
    if largest == LOG_ZERO:
        return LOG_ZERO
    return largest + math.log(sum(math.exp(value - largest) for value in values))


def ctc_forward_backward(
    log_probs: Tensor, labels: Sequence[int], *, blank: int = 0
) -> tuple[float, Tensor]:
    """Exact log p(labels | utterance), and the occupancy given the labeling.

    Graves et al., "Connectionist Temporal Classification" (2006), section 4.1, with one
    difference: ``beta`` here leaves out its own frame's emission, so that ``alpha + beta`` counts
    each emission once and log zero needs no division.

    Args:
        log_probs: [T, C], log-softmax over C; T may be 0, entries may be -inf.
        labels: U class indices other than ``blank``; may be empty.
        blank: the blank's class index.

    Returns:
        The log-probability, and the occupancy [T, C] float64: the posterior of each class at each
        frame. For an impossible labeling, -inf and zeros.

    Example:
        >>> log_prob, occupancy = ctc_forward_backward(torch.tensor([[0.25, 0.75]]).log(), [1])
        >>> round(math.exp(log_prob), 6), occupancy.tolist()
        (0.75, [[0.0, 1.0]])
    """
    T, C = log_probs.shape
    emission = log_probs.double().tolist()
    states = [blank]
    for label in labels:
        states += [label, blank]
    S = len(states)
    occupancy = torch.zeros(T, C, dtype=torch.float64)
    if T == 0:
        return (0.0 if not labels else LOG_ZERO), occupancy

    def predecessors(s: int) -> list[int]:
        """States from which an alignment may come to state s, one frame later."""
        skips = s >= 2 and states[s] != blank and states[s] != states[s - 2]
        return [s] + [s - 1] * (s >= 1) + [s - 2] * skips

    alpha = [[LOG_ZERO] * S for _ in range(T)]
    for s in range(min(2, S)):
        alpha[0][s] = emission[0][states[s]]
    for t in range(1, T):
        for s in range(S):
            arriving = log_add(*(alpha[t - 1][p] for p in predecessors(s)))
            alpha[t][s] = arriving + emission[t][states[s]]

    beta = [[LOG_ZERO] * S for _ in range(T)]
    for s in range(max(0, S - 2), S):
        beta[T - 1][s] = 0.0
    for t in range(T - 2, -1, -1):
        leaving: list[list[float]] = [[] for _ in range(S)]
        for s in range(S):
            for p in predecessors(s):
                leaving[p].append(beta[t + 1][s] + emission[t + 1][states[s]])
        beta[t] = [log_add(*values) for values in leaving]

    log_prob = log_add(*alpha[T - 1][max(0, S - 2) :])
    if log_prob > LOG_ZERO:
        for t in range(T):
            for s in range(S):
                occupancy[t, states[s]] += math.exp(alpha[t][s] + beta[t][s] - log_prob)
    return log_prob, occupancy
