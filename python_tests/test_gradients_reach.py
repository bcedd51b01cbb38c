"""Which parameters gradients reach, and what becomes of models where training and we could differ.

The right value of every score is the expectation over its own labelings of what ``loss.backward()``
leaves in ``.grad`` of the untouched model, with torch's CTC loss.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES, build
from sandwich import Sandwich
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import egl_fast
from egl_fast.errors import DeviceError, ModelError

VOCABULARY = ["-", "a", "b", "c"]
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
    """``egl`` from one backward pass a labeling, as training takes it."""
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


#: And how far scores may be off. float32's is what is promised; two passes in 16 bits add up in
#: another order, and a few roundings of 2^-9 are left.
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


@pytest.mark.parametrize("name", RIGHT)
def test_scores_are_those_of_training(name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, rel = RIGHT[name]
    model = make()
    record = score(model)
    with torch.compiler.set_stance("force_eager"):
        assert record.egl == pytest.approx(by_backward(model, record), rel=rel)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING], caplog.text


def test_an_embedding_with_sparse_gradients() -> None:
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


class Detached(nn.Module):
    """Quantizes as torch's own modules did: integers inside, no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        whole = (self.weight.detach() * 32).round().to(torch.int8)
        return F.linear(x, whole.to(x.dtype) / 32)


class Stopping(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return cotangents[0] @ weight, None


def _without_grad(model: Sandwich, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.mid(x)


#: And the first parameter that is cut off.
CUT_OFF: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "detached in the middle": (lambda: Sandwich(lambda m, x: m.mid(x).detach()), "inputs.weight"),
    "a layer under no_grad": (lambda: Sandwich(_without_grad), "inputs.weight"),
    "a decorated layer": (
        lambda: Sandwich(lambda m, x: torch.no_grad()(m.mid)(x)),
        "inputs.weight",
    ),
    "trains, but does not in evaluation mode": (
        lambda: Sandwich(lambda m, x: m.mid(x if m.training else x.detach())),
        "inputs.weight",
    ),
    ".data of a weight": (
        lambda: Sandwich(lambda m, x: F.linear(x, m.mid.weight.data)),
        "mid.weight",
    ),
    "integers inside": (lambda: Sandwich(lambda m, x: m.mid(x), Detached()), "mid.weight"),
    "a function that returns None": (
        lambda: Sandwich(lambda m, x: Stopping.apply(x, m.mid.weight)),
        "mid.weight",
    ),
    "by way of numpy": (
        lambda: Sandwich(lambda m, x: x * float(m.scale.detach().numpy())),
        "scale",
    ),
    "a checkpoint without a gradient at its input": (
        lambda: Checkpointed(reentrant=True),
        "mid.weight",
    ),
}


class Checkpointed(nn.Module):
    """Checkpoints its first layer, as nothing before it has a gradient."""

    def __init__(self, *, reentrant: bool, wants_gradient: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mid = nn.Linear(NUM_BINS, 8)
        self.output = nn.Linear(8, NUM_CLASSES)
        self.reentrant, self.wants_gradient = reentrant, wants_gradient

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.wants_gradient:
            x = x.detach().requires_grad_()
        return self.output(checkpoint(self.mid, x, use_reentrant=self.reentrant)), lengths


@pytest.mark.parametrize("name", CUT_OFF)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_parameter_that_is_cut_off_is_an_error(name: str) -> None:
    make, cut_off = CUT_OFF[name]
    with pytest.raises(ModelError, match=rf"depend on {cut_off}, .* no gradient reaches it"):
        score(make())


def test_what_is_cut_off_on_purpose_can_be_said() -> None:
    model = Sandwich(lambda m, x: m.mid(x).detach())
    record = score(model, params="output.*")
    assert record.egl == pytest.approx(by_backward(model, record), rel=1e-4)
    model.inputs.requires_grad_(False)
    model.mid.requires_grad_(False)
    assert score(model).egl == pytest.approx(record.egl, rel=1e-6)
    with pytest.raises(ModelError, match="depend on no parameter that counts"):
        score(Sandwich(lambda m, x: m.mid(x).detach()), params="mid.*")


@pytest.mark.parametrize(
    "whole",
    [
        lambda m: m.forward.__func__.__get__(m),
        lambda m: torch.no_grad()(Sandwich.forward.__get__(m)),
        lambda m: torch.inference_mode()(Sandwich.forward.__get__(m)),
    ],
)
def test_a_whole_model_without_gradient_is_an_error(whole: Callable[[Any], Any]) -> None:
    model = Sandwich(lambda m, x: m.mid(x))
    inner = whole(model)
    model.forward = lambda x, n: (inner(x, n)[0].detach(), n)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="depend on no parameter that counts"):
        score(model)


def test_quantized_modules_are_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their deprecation
        model = torch.ao.quantization.quantize_dynamic(
            Sandwich(lambda m, x: m.mid(x), nn.Sequential(nn.Linear(8, 8))), {nn.Linear}
        )
    with pytest.raises(ModelError, match="the model's inputs is quantized"):
        score(model)


def test_a_parameter_that_is_not_used_is_no_error_and_no_noise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Like wav2vec 2.0's masked_spec_embed, which evaluation mode does without."""

    class Masked(Sandwich):
        def __init__(self) -> None:
            super().__init__(lambda m, x: m.mid(x))
            self.mask = nn.Parameter(torch.randn(8))
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            y = self.inputs(x)
            if self.training:
                y = torch.where(torch.rand(y.shape) < 0.1, self.mask, y)
            self.extra = self.head(y.detach())  # of another task
            return self.output(self.mid(y)), lengths

    model = Masked()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    record = score(model)
    assert record.egl == pytest.approx(by_backward(model, record), rel=1e-4)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_what_cannot_be_told_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Choosy(Sandwich):
        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            if float(self.scale.detach()) != pytest.approx(0.7):
                raise ArithmeticError("that is not my scale")
            return super().forward(x, lengths)

    scorer = egl_fast.Scorer(Choosy(lambda m, x: m.mid(x)), VOCABULARY)
    for _ in range(2):
        scorer.score_batch(*utterance(), k=3)
    [said] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "no gradient reaches scale" in said
    assert "that is not my scale" in said


CHECKPOINTED: dict[str, Callable[[bool], nn.Module]] = {
    "in the middle": lambda reentrant: Sandwich(
        lambda m, x: checkpoint(m.mid, x, use_reentrant=reentrant)
    ),
    "around a GRU": lambda reentrant: Sandwich(
        lambda m, x: checkpoint(m.mid, x, use_reentrant=reentrant)[0],
        nn.GRU(8, 8, batch_first=True),
    ),
    "without a module": lambda reentrant: Sandwich(
        lambda m, x: checkpoint(lambda y: F.linear(y, m.mid.weight), x, use_reentrant=reentrant)
    ),
    # Where nothing that is asked for lies before it, autograd.grad never comes to see it.
    "at the bottom": lambda reentrant: Checkpointed(reentrant=reentrant, wants_gradient=True),
}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", CHECKPOINTED)
def test_checkpoints_in_evaluation_mode_are_refused(name: str, reentrant: bool) -> None:
    with pytest.raises(ModelError, match=r"checkpoint only if self\.training"):
        score(CHECKPOINTED[name](reentrant))


class Reversible(torch.autograd.Function):
    """Takes its backward pass itself, so that the module's gradients go into ``.grad``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.Module) -> Tensor:
        ctx.module = module
        ctx.save_for_backward(x)
        with torch.no_grad():
            return module(x)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            ctx.module(x).backward(cotangents[0])
        assert x.grad is not None
        return x.grad, None


@pytest.mark.parametrize("at_the_bottom", [True, False])
def test_functions_that_set_gradients_themselves_are_noticed(at_the_bottom: bool) -> None:
    model = Sandwich(lambda m, x: Reversible.apply(x, m.mid))
    if at_the_bottom:
        model.inputs = nn.Identity()  # type: ignore[assignment]
        model.mid = nn.Linear(NUM_BINS, 8)
        model.between = lambda m, x: Reversible.apply(x.detach().requires_grad_(), m.mid)
    with pytest.raises(ModelError, match=r"disagree on mid\.weight"):
        score(model)
    assert all(parameter.grad is None for parameter in model.parameters())


def _clipped(cotangent: Tensor) -> Tensor:
    return cotangent.clamp(-1e-3, 1e-3)


@pytest.mark.parametrize(
    "change",
    [_clipped, F.normalize, torch.sign, F.relu, lambda g: g + 0.01],
    ids=["clipped", "normalized", "signs", "relu", "shifted"],
)
def test_a_backward_pass_that_is_not_linear_is_noticed(change: Callable[[Tensor], Tensor]) -> None:
    """Combinations of cotangents would stand for none of them: 1.27 was scored for 2.13."""

    class Changing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
            return change(cotangents[0])

    with pytest.raises(ModelError, match="clips or normalizes gradients"):
        score(Sandwich(lambda m, x: Changing.apply(m.mid(x))))


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


def test_an_optimizer_in_the_backward_pass_takes_no_step() -> None:
    model = Sandwich(lambda m, x: m.mid(x))
    for parameter in model.parameters():
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        parameter.register_post_accumulate_grad_hook(lambda p, o=optimizer: o.step())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert score(model).egl > 0
    assert all(map(torch.equal, model.parameters(), before))


def test_gradients_of_the_callers_own_tensors_stay() -> None:
    model = Sandwich(lambda m, x: m.mid(x))
    scorer = egl_fast.Scorer(model, VOCABULARY)
    x, lengths = utterance()
    expected = scorer.score_batch(x, lengths, k=3)
    front = nn.Linear(NUM_BINS, NUM_BINS)
    leaf = x.clone().requires_grad_()
    assert egl_fast.Scorer(model, VOCABULARY).score_batch(leaf, lengths, k=3) == expected
    assert leaf.grad is None
    computed = front(x)
    egl_fast.Scorer(model, VOCABULARY).score_batch(computed, lengths, k=3)
    assert front.weight.grad is None
    computed.sum().backward()  # its graph is still there
    with torch.inference_mode():
        inside, inside_lengths = x.clone(), lengths.clone()
        fresh = egl_fast.Scorer(model, VOCABULARY)
        assert fresh.score_batch(inside, inside_lengths, k=3) == expected
    functional = Sandwich(lambda m, x: F.linear(x, m.mid.weight))
    functional.inputs = nn.Identity()  # type: ignore[assignment]
    functional.mid = nn.Linear(NUM_BINS, 8)
    with torch.inference_mode():  # saves its input for the backward pass
        [record] = egl_fast.Scorer(functional, VOCABULARY).score_batch(inside, inside_lengths, k=3)
    assert record.egl > 0


def _on_meta(model: Sandwich) -> None:
    model.mid.to("meta")


def _in_inference_mode(model: Sandwich) -> None:
    with torch.inference_mode():
        model.mid = nn.Linear(8, 8)


def _buffer_in_inference_mode(model: Sandwich) -> None:
    with torch.inference_mode():
        model.register_buffer("mean", torch.zeros(8))


def _lazy(model: Sandwich) -> None:
    model.mid = nn.LazyLinear(8)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_lazy, ModelError, r"mid\.weight has no values yet; run the model once"),
        (_on_meta, DeviceError, r"mid\.weight is on the device meta: it has no values"),
        (
            _in_inference_mode,
            ModelError,
            r"mid\.weight was created under torch\.inference_mode",
        ),
        (
            _buffer_in_inference_mode,
            ModelError,
            r"mean was created under torch\.inference_mode",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_named(
    spoil: Callable[[Sandwich], None], error: type[Exception], message: str
) -> None:
    model = Sandwich(lambda m, x: m.mid(x))
    scorer = egl_fast.Scorer(model, VOCABULARY)
    spoil(model)
    with pytest.raises(error, match=message):
        scorer.score_batch(*utterance(), k=3)
    with pytest.raises(error, match=message):
        egl_fast.Scorer(model, VOCABULARY)


def _quantized(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.to("meta"), "model input 0: is on the device meta"),
        (lambda x: x.to_sparse(), r"model input 0: has the layout torch\.sparse_coo; .*to_dense"),
        (_quantized, r"model input 0: is quantized; .*dequantize"),
        (lambda x: {"features": [x.to_sparse()]}, "model input 0: has the layout"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(
    change: Callable[[Tensor], Any], message: str
) -> None:
    x, lengths = utterance()
    scorer = egl_fast.Scorer(Sandwich(lambda m, x: m.mid(x)), VOCABULARY)
    with pytest.raises(ValueError, match=message):
        scorer.score_batch(change(x), lengths, k=3)


def test_replicas_of_distributed_training_are_looked_into() -> None:
    """Without the processes: what matters is that the wrapper's own forward does not run."""
    inner = Sandwich(lambda m, x: m.mid(x))
    wrapper = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = inner
    assert score(wrapper).egl == score(inner).egl
