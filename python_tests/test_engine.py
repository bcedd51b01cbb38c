"""The engine against looped autograd, on the built-in model and on foreign ones."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from foreign_models import FOREIGN_MODELS, NUM_CLASSES, batch, build
from torch import Tensor, nn

import egl_fast
from egl_fast import ops
from egl_fast.compute.products import matrix_product
from egl_fast.errors import ModelError
from egl_fast.gradients import memory
from egl_fast.gradients.contributions import factor_pays
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.memory import GradientMemory
from egl_fast.gradients.tape import Tape
from egl_fast.model import CELLS, DeepSpeech2, preset
from egl_fast.reference.gradients import looped_sq_norms

# DESIGN.md, section 5: what `exact` promises of each squared norm.
PROMISED = {torch.float32: 1e-4, torch.float64: 1e-9}


def labelings_of(logits: Tensor, lengths: Tensor, blank: int = 0) -> list[list[list[int]]]:
    """Six labelings per utterance: likely ones and the empty one."""
    found = ops.ctc_beam_search(
        logits.detach().double().log_softmax(2), lengths, num_hypotheses=6, blank=blank
    )
    return [
        [found.labels[n, k, : int(found.label_lengths[n, k])].tolist() for k in range(5)] + [[]]
        for n in range(logits.shape[0])
    ]


def assert_norms_equal_the_loop(
    model: nn.Module,
    inputs: tuple[Tensor, Tensor],
    dtype: torch.dtype,
    *,
    params: str | None = None,
    memory_bytes: int | None = None,
) -> dict[str, Tensor]:
    """Every parameter's norm, and their sum, for every hypothesis of every utterance."""
    double = copy.deepcopy(model).double().eval()
    engine = GradientEngine(model, params=params, memory_bytes=memory_bytes)
    shares = engine.shares_batches
    x, lengths = inputs
    groups = [slice(0, 3)] if shares else [slice(n, n + 1) for n in range(3)]
    norms = {}
    for group in groups:
        tape = engine.run(x[group].to(dtype), lengths[group])
        logits, num_frames = tape.outputs
        labelings = labelings_of(logits, num_frames)
        hypotheses = ops.Hypotheses.of(labelings)
        _, cotangents = ops.ctc_logits_cotangents(logits.detach(), num_frames, hypotheses)
        norms = engine.sq_norms(tape, cotangents)
        named = {
            name: parameter
            for name, parameter in double.named_parameters()
            if name in engine.parameters
        }
        for n in range(logits.shape[0]):
            truth = looped_sq_norms(
                double, (x[group].double(), lengths[group]), labelings[n],
                parameters=named, utterance=n,
            )  # fmt: skip
            for k, expected in enumerate(truth):
                got = {name: float(norms[name][n, k]) if name in norms else 0.0 for name in named}
                total = sum(expected.values())
                for name in named:
                    # A parameter with a tiny share is held to the same absolute error.
                    assert got[name] == pytest.approx(
                        expected[name], rel=PROMISED[dtype], abs=PROMISED[dtype] * 1e-3 * total
                    ), name
                assert sum(got.values()) == pytest.approx(total, rel=PROMISED[dtype])
        if cotangents.shape[1] <= memory.ROWS_PER_PASS and engine.memory.pass_bytes > 1:
            assert_inner_products_fit(engine, tape, cotangents, norms, dtype)
    return norms


def assert_inner_products_fit(
    engine: GradientEngine,
    tape: Tape,
    cotangents: Tensor,
    norms: dict[str, Tensor],
    dtype: torch.dtype,
) -> None:
    """||a + b||^2 = ||a||^2 + ||b||^2 + 2 <a, b>, where the norms are known to be right."""
    sums = engine.sq_norms(tape, cotangents + cotangents.roll(1, dims=1))
    grams = engine.gram(tape, cotangents)
    assert list(grams) == list(norms)
    for name, gram in grams.items():
        own = gram.diagonal(dim1=1, dim2=2)
        rounding = PROMISED[dtype] * float(own.max() + 1e-3 * max(g.max() for g in grams.values()))
        torch.testing.assert_close(own, norms[name], rtol=0, atol=rounding)
        beside = torch.stack([gram[:, r, r - 1] for r in range(gram.shape[1])], dim=1)
        expected = own + own.roll(1, dims=1) + 2 * beside
        torch.testing.assert_close(sums[name], expected, rtol=0, atol=4 * rounding)


def builtin(name: str, cell: str, dtype: torch.dtype) -> DeepSpeech2:
    torch.manual_seed(3)
    model = DeepSpeech2(preset(name, cell=cell))
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return model.to(dtype)


def spectrograms(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    lengths = torch.tensor([40, 60, 33])
    x = torch.randn(3, 60, 161, generator=generator, dtype=torch.float64)
    return (x * (torch.arange(60)[None, :, None] < lengths[:, None, None])).to(dtype), lengths


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_norms_of_the_built_in_model_equal_the_loop(cell: str, dtype: torch.dtype) -> None:
    assert_norms_equal_the_loop(builtin("tiny", cell, dtype), spectrograms(dtype), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "paper"])
def test_norms_of_larger_presets_equal_the_loop(name: str) -> None:
    dtype = torch.float32
    assert_norms_equal_the_loop(builtin(name, "gru", dtype), spectrograms(dtype), dtype)


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", FOREIGN_MODELS)
def test_norms_of_foreign_models_equal_the_loop(name: str, dtype: torch.dtype) -> None:
    assert_norms_equal_the_loop(build(name, dtype=dtype), batch(dtype=dtype), dtype)


def test_rules_cover_the_modules_they_are_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="egl_fast")
    for name in ("packed_gru", "stateful_lstm", "convolutions"):
        assert_norms_equal_the_loop(build(name), batch(), torch.float64)
    said = " ".join(record.getMessage() for record in caplog.records)
    # Only a learned initial state is a parameter of no module with a rule.
    assert said == "no norm rule covers initial: exact gradients by autograd"


def test_parameters_without_a_rule_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="egl_fast")
    assert_norms_equal_the_loop(build("without_rules"), batch(), torch.float64)
    messages = [record.getMessage() for record in caplog.records]
    assert len([m for m in messages if "no norm rule covers" in m]) == 1
    assert "scale" in messages[0]
    assert "weight" not in messages[0].replace("position.weight", "")


def test_frozen_parameters_do_not_count() -> None:
    norms = assert_norms_equal_the_loop(build("without_rules"), batch(), torch.float64)
    assert not any(name.startswith(("frozen", "unused")) for name in norms)


def test_pattern_picks_parameters() -> None:
    model = builtin("tiny", "gru", torch.float64)
    norms = assert_norms_equal_the_loop(
        model, spectrograms(torch.float64), torch.float64, params="output.*, convs.1.*"
    )
    assert set(norms) == {
        "output.weight", "output.bias",
        "convs.1.conv.weight", "convs.1.norm.weight", "convs.1.norm.bias",
    }  # fmt: skip


def test_pattern_without_a_match_names_the_parameters() -> None:
    with pytest.raises(ModelError, match=r"params 'decoder\.\*' matches no .*output\.weight"):
        GradientEngine(builtin("tiny", "gru", torch.float64), params="decoder.*")


def test_a_model_without_trainable_parameters_is_refused() -> None:
    model = builtin("tiny", "gru", torch.float64).requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter that requires a gradient"):
        GradientEngine(model)


def test_rows_a_pass_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ROWS_PER_PASS", 4)
    model = builtin("tiny", "lstm", torch.float64)
    assert_norms_equal_the_loop(model, spectrograms(torch.float64), torch.float64)


def test_products_are_batched_over_their_first_operand_only() -> None:
    a, b = torch.zeros(2, 3), torch.zeros(5, 3, 4)
    assert torch.func.vmap(matrix_product, in_dims=(0, None))(a.expand(5, 2, 3), b[0]).shape == (
        5,
        2,
        4,
    )
    with pytest.raises(NotImplementedError, match="matrix_product: vmap over a only"):
        torch.func.vmap(matrix_product, in_dims=(None, 0))(a, b)


class OneByOne(torch.autograd.Function):
    """A doubling whose backward pass looks at values, which vmap cannot do."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, *cotangents: Tensor) -> Tensor:
        return torch.tensor(2.0, dtype=cotangents[0].dtype) * (
            cotangents[0] if float(cotangents[0].sum()) < 1e9 else cotangents[0] * 0
        )


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
def test_inner_products_do_not_depend_on_passes(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    model = builtin("tiny", "gru", dtype)
    engine = GradientEngine(model)
    x, lengths = spectrograms(dtype)
    tape = engine.run(x[:1], lengths[:1])
    logits, _ = tape.outputs
    cotangents = torch.randn(1, 7, *logits.shape[1:], dtype=dtype)
    whole = engine.gram(tape, cotangents)
    for rows_a_pass in (1, 3, 5):  # 7, 3 + 3 + 1, 4 + 3
        monkeypatch.setattr(memory, "ROWS_PER_PASS", rows_a_pass)
        assert engine.memory.holds_gradients(tape, 7)
        for name, gram in engine.gram(tape, cotangents).items():
            rounding = PROMISED[dtype] * float(whole[name].max())
            torch.testing.assert_close(gram, whole[name], rtol=0, atol=rounding)


def test_passes_share_one_basis_of_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution takes the factor's route from 4 rows on, and 3 + 4 rows are to be compared."""

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(25, 12, 4)
            self.output = nn.Linear(12, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.output(self.conv(x).transpose(1, 2)), lengths

    assert factor_pays(20, 100, 4 * 12)
    assert not factor_pays(20, 100, 3 * 12)
    torch.manual_seed(0)
    engine = GradientEngine(Convolution().double())
    tape = engine.run(torch.randn(1, 25, 23).double(), torch.tensor([20]))
    logits, _ = tape.outputs
    cotangents = torch.randn(1, 7, *logits.shape[1:]).double()
    whole = engine.gram(tape, cotangents)
    monkeypatch.setattr(memory, "ROWS_PER_PASS", 4)
    for name, gram in engine.gram(tape, cotangents).items():
        torch.testing.assert_close(gram, whole[name], rtol=0, atol=1e-9 * float(whole[name].max()))


def test_inner_products_across_passes_need_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = builtin("tiny", "gru", torch.float64)
    engine = GradientEngine(model)
    x, lengths = spectrograms(torch.float64)
    tape = engine.run(x[:1], lengths[:1])
    logits, _ = tape.outputs
    cotangents = torch.randn(1, 5, *logits.shape[1:], dtype=torch.float64)
    # Intermediate results allow three rows per pass; gradients are about half as large.
    monkeypatch.setattr(memory, "ROWS_PER_PASS", 3)
    engine.memory.pass_bytes = 3 * engine.memory.row_bytes(tape)
    assert engine.memory.holds_gradients(tape, 5)
    monkeypatch.setattr(GradientMemory, "row_bytes", lambda *_: 0)
    engine.memory.pass_bytes = 100
    assert engine.memory.holds_gradients(tape, 3)
    assert not engine.memory.holds_gradients(tape, 5)
    for gram in engine.gram(tape, cotangents).values():
        together = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).bool()
        assert torch.equal(gram[0].isnan(), ~together)


def test_backward_that_does_not_vectorize_is_looped() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs = nn.Linear(6, 8)
            self.output = nn.Linear(8, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.output(OneByOne.apply(self.inputs(x))), lengths

    torch.manual_seed(0)
    with pytest.warns(egl_fast.EglWarning, match="cannot be vectorized"):
        assert_norms_equal_the_loop(Doubling().double(), batch(), torch.float64)


def test_input_modified_after_it_was_read_is_refused() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(6, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            x = x.clone()
            logits = self.output(x)
            x.zero_()
            return logits, lengths

    engine = GradientEngine(Overwriting().double())
    x, lengths = batch()
    tape = engine.run(x[:1], lengths[:1])
    with pytest.raises(ModelError, match=r"output\.weight.* modified in place"):
        engine.sq_norms(tape, torch.ones(1, 2, 12, NUM_CLASSES).double())


def test_detached_logits_are_refused() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs = nn.Linear(6, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.inputs(x).detach(), lengths

    engine = GradientEngine(Detached().double())
    x, lengths = batch()
    tape = engine.run(x[:1], lengths[:1])
    with pytest.raises(ModelError, match="depend on no parameter"):
        engine.sq_norms(tape, torch.ones(1, 2, 12, NUM_CLASSES).double())
