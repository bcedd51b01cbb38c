"""Parameters that no gradient reaches are an error, unless they are frozen or left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import VOCABULARY, batch
from plain_training import by_backward, score, utterance
from sandwich import Between, Checkpointed, Sandwich
from test_engine import assert_norms_equal_the_loop
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import ModelError


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


#: The models, and the first parameter that is cut off in each.
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
        warnings.simplefilter("ignore")  # about their deprecation
        model = torch.ao.quantization.quantize_dynamic(
            Sandwich(lambda m, x: m.mid(x), nn.Sequential(nn.Linear(8, 8))), {nn.Linear}
        )
    with pytest.raises(ModelError, match="the model's inputs is quantized"):
        score(model)


def test_a_parameter_that_is_not_used_is_no_error_and_no_noise() -> None:
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
            self.extra = self.head(y.detach())  # the head of another task
            return self.output(self.mid(y)), lengths

    model = Masked()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    record = score(model)
    assert record.egl == pytest.approx(by_backward(model, record), rel=1e-4)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_what_cannot_be_told_is_said_once() -> None:
    class Choosy(Sandwich):
        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            if float(self.scale.detach()) != pytest.approx(0.7):
                raise ArithmeticError("that is not my scale")
            return super().forward(x, lengths)

    scorer = egl_fast.Scorer(Choosy(lambda m, x: m.mid(x)), VOCABULARY)
    with pytest.warns(egl_fast.EglWarning, match=r"no gradient reaches scale.*not my scale"):
        scorer.score_batch(*utterance(), k=3)
    scorer.score_batch(*utterance(), k=3)


class HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    @staticmethod
    def backward(ctx: object, *cotangents: Tensor) -> tuple[Tensor, None]:
        return cotangents[0], None


def _without_gradient(model: Sandwich, x: Tensor) -> Tensor:
    with torch.inference_mode():
        fixed = model.mid(x.detach())
    return x * fixed.clone()


#: Code that uses a layer but gives it no gradient.
WITHOUT_GRADIENT: dict[str, Between] = {
    "a part in inference mode": _without_gradient,
    "a function that stops a gradient": lambda m, x: HalfGradient.apply(x, m.mid(x)),
}


@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_a_layer_without_gradient_is_to_be_frozen(name: str) -> None:
    model = Sandwich(WITHOUT_GRADIENT[name]).double()
    with pytest.raises(ModelError, match=r"depend on mid\.weight, .* no gradient reaches it"):
        assert_norms_equal_the_loop(model, batch(), torch.float64)
    model.mid.requires_grad_(False)
    assert_norms_equal_the_loop(model, batch(), torch.float64)
