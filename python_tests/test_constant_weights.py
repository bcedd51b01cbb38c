"""Linear layers and pointwise convolutions of large constant weights, by other products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES
from test_engine import assert_norms_equal_the_loop
from torch import Tensor, nn

from egl_fast.compute import linear
from egl_fast.compute.linear import constant_linear
from egl_fast.compute.pointwise import PointwiseConvolution
from egl_fast.gradients.engine import GradientEngine

WIDTH = 300


@pytest.mark.parametrize("num_rows", [3, 20])
@pytest.mark.parametrize(
    ("own", "torchs", "shape"),
    [
        (constant_linear, F.linear, (2, 40, WIDTH)),
        (
            lambda x, w, _: PointwiseConvolution.apply(x, w),
            lambda x, w, _: F.conv1d(x, w[:, :, None]),
            (2, WIDTH, 40),
        ),
    ],
    ids=["linear", "pointwise"],
)
def test_outputs_and_cotangents_are_torchs(
    own: Callable[..., Tensor],
    torchs: Callable[..., Tensor],
    shape: tuple[int, ...],
    num_rows: int,
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(WIDTH + 1, WIDTH)
    bias = torch.randn(WIDTH + 1)
    y, expected = own(x, weight, bias), torchs(x, weight, bias)
    assert type(y.grad_fn) is not type(expected.grad_fn)
    # Sums of WIDTH products of numbers of size 1, either side.
    rounding = 2 * WIDTH * torch.finfo(x.dtype).eps * WIDTH**0.5
    torch.testing.assert_close(y, expected, rtol=0, atol=rounding)
    rows = torch.randn(num_rows, *y.shape)

    def pulled_back(output: Tensor) -> Tensor:
        return torch.func.vmap(
            lambda row: torch.autograd.grad(output, x, row, retain_graph=True)[0]
        )(rows)

    torch.testing.assert_close(pulled_back(y), pulled_back(expected), rtol=0, atol=rounding)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Linear(NUM_BINS, 12),
        lambda: nn.Linear(NUM_BINS, 12, bias=False),
        lambda: _Transposed(nn.Conv1d(NUM_BINS, 12, 1)),
        lambda: _Transposed(nn.Conv1d(NUM_BINS, 12, 1, bias=False)),
        lambda: _Transposed(nn.Conv1d(NUM_BINS, 12, 1, stride=2)),
        lambda: _Transposed(nn.Conv1d(NUM_BINS, 12, 1, groups=1, padding=1)),
    ],
    ids=["linear", "no_bias", "pointwise", "pointwise_no_bias", "strided", "padded"],
)
def test_norms_are_exact(layer: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small weights, as if they were large."""
    monkeypatch.setattr(linear, "LARGE_WEIGHT", 1)
    monkeypatch.setattr("egl_fast.gradients.rules.convolution.LARGE_WEIGHT", 1)
    torch.manual_seed(0)
    inputs = torch.randn(3, 15, NUM_BINS), torch.tensor([15, 15, 15])
    assert_norms_equal_the_loop(_Stack(layer()), inputs, torch.float32)
    tape = GradientEngine(_Stack(layer())).run(*(x[:1] for x in inputs))
    assert len(tape.calls) == 3


class _Transposed(nn.Module):
    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.mT).mT
        return y


class _Stack(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inputs = nn.Linear(NUM_BINS, NUM_BINS)
        self.layer = layer
        self.output = nn.Linear(12, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y: Tensor = self.output(self.layer(self.inputs(x).tanh()).tanh())
        return y, torch.full_like(lengths, y.shape[1])
