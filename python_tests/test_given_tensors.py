"""The caller's own tensors, weights and inputs: refused if unusable, never changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, VOCABULARY, batch
from plain_training import utterance
from sandwich import Sandwich
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import DeviceError, ModelError


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
    with torch.inference_mode():  # the linear layer saves its input for the backward pass
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


def test_inference_tensors_may_be_scored() -> None:
    model = Sandwich(lambda m, x: m.mid(x) * m.scale).double()
    model.inputs = nn.Identity()  # type: ignore[assignment]
    model.mid = nn.Linear(NUM_BINS, 8).double()
    scorer = egl_fast.Scorer(model, VOCABULARY)
    x, lengths = batch()
    expected = scorer.score_batch(x, lengths, k=3)
    with torch.inference_mode():
        assert scorer.score_batch(x * 1.0, lengths * 1, k=3) == expected
