"""Memory for gradients: what a row takes, and what happens when memory runs out."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from foreign_models import VOCABULARY, Head, batch, encoder
from test_engine import assert_norms_equal_the_loop, spectrograms

import egl_fast
from egl_fast import ops
from egl_fast.compute.memory import is_out_of_memory
from egl_fast.gradients.memory import GradientMemory
from egl_fast.gradients.stages import Stage
from egl_fast.model import DeepSpeech2, preset


def test_memory_for_one_row_is_enough() -> None:
    torch.manual_seed(0)
    model = DeepSpeech2(preset("tiny")).double()
    inputs = spectrograms(torch.float64)
    assert_norms_equal_the_loop(model, inputs, torch.float64, memory_bytes=2)


def test_a_row_takes_its_activations_twice() -> None:
    call: Any = types.SimpleNamespace(output=torch.Size([1000, 1000]), computed={})
    logits = torch.zeros(1, 1, 1).double()
    tape: Any = types.SimpleNamespace(stage=Stage(logits, None, [call]), logits=logits)
    # A million numbers of 8 bytes, and as much again for temporaries.
    assert GradientMemory.row_bytes(tape) == 16_000_000


class _Failing:
    """Replaces torch.func.vmap, and runs out of memory once."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def __call__(self, function: Any) -> Any:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return _VMAP(function)


_VMAP = torch.func.vmap


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("std::bad_alloc"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
    ],
    ids=repr,
)
def test_memory_that_runs_out_does_not_end_vectorizing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.func, "vmap", _Failing(error))
    scorer = egl_fast.Scorer(Head(encoder()), VOCABULARY)
    with pytest.raises(type(error)):
        scorer.score_batch(*batch(dtype=torch.float32), k=3)
    assert scorer.score_batch(*batch(dtype=torch.float32), k=3)
    assert scorer._engine._autograd._vectorizes


def test_operators_without_memory_are_recognized() -> None:
    logits = torch.zeros(1, 4096, 3)
    most = 2**31 - 1
    with pytest.raises(RuntimeError) as raised:
        ops.ctc_nbest_cotangents(logits, torch.tensor([2]), num_hypotheses=most, beam_width=most)
    assert is_out_of_memory(raised.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
