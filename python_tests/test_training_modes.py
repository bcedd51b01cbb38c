"""A model is scored in evaluation mode and returned in the modes it had."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, VOCABULARY, Head, batch, encoder
from torch import Tensor, nn

import egl_fast


class Loud(Head):
    """Raises after switching to evaluation mode."""

    def eval(self) -> Loud:
        super().eval()
        raise OSError("not now")


def test_modes_come_back_where_eval_raises() -> None:
    model = Loud(encoder()).train()
    model.encoder[0].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(OSError, match="not now"):
        egl_fast.Scorer(model, VOCABULARY).score_batch(*batch(dtype=torch.float32), k=3)
    assert [module.training for module in model.modules()] == modes


class LowRank(nn.Module):
    """Merges an update into its weight for evaluation, and removes it for training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, 8), requires_grad=False)
        self.down, self.up = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(8, 2))
        self.merged = False

    def train(self, mode: bool = True) -> LowRank:
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight)
        return y if self.merged else y + F.linear(F.linear(x, self.down), self.up)


def test_modules_return_to_training_by_their_own_train_method() -> None:
    model = Head(nn.Sequential(nn.Linear(NUM_BINS, 8), LowRank())).train()
    layer: Any = model.encoder[1]
    weight = layer.weight.clone()
    # The update is undone before the backward pass, which is noticed.
    with pytest.raises(egl_fast.errors.ModelError, match=r"weights that train\(\) or eval\(\)"):
        egl_fast.Scorer(model, VOCABULARY).score_batch(*batch(dtype=torch.float32), k=3)
    assert layer.training
    assert not layer.merged
    torch.testing.assert_close(layer.weight, weight)


def test_an_exported_program_has_no_modes() -> None:
    model = Head(encoder()).eval()
    x, lengths = batch(dtype=torch.float32)
    x, lengths = x[:1], lengths[:1]
    program = torch.export.export(model, (x, lengths))
    [expected] = egl_fast.Scorer(model, VOCABULARY).score_batch(x, lengths, k=3)
    [record] = egl_fast.Scorer(program.module(), VOCABULARY).score_batch(x, lengths, k=3)
    # The same sums, but by autograd instead of by rules.
    assert record.egl == pytest.approx(expected.egl, rel=1e-5)
    with pytest.raises(egl_fast.errors.ModelError, match=r"ExportedProgram; .*program\.module\(\)"):
        egl_fast.Scorer(program, VOCABULARY)
