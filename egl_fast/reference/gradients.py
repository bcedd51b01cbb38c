"""Squared gradient norms the plain way: one autograd backward pass per hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def looped_sq_norms(
    model: Callable[..., Any],
    inputs: tuple[Any, ...],
    labelings: Sequence[Sequence[int]],
    *,
    parameters: Mapping[str, nn.Parameter],
    utterance: int = 0,
    blank: int = 0,
) -> list[dict[str, float]]:
    """||d(-log p(y|x)) / d parameter||^2 by autograd, for each labeling, by parameter name.

    The loss is ``torch.nn.functional.ctc_loss``, the model runs once, and every labeling has a
    separate backward pass: what Huang et al. (2016) describe, and what users write.

    The model, in evaluation mode, returns (logits [N, T, C], lengths [N]); labelings are class
    indices for one utterance of the batch. A parameter that the loss does not depend on has 0.
    """
    with torch.enable_grad():
        logits, lengths = model(*inputs)
        log_probs = logits[utterance : utterance + 1].log_softmax(dim=2).transpose(0, 1)
        results = []
        for labels in labelings:
            loss = F.ctc_loss(
                log_probs,
                torch.tensor([list(labels)], dtype=torch.int64),
                lengths[utterance : utterance + 1].cpu(),
                torch.tensor([len(labels)]),
                blank=blank,
                reduction="sum",
            )
            gradients = torch.autograd.grad(
                loss, list(parameters.values()), retain_graph=True, allow_unused=True
            )
            results.append(dict(zip(parameters, map(_sq_norm, gradients), strict=True)))
        return results


def _sq_norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.detach().double().square().sum())
