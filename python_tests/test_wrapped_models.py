"""Compiled, scripted and wrapped models score as what is inside; what cannot is told how."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from foreign_models import VOCABULARY, Head, batch, encoder
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import ModelError


def compiled_part(model: Head) -> nn.Module:
    model.encoder = torch.compile(model.encoder)  # type: ignore[assignment]
    return model


def compiled_in_place(model: Head) -> nn.Module:
    model.compile()
    return model


def compiled_forward(model: Head) -> nn.Module:
    model.forward = torch.compile(model.forward)  # type: ignore[method-assign]
    return model


WRAPPERS: dict[str, Callable[[Head], nn.Module]] = {
    "compiled": lambda m: torch.compile(m),  # type: ignore[dict-item, return-value]
    "compiled part": compiled_part,
    "compiled in place": compiled_in_place,
    "compiled forward": compiled_forward,
    "scripted": torch.jit.script,
    "scripted part": lambda m: Head(torch.jit.script(m.encoder)),
    "traced": lambda m: torch.jit.trace(m.eval(), one_of_the_batch()),
    "data parallel": nn.DataParallel,
}


def one_of_the_batch() -> tuple[Tensor, Tensor]:
    x, lengths = batch(dtype=torch.float32)
    return x[:1, :9], lengths[:1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python")
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_model_has_the_scores_of_the_plain_one(name: str) -> None:
    torch.manual_seed(0)
    plain = Head(encoder())
    weights = plain.state_dict()
    [expected] = egl_fast.Scorer(plain, VOCABULARY).score_batch(*one_of_the_batch(), k=3)
    model = WRAPPERS[name](Head(encoder()))
    for parameter, value in zip(model.parameters(), weights.values(), strict=True):
        parameter.data = value
    [record] = egl_fast.Scorer(model, VOCABULARY).score_batch(
        *one_of_the_batch(), k=3, by_layer=True
    )
    # The same sums in float32, by autograd where there is no module with a rule.
    assert record.egl == pytest.approx(expected.egl, rel=1e-5)
    assert record.by_layer is not None
    assert sum(record.by_layer.values()) == pytest.approx(record.egl, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_model_in_16_bits_is_to_be_cast(dtype: torch.dtype) -> None:
    x, lengths = one_of_the_batch()
    with pytest.raises(ModelError, match=rf"got {dtype}; score the model in float32, as after"):
        egl_fast.Scorer(Head(encoder()).to(dtype), VOCABULARY).score_batch(x.to(dtype), lengths)
