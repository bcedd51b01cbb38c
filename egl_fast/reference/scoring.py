"""Expected Gradient Length the plain way, from model to score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from egl_fast.reference.beam_search import ctc_prefix_beam_search
from egl_fast.reference.ctc import ctc_forward_backward
from egl_fast.reference.gradients import looped_sq_norms


@dataclass(frozen=True)
class ReferenceScore:
    """The contents of an utterance's ``ScoreRecord``, computed the slow way."""

    # (labels, log p(labels|x), squared gradient norm), best first.
    hypotheses: list[tuple[tuple[int, ...], float, float]]
    egl: float  # Eq. 4 of Huang et al. (2016) over the hypotheses
    egl_unsquared: float  # the same with lengths instead of squared lengths
    beam_mass: float  # probability that the hypotheses hold
    entropy: float  # nats, mean over frames
    pctc: float  # -log p of the best labeling, per frame


def reference_score(
    model: nn.Module, inputs: tuple[Any, ...], *, k: int, beam_width: int, blank: int = 0
) -> ReferenceScore:
    """Score one utterance with a float64 model in evaluation mode."""
    with torch.no_grad():
        logits, lengths = model(*inputs)
    log_probs = logits[0, : int(lengths[0])].double().log_softmax(dim=1)
    found = ctc_prefix_beam_search(log_probs, beam_width=beam_width, blank=blank)
    ranked = sorted(
        ((ctc_forward_backward(log_probs, labels, blank=blank)[0], labels) for labels, _ in found),
        key=lambda pair: (-pair[0], pair[1]),
    )[:k]
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    norms = looped_sq_norms(
        model, inputs, [labels for _, labels in ranked], parameters=parameters, blank=blank
    )
    sq_norms = [sum(by_parameter.values()) for by_parameter in norms]
    probabilities = [math.exp(log_prob) for log_prob, _ in ranked]
    frames = [
        -sum(math.exp(log_p) * log_p for log_p in row if log_p > -math.inf)
        for row in log_probs.tolist()
    ]
    return ReferenceScore(
        hypotheses=[
            (tuple(labels), log_prob, sq_norm)
            for (log_prob, labels), sq_norm in zip(ranked, sq_norms, strict=True)
        ],
        egl=sum(p * s for p, s in zip(probabilities, sq_norms, strict=True)),
        egl_unsquared=sum(p * math.sqrt(s) for p, s in zip(probabilities, sq_norms, strict=True)),
        beam_mass=sum(probabilities),
        entropy=sum(frames) / len(frames),
        pctc=-ranked[0][0] / len(frames),
    )
