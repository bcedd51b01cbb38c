"""Backward passes that do more than pass gradients on are refused, or have no side effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS
from plain_training import score
from sandwich import Checkpointed, Sandwich
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from egl_fast.errors import ModelError

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
    # With no requested parameter before it, autograd.grad never runs it.
    "at the bottom": lambda reentrant: Checkpointed(reentrant=reentrant, wants_gradient=True),
}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", CHECKPOINTED)
def test_checkpoints_in_evaluation_mode_are_refused(name: str, reentrant: bool) -> None:
    with pytest.raises(ModelError, match=r"checkpoint only if self\.training"):
        score(CHECKPOINTED[name](reentrant))


class Reversible(torch.autograd.Function):
    """Calls ``backward`` itself, so that the module's gradients go into ``.grad``."""

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


@pytest.mark.filterwarnings("ignore:.*cannot be vectorized:egl_fast.EglWarning")
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
    """Combinations of cotangents would mean nothing: the score was 1.27 instead of 2.13."""

    class Changing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
            return change(cotangents[0])

    with pytest.raises(ModelError, match="clips or normalizes gradients"):
        score(Sandwich(lambda m, x: Changing.apply(m.mid(x))))


def test_an_optimizer_in_the_backward_pass_takes_no_step() -> None:
    model = Sandwich(lambda m, x: m.mid(x))
    for parameter in model.parameters():
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        parameter.register_post_accumulate_grad_hook(lambda p, o=optimizer: o.step())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert score(model).egl > 0
    assert all(map(torch.equal, model.parameters(), before))
