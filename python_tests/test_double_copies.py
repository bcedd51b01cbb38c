"""Copies in float64 of any model, for the commands that compare with one."""

from __future__ import annotations

import threading

import pytest
import small_factory
import torch
from conftest import Run
from foreign_models import Head, batch, encoder

from egl_fast.errors import ModelError
from egl_fast.gradients.double import in_double

MODEL = f"{small_factory.__file__}:weight_normed"


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weights_that_a_hook_has_computed_are_no_obstacle() -> None:
    model = Head(torch.nn.utils.weight_norm(encoder()[0]))
    torch.nn.utils.spectral_norm(model.output)
    model.encoder.kept = [{"state": model.encoder(batch(dtype=torch.float32)[0])}]
    model.eval()
    double = in_double(model)
    x, lengths = batch()
    expected, _ = model(x.float(), lengths)
    logits, _ = double(x, lengths)
    assert logits.dtype == torch.float64
    # Some roundings of float32.
    torch.testing.assert_close(logits.float(), expected, rtol=1e-5, atol=1e-5)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not double.training


def test_what_cannot_be_copied_is_told_in_a_line() -> None:
    model = Head(encoder())
    model.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"cannot be copied .*TypeError: cannot pickle '_thread"):
        in_double(model)


def test_check_takes_weight_norm_of_the_older_kind(run: Run) -> None:
    status, out, err = run("check", "--model", MODEL, "--k", 2, "--utterances", 1)
    assert status == 0, err
    assert "inner" in out
