"""Backward passes in stages, where not all rows fit into memory at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from foreign_models import NUM_BINS, NUM_CLASSES
from test_engine import PROMISED, builtin, spectrograms
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from egl_fast.errors import ModelError
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.memory import GradientMemory
from egl_fast.gradients.tape import Tape

NUM_ROWS = 7


class Blocks(nn.Module):
    """Residual blocks; two share a module, and perhaps all read one table."""

    def __init__(self, *, shared_table: bool = False, hook: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inputs = nn.Linear(NUM_BINS, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.scales = nn.ParameterList(torch.rand(8) for _ in range(4))
        self.blocks[3] = self.blocks[1]
        self.table = nn.Parameter(torch.rand(12, 8)) if shared_table else None
        self.hook = hook
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inputs(x)
        for block, scale in zip(self.blocks, self.scales, strict=True):
            x = x + block(x.tanh()) * scale
            if self.table is not None:
                x = x + self.table
            if self.hook:
                x.register_hook(lambda cotangent: 2 * cotangent)  # type: ignore[no-untyped-call]
        return self.output(x), lengths


def run(model: nn.Module, dtype: torch.dtype) -> tuple[GradientEngine, Tape, Tensor]:
    engine = GradientEngine(model.to(dtype))
    torch.manual_seed(1)
    tape = engine.run(torch.randn(1, 12, NUM_BINS, dtype=dtype), torch.tensor([12]))
    return engine, tape, torch.randn(1, NUM_ROWS, 12, NUM_CLASSES, dtype=dtype)


def allow(engine: GradientEngine, tape: Tape, share: float) -> None:
    """Memory for so large a share of what all rows take together."""
    engine.memory.pass_bytes = int(share * NUM_ROWS * engine.memory.row_bytes(tape)) + 1


@pytest.fixture(autouse=True)
def _passes_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As gradients of large models, which do not fit into the other half of the memory."""
    monkeypatch.setattr(
        GradientMemory,
        "_holds_passes",
        lambda self, tape, num_rows: len(self.passes(tape, num_rows)) == 1,
    )


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize(
    ("shared_table", "counts"), [(False, {0.5: 3, 0.3: 5, 0.25: 6}), (True, {0.9: 2, 0.65: 3})]
)
def test_inner_products_are_the_same_in_stages(
    shared_table: bool, counts: dict[float, int], dtype: torch.dtype
) -> None:
    engine, tape, cotangents = run(Blocks(shared_table=shared_table), dtype)
    whole = engine.gram(tape, cotangents)
    for share, count in counts.items():
        allow(engine, tape, share)
        assert len(engine.memory.stages(tape, NUM_ROWS)) == count
        assert engine.memory.holds_gradients(tape, NUM_ROWS)
        found = engine.gram(tape, cotangents)
        assert found.keys() == whole.keys()
        for name, gram in found.items():
            rounding = PROMISED[dtype] * float(whole[name].max())
            torch.testing.assert_close(gram, whole[name], rtol=0, atol=rounding)


class Transformer(nn.Module):
    """A position convolution under weight norm, and two layers of attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inputs = nn.Linear(NUM_BINS, 8)
        self.position = weight_norm(nn.Conv1d(8, 8, 4, padding="same", groups=2, dilation=2), dim=2)
        self.norm = nn.GroupNorm(2, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inputs(x)
        x = x + self.norm(self.position(x.mT).tanh()).mT
        return self.output(self.encoder(x)), lengths


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", ["transformer", "built_in"])
def test_inner_products_of_known_models_are_the_same_in_stages(
    name: str, dtype: torch.dtype
) -> None:
    if name == "transformer":
        engine, tape, cotangents = run(Transformer(), dtype)
    else:
        engine = GradientEngine(builtin("tiny", "gru", dtype))
        x, lengths = spectrograms(dtype)
        tape = engine.run(x[:1], lengths[:1])
        cotangents = torch.randn(1, NUM_ROWS, *tape.logits.shape[1:], dtype=dtype)
    whole = engine.gram(tape, cotangents)
    allow(engine, tape, 0.6)
    assert len(engine.memory.stages(tape, NUM_ROWS)) > 1
    for name, gram in engine.gram(tape, cotangents).items():
        rounding = PROMISED[dtype] * float(whole[name].max())
        torch.testing.assert_close(gram, whole[name], rtol=0, atol=rounding)


def test_stages_end_only_where_all_paths_meet() -> None:
    _, tape, _ = run(Blocks(), torch.float64)
    assert [len(stage.direct) for stage in tape.stages] == [0, 1, 1, 1, 1, 0]
    _, tape, _ = run(Blocks(shared_table=True), torch.float64)
    # The table is last used at the end of the first block.
    assert [len(stage.direct) for stage in tape.stages] == [0, 4, 1, 0]


def test_too_little_memory_for_a_stage() -> None:
    engine, tape, _ = run(Blocks(shared_table=True), torch.float64)
    allow(engine, tape, 0.5)
    assert engine.memory.stages(tape, NUM_ROWS) == [tape.stage]
    assert not engine.memory.holds_gradients(tape, NUM_ROWS)


def test_hooks_run_once() -> None:
    _, tape, _ = run(Blocks(hook=True), torch.float64)
    assert len(tape.stages) == 1
    model = Blocks()
    model.blocks[0].register_full_backward_hook(lambda *_: None)
    assert len(run(model, torch.float64)[1].stages) == 1


def test_the_first_pass_in_stages_is_compared_with_autograd() -> None:
    engine, tape, cotangents = run(Blocks(hook=True), torch.float64)
    engine.gram(tape, cotangents)
    tape = replace(tape, has_hooks=False)
    allow(engine, tape, 0.3)
    with pytest.raises(ModelError, match="disagree"):
        engine.gram(tape, cotangents)
