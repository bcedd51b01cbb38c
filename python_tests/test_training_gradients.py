"""Scores are those of training, whatever a model does between its layers.

The expected score is the sum over its labelings, weighted by probability, of the squared gradients
that ``loss.backward()`` leaves in the untouched model, with torch's CTC loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from foreign_models import NUM_CLASSES, build
from plain_training import by_backward, score
from sandwich import Sandwich
from torch import Tensor, nn


def _autocast(model: Sandwich, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model.mid(x)
        return (y[0] if isinstance(y, tuple) else y).float()


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, 8, generator=generator, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.weight.dtype) @ self.weight).abs()


@torch.compile(backend="aot_eager")
def _compiled(model: Sandwich, x: Tensor) -> Tensor:
    return model.mid(x).tanh()


def _scripted(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        return torch.jit.script(module)


#: Models, and how far scores may be off: the promise for float32; two passes in 16 bits sum in
#: another order, which leaves a few roundings of 2^-9.
RIGHT: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "autocast inside": (lambda: Sandwich(_autocast), 1e-2),
    "autocast around a GRU": (lambda: Sandwich(_autocast, nn.GRU(8, 8, batch_first=True)), 1e-2),
    "autocast around an LSTM": (lambda: Sandwich(_autocast, nn.LSTM(8, 8, batch_first=True)), 1e-2),
    "a layer in bfloat16": (
        lambda: Sandwich(lambda m, x: m.mid(x.bfloat16()), nn.Linear(8, 8).bfloat16()),
        1e-2,
    ),
    "a layer in float16": (
        lambda: Sandwich(lambda m, x: m.mid(x.half()), nn.Linear(8, 8).half()),
        1e-2,
    ),
    "a GRU in bfloat16": (
        lambda: Sandwich(
            lambda m, x: m.mid(x.bfloat16())[0], nn.GRU(8, 8, batch_first=True).bfloat16()
        ),
        1e-2,
    ),
    "a GRU in float64": (
        lambda: Sandwich(
            lambda m, x: m.mid(x.double())[0], nn.GRU(8, 8, batch_first=True).double()
        ),
        1e-4,
    ),
    "a complex parameter": (lambda: Sandwich(lambda m, x: m.mid(x), Complex()), 1e-4),
    "a complex layer": (
        lambda: Sandwich(
            lambda m, x: m.mid(x.to(torch.complex64)).abs(), nn.Linear(8, 8, dtype=torch.complex64)
        ),
        1e-4,
    ),
    "a compiled function": (lambda: Sandwich(_compiled), 1e-4),
    "a compiled layer": (
        lambda: Sandwich(
            lambda m, x: m.mid(x).tanh(), torch.compile(nn.Linear(8, 8), backend="aot_eager")
        ),
        1e-4,
    ),
    "a compiled model": (
        lambda: torch.compile(Sandwich(lambda m, x: m.mid(x).tanh()), backend="aot_eager"),
        1e-4,
    ),
    "a scripted layer": (lambda: Sandwich(lambda m, x: m.mid(x), _scripted(nn.Linear(8, 8))), 1e-4),
    "rounding with a gradient of its own": (
        lambda: Sandwich(lambda m, x: m.mid(x) + (m.mid(x).round() - m.mid(x)).detach()),
        1e-4,
    ),
    "replicas": (lambda: nn.DataParallel(Sandwich(lambda m, x: m.mid(x))), 1e-4),
}


@pytest.mark.filterwarnings("ignore:.* are in 16 bits:egl_fast.EglWarning")
@pytest.mark.parametrize("name", RIGHT)
def test_scores_are_those_of_training(name: str) -> None:
    make, rel = RIGHT[name]
    model = make()
    record = score(model)
    with torch.compiler.set_stance("force_eager"):
        assert record.egl == pytest.approx(by_backward(model, record), rel=rel)


def test_sparse_gradients_are_those_of_training() -> None:
    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table = nn.Embedding(5, 8, sparse=True)
            self.output = nn.Linear(8, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.output(self.table(x[:, :, 0].sign().long() + 1)), lengths

    model = Looked()
    record = score(model)
    assert record.egl == pytest.approx(by_backward(model, record), rel=1e-4)


def test_autocast_around_the_scorer_is_not_the_models() -> None:
    model = build("packed_gru", dtype=torch.float32)
    outside = score(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert score(model) == outside


@pytest.mark.parametrize("factor", [-1.0, 0.1])
def test_a_backward_pass_that_is_linear_is_training(factor: float) -> None:
    class Scaling(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
            return factor * cotangents[0]

    model = Sandwich(lambda m, x: Scaling.apply(m.mid(x)))
    record = score(model)
    assert record.egl == pytest.approx(by_backward(model, record), rel=1e-4)


def test_replicas_of_distributed_training_are_looked_into() -> None:
    """No processes are needed: what matters is that the wrapper's own forward does not run."""
    inner = Sandwich(lambda m, x: m.mid(x))
    wrapper = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = inner
    assert score(wrapper).egl == score(inner).egl
