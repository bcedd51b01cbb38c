"""What other people's code does to models, and what a scorer must make of it all the same."""

from __future__ import annotations

import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES, batch
from sandwich import Between, Sandwich
from test_engine import assert_norms_equal_the_loop, spectrograms
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import egl_fast
from egl_fast.errors import ModelError
from egl_fast.gradients import verification
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.memory import GradientMemory
from egl_fast.model import DeepSpeech2, preset


class HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    @staticmethod
    def backward(ctx: object, *cotangents: Tensor) -> tuple[Tensor, None]:
        return cotangents[0], None


def _in_place(change: Callable[[Tensor], object]) -> Between:
    def between(model: Sandwich, x: Tensor) -> Tensor:
        y = model.mid(x)
        change(y)
        return y

    return between


def _hooked(model: Sandwich, x: Tensor) -> Tensor:
    y = model.mid(x)
    if y.requires_grad:
        y.register_hook(lambda cotangent: 0.1 * cotangent)
    return y


def _computed_weight(model: Sandwich, x: Tensor) -> Tensor:
    weights = {"weight": model.mid.weight * model.scale}
    return torch.func.functional_call(model.mid, weights, (x,))


def _failing_once(model: Sandwich, x: Tensor) -> Tensor:
    with pytest.raises(RuntimeError):
        model.mid(x[..., :3])
    return model.mid(x)


def _without_gradient(model: Sandwich, x: Tensor) -> Tensor:
    with torch.inference_mode():
        fixed = model.mid(x.detach())
    return x * fixed.clone()


STRANGE: dict[str, Between] = {
    "relu in place on a view": _in_place(torch.relu_),
    "adding in place to a view": _in_place(lambda y: y.add_(1.0)),
    "writing into a slice": _in_place(lambda y: y[:, 1].zero_()),
    "a tensor hook that scales": _hooked,
    "a weight computed from others": _computed_weight,
    "a call that fails and is caught": _failing_once,
    "unbatched calls": lambda m, x: torch.stack([m.mid(row) for row in x[0]])[None],
    "keyword calls": lambda m, x: m.mid(input=x),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_code_between_layers(name: str) -> None:
    model = Sandwich(STRANGE[name]).double()
    assert_norms_equal_the_loop(model, batch(), torch.float64)
    assert all(isinstance(p, nn.Parameter) for p in model.mid._parameters.values())


#: A layer is used, and gets no gradient.
CUT_OFF: dict[str, Between] = {
    "a part in inference mode": _without_gradient,
    "a function that stops a gradient": lambda m, x: HalfGradient.apply(x, m.mid(x)),
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_layer_without_gradient_is_to_be_frozen(name: str) -> None:
    model = Sandwich(CUT_OFF[name]).double()
    with pytest.raises(ModelError, match=r"depend on mid\.weight, .* no gradient reaches it"):
        assert_norms_equal_the_loop(model, batch(), torch.float64)
    model.mid.requires_grad_(False)
    assert_norms_equal_the_loop(model, batch(), torch.float64)


def _recurrent(change: Callable[[nn.Module], object] = lambda gru: None) -> nn.Module:
    model = Sandwich(lambda m, x: m.mid(input=x)[0], mid=nn.GRU(8, 8, batch_first=True)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of torch's own ways are deprecated
        change(model.mid)
    return model


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
def test_recurrent_weights_that_are_computed(change: Callable[[nn.Module], object]) -> None:
    import torch.nn.utils.prune

    model = _recurrent(change)
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


def test_recurrent_weights_that_are_also_used_elsewhere() -> None:
    def twice(model: Sandwich, x: Tensor) -> Tensor:
        y = model.mid(x)[0]
        y = model.mid(y.tanh())[0]
        weights = model.mid.weight_ih_l0 * model.mid.weight_hh_l0
        return y + F.linear(x, weights[8:16], model.mid.bias_ih_l0[16:])

    model = Sandwich(twice, mid=nn.GRU(8, 8, batch_first=True)).double()
    assert_norms_equal_the_loop(model, batch(), torch.float64)


def test_a_forward_of_the_instance_is_used_and_kept() -> None:
    def doubled(self: nn.Linear, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 2, self.bias)

    model = Sandwich(lambda m, x: m.mid(x))
    model.mid.forward = types.MethodType(doubled, model.mid)  # type: ignore[method-assign]
    assert_norms_equal_the_loop(model.double(), batch(), torch.float64)

    def reversed_in_time(self: nn.GRU, input: Tensor) -> tuple[Tensor, Tensor]:
        return nn.GRU.forward(self, input.flip(1))

    recurrent = _recurrent()
    own = types.MethodType(reversed_in_time, recurrent.mid)
    recurrent.mid.forward = own  # type: ignore[method-assign]
    assert_norms_equal_the_loop(recurrent, batch(), torch.float64)
    assert recurrent.mid.forward is own


def test_final_states_of_packed_chunks_of_unequal_length() -> None:
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


def test_batch_norm_that_insists_on_training_mode_is_refused() -> None:
    class Insisting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(NUM_BINS)
            self.output = nn.Linear(NUM_BINS, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            self.norm.train()
            return self.output(self.norm(x.transpose(1, 2)).transpose(1, 2)), lengths

    model = Insisting().double()
    with pytest.raises(ModelError, match=r"norm\.weight runs in training mode"):
        GradientEngine(model).run(*batch())


def test_parameters_are_those_of_the_moment() -> None:
    model = Sandwich(lambda m, x: m.mid(x)).double()
    scorer = egl_fast.Scorer(model, ["-", "a", "b", "c"])
    x, lengths = batch()

    def egl() -> float:
        fresh = egl_fast.Scorer(model, ["-", "a", "b", "c"]).score_batch(x, lengths, k=3)
        [record, *_] = again = scorer.score_batch(x, lengths, k=3)
        assert again == fresh
        return record.egl

    whole = egl()
    model.mid.requires_grad_(False)
    without = egl()
    model.output = nn.Linear(8, NUM_CLASSES).double()
    assert len({whole, without, egl()}) == 3


def test_a_changed_built_in_model_in_a_shared_batch() -> None:
    """A parameter without a rule has one gradient an utterance, not one of the whole batch."""
    torch.manual_seed(0)
    model = DeepSpeech2(preset("tiny")).double()
    nn.utils.parametrizations.weight_norm(model.output)
    assert_norms_equal_the_loop(model, spectrograms(torch.float64), torch.float64)


def test_a_subclass_does_not_inherit_the_promise_to_share() -> None:
    class Mine(DeepSpeech2):
        pass

    assert GradientEngine(DeepSpeech2(preset("tiny"))).shares_batches
    assert not GradientEngine(Mine(preset("tiny"))).shares_batches


def test_one_weight_in_convolutions_of_different_groups() -> None:
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


def test_a_tied_weight_answers_to_each_of_its_names() -> None:
    model = Sandwich(lambda m, x: m.mid(x).sin() + m.tied(x))
    model.tied = nn.Linear(8, 8)
    model.tied.weight = model.mid.weight
    assert set(GradientEngine(model, params="tied.*").parameters) == {"mid.weight", "tied.bias"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hooks_on_parameters_are_noticed(dtype: torch.dtype) -> None:
    model = Sandwich(lambda m, x: m.mid(x)).to(dtype)
    model.mid.weight.register_hook(lambda gradient: 2 * gradient)
    with pytest.raises(ModelError, match=r"disagree on mid\.weight"):
        egl_fast.Scorer(model, ["-", "a", "b", "c"]).score_batch(*batch(dtype=dtype), k=3)


@pytest.mark.parametrize(("share_in_double", "agrees"), [(1.0, True), (1.03, False)])
def test_rounding_of_a_float32_loop_is_no_disagreement(
    monkeypatch: pytest.MonkeyPatch, share_in_double: float, agrees: bool
) -> None:
    """As on 30 s of noise, where a float32 recurrence errs by per cents."""
    model = Sandwich(lambda m, x: m.mid(x)).float()
    plain = verification.plain_sq_norms
    shares = {torch.float32: 1.03, torch.float64: share_in_double}

    def rounded(*arguments: Any) -> dict[str, float | None]:
        share = shares[arguments[2].dtype]
        return {name: value and share * value for name, value in plain(*arguments).items()}

    monkeypatch.setattr(verification, "plain_sq_norms", rounded)
    scorer = egl_fast.Scorer(model, ["-", "a", "b", "c"])
    if agrees:
        assert scorer.score_batch(*batch(dtype=torch.float32), k=3)
    else:
        with pytest.raises(ModelError, match="disagree"):
            scorer.score_batch(*batch(dtype=torch.float32), k=3)


def test_a_scripted_recurrent_layer() -> None:
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
    # The engine itself compares with plain autograd before it gives anything back.
    assert {"mid.gru.weight_hh_l0", "output.weight"} <= set(norms)


def test_two_threads_may_score_with_one_model() -> None:
    model = Sandwich(lambda m, x: m.mid(x)).double().train()
    scorer = egl_fast.Scorer(model, ["-", "a", "b", "c"])
    x, lengths = batch()
    expected = scorer.score_batch(x, lengths, k=3)
    found: list[object] = []

    def work() -> None:
        for _ in range(15):
            try:
                found.append(scorer.score_batch(x, lengths, k=3))
            except Exception as error:
                found.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 45
    assert all(isinstance(p, nn.Parameter) for p in model.mid._parameters.values())
    assert model.training


def test_inference_tensors_may_be_scored() -> None:
    model = Sandwich(lambda m, x: m.mid(x) * m.scale).double()
    model.inputs = nn.Identity()  # type: ignore[assignment]
    model.mid = nn.Linear(NUM_BINS, 8).double()
    scorer = egl_fast.Scorer(model, ["-", "a", "b", "c"])
    x, lengths = batch()
    expected = scorer.score_batch(x, lengths, k=3)
    with torch.inference_mode():
        assert scorer.score_batch(x * 1.0, lengths * 1, k=3) == expected


def test_memory_for_no_more_than_a_row() -> None:
    torch.manual_seed(0)
    model = DeepSpeech2(preset("tiny")).double()
    inputs = spectrograms(torch.float64)
    assert_norms_equal_the_loop(model, inputs, torch.float64, memory_bytes=2)


def test_bytes_of_a_row() -> None:
    calls = [types.SimpleNamespace(output=torch.Size([1000, 1000]))]
    tape: Any = types.SimpleNamespace(reachable=(calls, {}), logits=torch.zeros(1, 1, 1).double())
    # A million numbers of 8 bytes, and as much again under way.
    assert GradientMemory.row_bytes(tape) == 16_000_000


def test_an_utterance_that_differs_in_its_batch_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = torch.randn(3, 8, dtype=torch.float64)
    model = Sandwich(lambda m, x: m.mid(x) + m.rows.sum()).double()
    inner = model.forward

    def forward(x: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        model.rows = rows
        return inner(x, lengths)

    model.forward = forward  # type: ignore[assignment, method-assign]
    egl_fast.Scorer(model, ["-", "a", "b", "c"]).score_batch(*batch(), table, k=3)
    assert "has different logits alone than in its batch" in caplog.text


def test_patches_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from egl_fast.gradients.rules import convolution

    torch.manual_seed(0)
    model = DeepSpeech2(preset("tiny")).double()
    # A frame of the first convolution's patches is 81 x 451 doubles: blocks of 3 frames.
    monkeypatch.setattr(convolution, "BLOCK_BYTES", 3 * 81 * 451 * 8)
    assert_norms_equal_the_loop(model, spectrograms(torch.float64), torch.float64)


def test_convolution_over_few_positions() -> None:
    """Kernels with more inputs than positions go the other way; grouped and plain."""

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
