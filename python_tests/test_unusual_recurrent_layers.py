"""Recurrent layers whose weights are computed or shared, or whose inputs are packed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES, batch
from sandwich import Sandwich, gru_sandwich
from test_engine import assert_norms_equal_the_loop
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from egl_fast.gradients.engine import GradientEngine


@pytest.mark.parametrize(
    "change",
    [
        lambda gru: torch.nn.utils.weight_norm(gru, "weight_hh_l0"),
        lambda gru: torch.nn.utils.weight_norm(gru, "weight_ih_l0"),
        lambda gru: torch.nn.utils.prune.l1_unstructured(gru, "weight_hh_l0", 0.3),
        lambda gru: torch.nn.utils.parametrizations.orthogonal(gru, "weight_hh_l0"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_norms_of_computed_weights_are_those_of_autograd(
    change: Callable[[nn.Module], object],
) -> None:
    import torch.nn.utils.prune

    model = gru_sandwich(change)
    x, lengths = batch()
    engine = GradientEngine(model)
    tape = engine.run(x[:1], lengths[:1])
    cotangent = torch.randn(1, 2, 12, NUM_CLASSES, dtype=torch.float64)
    cotangent[:, :, int(lengths[0]) :] = 0.0
    norms = engine.sq_norms(tape, cotangent)
    model.eval()
    for r in range(2):
        gradients = torch.autograd.grad(
            model(x[:1], lengths[:1])[0],
            list(engine.parameters.values()),
            cotangent[:, r],
            allow_unused=True,
        )
        for name, gradient in zip(engine.parameters, gradients, strict=True):
            expected = 0.0 if gradient is None else float(gradient.square().sum())
            got = float(norms[name][0, r]) if name in norms else 0.0
            assert got == pytest.approx(expected, rel=1e-9), name


def test_norms_of_weights_used_elsewhere_equal_the_loop() -> None:
    def twice(model: Sandwich, x: Tensor) -> Tensor:
        y = model.mid(x)[0]
        y = model.mid(y.tanh())[0]
        weights = model.mid.weight_ih_l0 * model.mid.weight_hh_l0
        return y + F.linear(x, weights[8:16], model.mid.bias_ih_l0[16:])

    model = Sandwich(twice, mid=nn.GRU(8, 8, batch_first=True)).double()
    assert_norms_equal_the_loop(model, batch(), torch.float64)


def test_final_states_of_unequal_chunks_equal_the_loop() -> None:
    class Chunked(nn.Module):
        def __init__(self, kind: type[nn.RNNBase]) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = kind(NUM_BINS, 5, batch_first=True)
            self.second = kind(5, 5, batch_first=True)
            self.output = nn.Linear(5, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            chunks = F.pad(x[0], (0, 0, 0, 15 - x.shape[1])).view(3, 5, NUM_BINS)
            sizes = torch.tensor([5, 4, 3])
            packed: PackedSequence = pack_padded_sequence(chunks, sizes, batch_first=True)
            packed, final = self.first(packed)
            packed, _ = self.second(packed, final)
            y, _ = pad_packed_sequence(packed, batch_first=True)
            return self.output(y).flatten(0, 1)[None, : x.shape[1]], lengths

    for kind in (nn.GRU, nn.LSTM):
        assert_norms_equal_the_loop(Chunked(kind).double(), batch(), torch.float64)


def test_a_scripted_recurrent_layer_has_norms() -> None:
    class Outputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(8, 8, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(x)[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(Outputs())
    model = Sandwich(lambda m, x: m.mid(x), mid=scripted).double()
    engine = GradientEngine(model)
    x, lengths = batch()
    tape = engine.run(x[:1], lengths[:1])
    norms = engine.sq_norms(tape, torch.ones(1, 2, 12, NUM_CLASSES).double())
    # The engine itself compares with plain autograd before it returns anything.
    assert {"mid.gru.weight_hh_l0", "output.weight"} <= set(norms)
