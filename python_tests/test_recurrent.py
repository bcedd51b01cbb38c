"""Scans over time against torch's own recurrent layers: values, final states, gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from egl_fast.errors import ModelError
from egl_fast.recurrent import Direction, scanned_recurrence
from egl_fast.recurrent.clipped_relu import ClippedReluRNN

FRAMES, UTTERANCES, INPUTS, HIDDEN = 9, 4, 3, 5
LENGTHS = torch.tensor([6, 9, 1, 4])

KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
}


def make(kind: str, **options: Any) -> nn.RNNBase:
    torch.manual_seed(3)
    cls, fixed = KINDS[kind]
    return cls(INPUTS, HIDDEN, **fixed, **options).double()


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def initial_states(module: nn.RNNBase, *batch: int) -> Any:
    count = module.num_layers * (2 if module.bidirectional else 1)
    h = draw(count, *batch, HIDDEN)
    if not isinstance(module, nn.LSTM):
        return h
    return h, draw(count, *batch, HIDDEN)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of outputs and states, whatever form they have."""
    if isinstance(value, PackedSequence):
        return [value.data, value.batch_sizes, value.unsorted_indices]
    if isinstance(value, Tensor):
        return [value]
    return [] if value is None else [tensor for part in value for tensor in tensors_in(part)]


def gradients_of(results: list[Tensor], inputs: list[Tensor], module: nn.Module) -> list[Tensor]:
    """Gradients of a sum that weighs every value differently."""
    total = torch.zeros((), dtype=torch.float64)
    for result in results:
        if result.requires_grad:
            weights = torch.linspace(-1, 1, result.numel(), dtype=torch.float64)
            total = total + (weights.view(result.shape) * result).sum()
    # A packed input belongs to the graphs of both runs.
    return list(torch.autograd.grad(total, [*inputs, *module.parameters()], retain_graph=True))


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    """Equal up to rounding in chains of sums over frames, inputs, and hidden units."""
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        steps = FRAMES * UTTERANCES * (INPUTS + 2 * HIDDEN)
        scale = float(theirs.detach().abs().max()) + 1.0
        difference = float((ours - theirs).detach().abs().max())
        assert difference <= steps * torch.finfo(torch.float64).eps * scale


def check(module: nn.RNNBase, leaves: list[Tensor], x: Any, hx: Any) -> None:
    """Run torch's module and the scan, and compare all results and gradients."""
    expected = tensors_in(module(x, hx))
    expected_gradients = gradients_of(expected, leaves, module)
    with scanned_recurrence(module):
        got = tensors_in(module(x, hx))
        got_gradients = gradients_of(got, leaves, module)
    assert_same(got, expected)
    assert_same(got_gradients, expected_gradients)


@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": True},
        {"num_layers": 2},
        {"num_layers": 2, "bidirectional": True},
        {"bias": False, "bidirectional": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize("kind", KINDS)
class TestAgainstTorch:
    """Every cell, arrangement of layers, and form of input; all comparisons in float64."""

    def test_time_first(self, kind: str, options: dict[str, Any], with_states: bool) -> None:
        module, x = make(kind, **options), draw(FRAMES, UTTERANCES, INPUTS)
        hx = initial_states(module, UTTERANCES) if with_states else None
        check(module, [x, *tensors_in(hx)], x, hx)

    def test_batch_first(self, kind: str, options: dict[str, Any], with_states: bool) -> None:
        module = make(kind, batch_first=True, **options)
        x = draw(UTTERANCES, FRAMES, INPUTS)
        hx = initial_states(module, UTTERANCES) if with_states else None
        check(module, [x, *tensors_in(hx)], x, hx)

    def test_unbatched(self, kind: str, options: dict[str, Any], with_states: bool) -> None:
        module, x = make(kind, batch_first=True, **options), draw(FRAMES, INPUTS)
        hx = initial_states(module) if with_states else None
        check(module, [x, *tensors_in(hx)], x, hx)

    def test_packed_alike(self, kind: str, options: dict[str, Any], with_states: bool) -> None:
        module, x = make(kind, **options), draw(FRAMES, UTTERANCES, INPUTS)
        hx = initial_states(module, UTTERANCES) if with_states else None
        lengths = torch.full((UTTERANCES,), FRAMES)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        check(module, [x, *tensors_in(hx)], packed, hx)

    def test_packed_ragged(self, kind: str, options: dict[str, Any], with_states: bool) -> None:
        module, x = make(kind, **options), draw(FRAMES, UTTERANCES, INPUTS)
        hx = initial_states(module, UTTERANCES) if with_states else None
        packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        if with_states and module.bidirectional:
            with scanned_recurrence(module), pytest.raises(ModelError, match="initial states"):
                module(packed, hx)
            return
        leaves = [x, *tensors_in(hx)]
        expected = tensors_in(module(packed, hx)[0])
        expected_gradients = gradients_of(expected, leaves, module)
        with scanned_recurrence(module):
            outputs, final = module(packed, hx)
        # Promised: no final states where utterances end at different frames.
        assert not tensors_in(final)
        assert_same(tensors_in(outputs), expected)
        assert_same(gradients_of(tensors_in(outputs), leaves, module), expected_gradients)


@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize("lengths", [LENGTHS, torch.full((UTTERANCES,), FRAMES)])
def test_the_clipped_cell_is_the_modules_own(scale: float, lengths: Tensor) -> None:
    torch.manual_seed(4)
    module = ClippedReluRNN(INPUTS, HIDDEN).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)  # large weights reach the upper bound
    x = draw(UTTERANCES, FRAMES, INPUTS)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = module(packed)
    if scale > 1:
        assert float((expected.data == 20).double().mean()) > 0.1
    with scanned_recurrence(module):
        got, _ = module(packed)
    assert_same([got.data], [expected.data])
    assert_same(gradients_of([got.data], [x], module), gradients_of([expected.data], [x], module))


def test_the_clipped_cell_is_the_formula() -> None:
    torch.manual_seed(4)
    module = ClippedReluRNN(INPUTS, HIDDEN).double()
    x = draw(1, FRAMES, INPUTS).detach()
    packed = pack_padded_sequence(x, torch.tensor([FRAMES]), batch_first=True)
    outputs, _ = pad_packed_sequence(module(packed)[0], batch_first=True)
    state = torch.zeros(HIDDEN, dtype=torch.float64)
    bias = module.bias_ih_l0 + module.bias_hh_l0
    for t in range(FRAMES):
        total = module.weight_ih_l0 @ x[0, t] + module.weight_hh_l0 @ state + bias
        state = total.clamp(0, 20)
        assert_same([outputs[0, t, :HIDDEN]], [state])


@pytest.mark.parametrize("kind", KINDS)
def test_without_weight_gradients_those_of_the_input_remain(kind: str) -> None:
    module = make(kind, bidirectional=True)
    x = draw(FRAMES, UTTERANCES, INPUTS)
    expected = torch.autograd.grad(module(x)[0].square().sum(), x)
    with scanned_recurrence(module, weights_need_grad=False):
        total = module(x)[0].square().sum()
        got = torch.autograd.grad(total, x, retain_graph=True)
        (of_weight,) = torch.autograd.grad(total, [module.weight_hh_l0], allow_unused=True)
    assert_same(list(got), list(expected))
    assert of_weight is None


def test_each_direction_of_each_layer_is_recorded() -> None:
    module = make("gru", num_layers=2, bidirectional=True)
    seen: list[Direction] = []
    with scanned_recurrence(module, record=seen.append):
        outputs, _ = module(draw(FRAMES, UTTERANCES, INPUTS))
    assert [d.suffix for d in seen] == ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    forward, reverse = seen[2], seen[3]
    assert torch.equal(forward.previous[1:], outputs[:-1, :, :HIDDEN])
    assert torch.equal(reverse.previous[:-1], outputs[1:, :, HIDDEN:])
    assert forward.previous[0].abs().max() == reverse.previous[-1].abs().max() == 0
    assert forward.inputs.shape == (FRAMES, UTTERANCES, 2 * HIDDEN)


def test_the_model_is_as_before_afterwards() -> None:
    model = nn.Sequential(make("gru"))
    with pytest.raises(ZeroDivisionError), scanned_recurrence(model):
        assert "forward" in vars(model[0])
        raise ZeroDivisionError
    assert "forward" not in vars(model[0])


def test_projections_and_foreign_subclasses_run_as_they_are() -> None:
    class Doubled(nn.GRU):
        def forward(self, x: Tensor, hx: Tensor | None = None) -> Any:  # type: ignore[override]
            outputs, final = super().forward(x, hx)
            return 2 * outputs, final

    torch.manual_seed(5)
    x = draw(FRAMES, UTTERANCES, INPUTS)
    for module in (Doubled(INPUTS, HIDDEN), nn.LSTM(INPUTS, HIDDEN, proj_size=2)):
        module.double()
        expected, _ = module(x)
        with scanned_recurrence(module):
            got, _ = module(x)
        assert torch.equal(got, expected)


def test_a_copy_of_a_module_in_use_is_a_module_of_its_own() -> None:
    module = make("lstm")
    x = draw(FRAMES, UTTERANCES, INPUTS)
    expected, _ = copy.deepcopy(module)(x)
    with scanned_recurrence(module):
        got, _ = module(x)
    assert_same([got], [expected])
