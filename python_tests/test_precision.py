"""Rounding of products, and of nothing else; afterwards torch's settings are as before."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import VOCABULARY, batch, build
from recordings import random_checkpoint, waveform
from torch import Tensor, nn

import egl_fast
from egl_fast.compute.precision import RoundedProducts, matmul_precision
from egl_fast.gradients.engine import GradientEngine
from egl_fast.recurrent import without_cudnn

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype)


def test_operands_and_results_are_rounded() -> None:
    a, b = normal(3, 40), normal(40, 5)
    with RoundedProducts(Tensor.bfloat16):
        product = a @ b
        assert (a + a).equal(2 * a)
    assert product.dtype == torch.float32
    assert product.equal(product.bfloat16().float())
    exact = a.bfloat16().double() @ b.bfloat16().double()
    # One rounding to 8 bits, of a sum in float32.
    torch.testing.assert_close(product.double(), exact, rtol=2**-8, atol=1e-5)
    assert not product.equal(a @ b)


def test_double_precision_is_not_rounded() -> None:
    a, b = normal(3, 40, dtype=torch.float64), normal(40, 5, dtype=torch.float64)
    with RoundedProducts(Tensor.bfloat16):
        assert (a @ b).equal(a @ b)
    with matmul_precision("bf16", CPU):
        assert (a @ b).dtype == torch.float64


def test_backward_passes_are_rounded_too() -> None:
    conv = nn.Conv1d(4, 6, 3)
    x = normal(2, 4, 9).requires_grad_()
    with RoundedProducts(Tensor.bfloat16):
        y = conv(x)
        rows = normal(3, *y.shape)
        (many,) = torch.func.vmap(
            lambda u: torch.autograd.grad(y, [x], u, retain_graph=True)
        )(rows)  # fmt: skip
    (exact,) = torch.autograd.grad(y, [x], rows[0], retain_graph=True)
    assert many[0].equal(many[0].bfloat16().float())
    torch.testing.assert_close(many[0], exact, rtol=0.05, atol=0.05)


BACKENDS: Any = torch.backends


def new_way() -> list[str]:
    settings = (BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn)
    return [setting.fp32_precision for setting in (*settings, BACKENDS.mkldnn.matmul)]


def old_way() -> list[Any]:
    return [
        torch.get_float32_matmul_precision(),
        BACKENDS.cuda.matmul.allow_tf32,
        BACKENDS.cudnn.allow_tf32,
    ]


@pytest.mark.parametrize(("precision", "form"), [("float32", "ieee"), ("tf32", "tf32")])
@pytest.mark.parametrize("setting", ["highest", "high", "medium"])
def test_what_torch_is_set_to_comes_back(precision: str, form: str, setting: str) -> None:
    initially = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        before = new_way(), old_way()
        # torch's default for convolutions, which is why there is something to do.
        assert BACKENDS.cudnn.allow_tf32
        with matmul_precision(precision, CUDA):
            assert new_way()[:3] == [form] * 3
            assert old_way()[1:] == [form == "tf32"] * 2
            with matmul_precision("float32", CUDA):
                assert new_way()[:3] == ["ieee"] * 3
            assert new_way()[:3] == [form] * 3
        assert (new_way(), old_way()) == before
        with pytest.raises(ZeroDivisionError), matmul_precision(precision, CUDA):
            raise ZeroDivisionError
        assert (new_way(), old_way()) == before
        with matmul_precision("float32", CPU):
            assert (new_way(), old_way()) == before
    finally:
        torch.set_float32_matmul_precision(initially)


def test_overlapping_changes_are_undone_in_any_order() -> None:
    """As in two threads: the second starts within the first and ends after it."""
    before = new_way(), old_way(), torch.backends.cudnn.enabled
    first, second = ExitStack(), ExitStack()
    for stack in (first, second):
        stack.enter_context(matmul_precision("float32", CUDA))
        stack.enter_context(without_cudnn())
    first.close()
    assert new_way()[:3] == ["ieee"] * 3
    assert not torch.backends.cudnn.enabled
    second.close()
    assert (new_way(), old_way(), torch.backends.cudnn.enabled) == before


def test_settings_that_only_the_new_interface_shows_come_back() -> None:
    convolutions = BACKENDS.cudnn.conv.fp32_precision
    BACKENDS.cudnn.conv.fp32_precision = "ieee"
    try:
        before = new_way()
        with matmul_precision("float32", CUDA):
            assert new_way()[:3] == ["ieee"] * 3
        assert new_way() == before
    finally:
        BACKENDS.cudnn.conv.fp32_precision = convolutions
    assert BACKENDS.cudnn.allow_tf32


def test_cudnn_is_enabled_again_after_an_error() -> None:
    before = torch.backends.cudnn.enabled
    with pytest.raises(ZeroDivisionError), without_cudnn():
        assert not torch.backends.cudnn.enabled
        raise ZeroDivisionError
    assert torch.backends.cudnn.enabled is before


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_without_a_scan_do_without_cudnn(kind: type[nn.RNNBase]) -> None:
    """Its kernels have no backward pass in evaluation mode; the engine asks for one."""
    seen = []

    class Foreign(kind):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any) -> Any:
            seen.append(torch.backends.cudnn.enabled)
            return super().forward(*args)

    model, inputs = build("packed_gru", dtype=torch.float32), batch(dtype=torch.float32)
    model.rnn = Foreign(5, 7, batch_first=True, bidirectional=True)
    egl_fast.Scorer(model, VOCABULARY).score_batch(*inputs, k=3)
    assert seen
    # Only the first pass, for the number of utterances, may use cuDNN.
    assert seen[1:] == [False] * len(seen[1:])
    assert "forward" not in vars(model.rnn)


def test_bf16_norms_err_by_a_few_percent() -> None:
    checkpoint = random_checkpoint()
    features, lengths = normal(1, 40, 161), torch.tensor([40])
    norms = {}
    for precision in ("float32", "bf16"):
        engine = GradientEngine(checkpoint.model, precision=precision)
        tape = engine.run(features, lengths)
        logits, _ = tape.outputs
        cotangents = normal(1, 5, *logits.shape[1:])
        norms[precision] = sum(engine.sq_norms(tape, cotangents).values())
        gram = sum(engine.gram(tape, cotangents).values())
        torch.testing.assert_close(
            gram[0].diagonal(), norms[precision][0], rtol=1e-4, atol=0
        )  # fmt: skip
    assert not torch.allclose(norms["bf16"], norms["float32"], rtol=1e-4)
    torch.testing.assert_close(norms["bf16"], norms["float32"], rtol=0.05, atol=0)


def test_an_unavailable_precision_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="precision: expected one of float32, tf32, bf16, got"):
        egl_fast.Scorer.from_checkpoint(tiny_model, precision="fp8")
    with pytest.raises(ValueError, match="precision: tf32 is for NVIDIA GPUs, and the model is on"):
        egl_fast.Scorer.from_checkpoint(tiny_model, precision="tf32")


def test_a_scorer_takes_a_precision(tiny_model: Path) -> None:
    scores = []
    for precision in ("float32", "bf16"):
        scorer = egl_fast.Scorer.from_checkpoint(tiny_model, precision=precision)
        [record] = scorer.score_waveforms([waveform(0.5)], sample_rate_hz=16000, k=4, params="*")
        scores.append(record.egl)
    assert scores[0] != scores[1]
    assert scores[1] == pytest.approx(scores[0], rel=0.2)
