"""A model's own exception is passed on unchanged and leaves no trace in the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foreign_models import VOCABULARY, Head, batch, encoder
from torch import Tensor, nn

import egl_fast


class Interrupted(Head):
    """Fails in one of its passes, between two layers."""

    def __init__(self, error: BaseException, *, at: int) -> None:
        super().__init__(encoder())
        self.error, self.at, self.passes = error, at, 0

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        self.passes += 1
        y = self.encoder(x)
        if self.passes == self.at:
            raise self.error
        return self.output(y), lengths


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_the_users_own_exception_comes_through(error: BaseException, at: int) -> None:
    """From a pass of the batch, the tape, or the comparison with autograd."""
    model = Interrupted(error, at=at).train()
    model.output.weight.grad = torch.ones_like(model.output.weight)
    x, lengths = batch(dtype=torch.float32)
    scorer = egl_fast.Scorer(model, VOCABULARY)
    state = torch.get_rng_state()
    with pytest.raises(type(error)) as raised:
        scorer.score_batch(x, lengths, k=3)
    assert raised.value is error
    assert any(entry.name == "forward" for entry in raised.traceback)
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(isinstance(p, nn.Parameter) for m in model.modules() for p in m.parameters())
    assert model.output.weight.grad.eq(1.0).all()
    assert model.encoder[0].weight.grad is None
    assert torch.get_rng_state().equal(state)
    model.at = 0
    fresh = egl_fast.Scorer(model, VOCABULARY)
    assert scorer.score_batch(x, lengths, k=3) == fresh.score_batch(x, lengths, k=3)


def test_a_failure_that_is_not_of_vectorizing_does_not_end_it() -> None:
    class Fragile(torch.autograd.Function):
        broken = True

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
            if Fragile.broken:
                raise RuntimeError("the license server does not answer")
            return cotangents[0]

    model = Head(encoder())
    inner = model.encoder.forward
    model.encoder.forward = lambda x: Fragile.apply(inner(x))  # type: ignore[method-assign]
    scorer = egl_fast.Scorer(model, VOCABULARY)
    with pytest.raises(RuntimeError, match="license server"):
        scorer.score_batch(*batch(dtype=torch.float32), k=3)
    assert scorer._engine._autograd._vectorizes
