"""A score, and the same number from training's own backward passes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, VOCABULARY
from torch import Tensor, nn

import egl_fast

FRAMES = 12


def utterance(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x = torch.randn(1, FRAMES, NUM_BINS, generator=torch.Generator().manual_seed(3))
    return x.to(dtype), torch.tensor([FRAMES])


def score(model: nn.Module, **options: Any) -> egl_fast.ScoreRecord:
    x, lengths = utterance()
    scorer = egl_fast.Scorer(model, VOCABULARY)
    [record] = scorer.score_batch(x, lengths, k=4, per_hypothesis=True, **options)
    return record


def by_backward(model: nn.Module, record: egl_fast.ScoreRecord) -> float:
    """``egl`` from one backward pass per labeling, as in training."""
    x, lengths = utterance()
    model.eval()
    total = 0.0
    for hypothesis in record.hypotheses:
        model.zero_grad()
        logits, _ = model(x, lengths)
        loss = F.ctc_loss(
            logits.log_softmax(2).transpose(0, 1),
            torch.tensor([hypothesis.labels], dtype=torch.int64),
            lengths,
            torch.tensor([len(hypothesis.labels)]),
            reduction="sum",
        )
        loss.backward()
        gradients = [p.grad.to_dense() for p in model.parameters() if p.grad is not None]
        norms = [g.to(torch.complex128).abs().square().sum().item() for g in gradients]
        total += math.exp(hypothesis.log_prob) * sum(norms)
    model.zero_grad()
    return total
