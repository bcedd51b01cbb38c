"""Squared norms of convolutions, by each route to them."""

from __future__ import annotations

import pytest
import torch
from foreign_models import NUM_BINS, NUM_CLASSES, batch
from test_engine import assert_norms_equal_the_loop, spectrograms
from torch import Tensor, nn

from egl_fast.model import DeepSpeech2, preset


def test_norms_of_one_weight_in_two_groupings_equal_the_loop() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one = nn.Conv1d(3, 6, 3, padding=1, bias=False)
            self.two = nn.Conv1d(6, 6, 3, padding=1, bias=False, groups=2)
            self.two.weight = self.one.weight
            self.output = nn.Linear(6, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            y = self.two(self.one(x.transpose(1, 2)[:, :3]).tanh())
            return self.output(y.transpose(1, 2)), lengths

    assert_norms_equal_the_loop(Grouped().double(), batch(), torch.float64)


def test_norms_from_patches_in_blocks_equal_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from egl_fast.gradients.rules import convolution

    torch.manual_seed(0)
    model = DeepSpeech2(preset("tiny")).double()
    # A frame of the first convolution's patches is 81 x 451 doubles: blocks of 3 frames.
    monkeypatch.setattr(convolution, "BLOCK_BYTES", 3 * 81 * 451 * 8)
    assert_norms_equal_the_loop(model, spectrograms(torch.float64), torch.float64)


def test_norms_over_few_positions_equal_the_loop() -> None:
    """Kernels with more inputs than positions take the other route; grouped and plain."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.wide = nn.Conv1d(NUM_BINS, 8, 5, padding=2)
            self.grouped = nn.Conv1d(8, 8, 7, padding="same", groups=2)
            self.output = nn.Linear(8, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.output(self.grouped(self.wide(x.transpose(1, 2)).tanh()).mT), lengths

    assert_norms_equal_the_loop(Wide().double(), batch(), torch.float64)
