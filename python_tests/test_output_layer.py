"""The output layer's part of every norm is known before any backward pass."""

from __future__ import annotations

import pytest
import torch
from foreign_models import NUM_BINS, NUM_CLASSES, VOCABULARY, Small, batch
from torch import Tensor, nn

import egl_fast
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of


@pytest.mark.parametrize("log_softmax", [False, True])
def test_the_output_layer_is_known_before_any_pass(log_softmax: bool) -> None:
    model = Small(log_softmax=log_softmax).double()
    engine = GradientEngine(model)
    tape = engine.run(torch.randn(1, 5, 4, dtype=torch.float64), torch.tensor([5]))
    layer = output_layer_of(tape)
    assert layer is not None
    assert layer.names == ("output.weight", "output.bias")
    cotangents = torch.randn(1, 3, 5, 3, dtype=torch.float64)
    cotangents -= cotangents.mean(3, keepdim=True)  # like those of a CTC loss
    norms = engine.sq_norms(tape, cotangents)
    frame_gram = layer.frame_gram(torch.tensor([5]))[0]
    known = (cotangents[0] * (frame_gram @ cotangents[0])).sum((1, 2))
    torch.testing.assert_close(
        known, (norms["output.weight"] + norms["output.bias"])[0], rtol=1e-12, atol=0
    )


class Tied(nn.Module):
    """The output layer's weight is used a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_BINS, 8)
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        h = self.hidden(x).tanh()
        return self.output(h + (self.output(h).tanh() @ self.output.weight)), lengths


def test_a_tied_output_layer_is_not_taken_for_known() -> None:
    torch.manual_seed(0)
    model = Tied().double()
    x, lengths = batch()
    tape = GradientEngine(model).run(x[:1], lengths[:1])
    assert output_layer_of(tape) is None
    scorer = egl_fast.Scorer(model, VOCABULARY)
    [exact] = scorer.score_batch(x[:1], lengths[:1], k=30)
    [close] = scorer.score_batch(x[:1], lengths[:1], k=30, method="lowrank", tolerance=1e-3)
    assert close.egl == pytest.approx(exact.egl, rel=1e-2)
