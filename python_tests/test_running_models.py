"""A stranger's model is run alone and by its own modes, and left as it was."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES, batch
from torch import Tensor, nn

import egl_fast
from egl_fast import ops
from egl_fast.compute.memory import is_out_of_memory
from egl_fast.compute.process_wide import SharedChange
from egl_fast.gradients import engine as engine_module

VOCABULARY = ["-", "a", "b", "c"]


class Head(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(self.encoder(x).tanh()), lengths


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(NUM_BINS, 8), nn.Tanh(), nn.Linear(8, 8))


def in_threads(*works: Callable[[], object]) -> list[object]:
    """What each returned or raised."""
    found: list[object] = [None] * len(works)

    def work(n: int) -> None:
        try:
            found[n] = works[n]()
        except BaseException as error:
            found[n] = error

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    return found


def test_unrelated_models_run_side_by_side() -> None:
    """Each waits inside its forward pass until the other is there, too."""
    arrived = threading.Barrier(2, timeout=30)

    class Meeting(Head):
        met = False

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            if not self.met:
                arrived.wait()
                self.met = True
            return super().forward(x, lengths)

    x, lengths = batch(dtype=torch.float32)
    scorers = [egl_fast.Scorer(Meeting(encoder()), VOCABULARY) for _ in range(2)]
    found = in_threads(
        *(lambda s=scorer: s.score_batch(x[:1], lengths[:1], k=2) for scorer in scorers)
    )
    assert all(isinstance(records, list) for records in found), found


def test_models_with_a_module_in_common_wait_for_each_other() -> None:
    shared = encoder()
    models = [Head(shared).train(), Head(shared).train()]
    x, lengths = batch(dtype=torch.float32)
    scorers = [egl_fast.Scorer(model, VOCABULARY) for model in models for _ in range(2)]
    expected = [scorer.score_batch(x, lengths, k=3) for scorer in scorers]
    state = torch.get_rng_state()

    def again(n: int) -> list[object]:
        return [scorers[n].score_batch(x, lengths, k=3) == expected[n] for _ in range(10)]

    found = in_threads(*(lambda n=n: again(n) for n in range(4)))
    assert found == [[True] * 10] * 4
    assert all(module.training for model in models for module in model.modules())
    assert all(isinstance(p, nn.Parameter) for m in shared for p in m._parameters.values())
    assert torch.get_rng_state().equal(state)


class Setting:
    """Something global that can be saved and restored in the wrong order."""

    def __init__(self) -> None:
        self.value = "own"
        self.shared = SharedChange(self._set)

    def _set(self, value: str) -> Callable[[], None]:
        before, self.value = self.value, value

        def undo() -> None:
            self.value = before

        return undo


def test_who_comes_first_and_leaves_first_takes_nothing_away() -> None:
    setting = Setting()
    first, second = setting.shared("ours"), setting.shared("ours")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert setting.value == "ours"
    second.__exit__(None, None, None)
    assert setting.value == "own"


def test_other_values_wait_and_nested_ones_come_back() -> None:
    setting = Setting()

    def hold(value: str) -> bool:
        right = True
        for _ in range(200):
            with setting.shared(value):
                right &= setting.value == value
                with setting.shared(value):
                    right &= setting.value == value
                right &= setting.value == value
        return right

    assert in_threads(*(lambda v=v: hold(v) for v in ("a", "b", "a", "b"))) == [True] * 4
    assert setting.value == "own"
    with setting.shared("a"):
        with pytest.raises(ZeroDivisionError), setting.shared("b"):
            assert setting.value == "b"
            raise ZeroDivisionError
        assert setting.value == "a"
    assert setting.value == "own"


class Loud(Head):
    """Refuses evaluation mode, after it has taken it."""

    def eval(self) -> Loud:
        super().eval()
        raise OSError("not now")


def test_modes_come_back_where_eval_raises() -> None:
    model = Loud(encoder()).train()
    model.encoder[0].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(OSError, match="not now"):
        egl_fast.Scorer(model, VOCABULARY).score_batch(*batch(dtype=torch.float32), k=3)
    assert [module.training for module in model.modules()] == modes


class LowRank(nn.Module):
    """Merges an update into its weight for evaluation, and takes it out again for training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, 8), requires_grad=False)
        self.down, self.up = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(8, 2))
        self.merged = False

    def train(self, mode: bool = True) -> LowRank:
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight)
        return y if self.merged else y + F.linear(F.linear(x, self.down), self.up)


def test_modules_return_to_training_by_their_own_way() -> None:
    model = Head(nn.Sequential(nn.Linear(NUM_BINS, 8), LowRank())).train()
    layer: Any = model.encoder[1]
    weight = layer.weight.clone()
    # What the update did to the weight is undone before the backward pass, which is noticed.
    with pytest.raises(egl_fast.errors.ModelError, match=r"weights that train\(\) or eval\(\)"):
        egl_fast.Scorer(model, VOCABULARY).score_batch(*batch(dtype=torch.float32), k=3)
    assert layer.training
    assert not layer.merged
    torch.testing.assert_close(layer.weight, weight)


def test_an_exported_program_has_no_modes() -> None:
    model = Head(encoder()).eval()
    x, lengths = batch(dtype=torch.float32)
    x, lengths = x[:1], lengths[:1]
    program = torch.export.export(model, (x, lengths))
    [expected] = egl_fast.Scorer(model, VOCABULARY).score_batch(x, lengths, k=3)
    [record] = egl_fast.Scorer(program.module(), VOCABULARY).score_batch(x, lengths, k=3)
    # The same sums, but by autograd instead of by rules.
    assert record.egl == pytest.approx(expected.egl, rel=1e-5)
    with pytest.raises(egl_fast.errors.ModelError, match=r"ExportedProgram; .*program\.module\(\)"):
        egl_fast.Scorer(program, VOCABULARY)


class Interrupted(Head):
    """Fails in one of its passes, between two layers."""

    def __init__(self, error: BaseException, *, at: int) -> None:
        super().__init__(encoder())
        self.error, self.at, self.passes = error, at, 0

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        self.passes += 1
        y = self.encoder(x)
        if self.passes == self.at:
            raise self.error
        return self.output(y), lengths


@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_the_users_own_exception_comes_through(error: BaseException, at: int) -> None:
    """From a pass of the batch, of the tape, or of the comparison with autograd."""
    model = Interrupted(error, at=at).train()
    model.output.weight.grad = torch.ones_like(model.output.weight)
    x, lengths = batch(dtype=torch.float32)
    scorer = egl_fast.Scorer(model, VOCABULARY)
    state = torch.get_rng_state()
    with pytest.raises(type(error)) as raised:
        scorer.score_batch(x, lengths, k=3)
    assert raised.value is error
    assert any(entry.name == "forward" for entry in raised.traceback)
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(isinstance(p, nn.Parameter) for m in model.modules() for p in m.parameters())
    assert model.output.weight.grad.eq(1.0).all()
    assert model.encoder[0].weight.grad is None
    assert torch.get_rng_state().equal(state)
    model.at = 0
    fresh = egl_fast.Scorer(model, VOCABULARY)
    assert scorer.score_batch(x, lengths, k=3) == fresh.score_batch(x, lengths, k=3)


def test_a_set_of_parameters_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[list[str]] = []
    check = engine_module.check_against_autograd

    def counting(model: nn.Module, tape: Any, *rest: Any) -> None:
        checked.append(list(tape.parameters))
        check(model, tape, *rest)

    monkeypatch.setattr(engine_module, "check_against_autograd", counting)
    scorer = egl_fast.Scorer(Head(encoder()), VOCABULARY)
    for _ in range(2):
        for params in (None, "output.*", "encoder.*"):
            scorer.score_batch(*batch(dtype=torch.float32), k=2, params=params)
    assert [len(names) for names in checked] == [6, 2, 4]


class _Failing:
    """Stands for torch.func.vmap where memory runs out in it, once."""

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
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.func, "vmap", _Failing(error))
    scorer = egl_fast.Scorer(Head(encoder()), VOCABULARY)
    with pytest.raises(type(error)):
        scorer.score_batch(*batch(dtype=torch.float32), k=3)
    assert scorer.score_batch(*batch(dtype=torch.float32), k=3)
    assert scorer._engine._vectorizes
    assert "vectorized" not in caplog.text


def test_a_failure_that_is_not_of_vectorizing_does_not_end_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fragile(torch.autograd.Function):
        broken = True

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
            if Fragile.broken:
                raise RuntimeError("the license server does not answer")
            return cotangents[0]

    model = Head(encoder())
    inner = model.encoder.forward
    model.encoder.forward = lambda x: Fragile.apply(inner(x))  # type: ignore[method-assign]
    scorer = egl_fast.Scorer(model, VOCABULARY)
    with pytest.raises(RuntimeError, match="license server"):
        scorer.score_batch(*batch(dtype=torch.float32), k=3)
    assert scorer._engine._vectorizes
    assert "vectorized" not in caplog.text


def test_operators_without_memory_are_recognized() -> None:
    logits = torch.zeros(1, 4096, 3)
    most = 2**31 - 1
    with pytest.raises(RuntimeError) as raised:
        ops.ctc_nbest_cotangents(logits, torch.tensor([2]), num_hypotheses=most, beam_width=most)
    assert is_out_of_memory(raised.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    names = ["a", "b", "c", "d"]
    for n, name in enumerate(names):
        soundfile.write(tmp_path / f"{name}.wav", rng.normal(size=4000 + 800 * n) * 0.1, 16000)
    manifest = tmp_path / "pool.jsonl"
    manifest.write_text("\n".join(json.dumps({"audio_filepath": f"{name}.wav"}) for name in names))
    return manifest


class Picky(nn.Module):
    """Fails on one length, in a way of its own."""

    def __init__(self, utterances_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.output = nn.Linear(161, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if (lengths == 29).any():  # b.wav
            raise KeyError("speaker")
        return self.output(x), lengths


class PickySharing(Picky):
    utterances_first = True


@pytest.mark.parametrize("kind", [Picky, PickySharing])
@pytest.mark.parametrize("method", ["exact", "probe"])
def test_an_exception_costs_one_utterance_of_a_manifest(
    pool: Path, kind: type[Picky], method: str
) -> None:
    scorer = egl_fast.Scorer(kind(True), VOCABULARY, features=egl_fast.FeatureConfig())
    options: dict[str, Any] = {"k": 3, "method": method}
    kept = list(scorer.score_manifest(pool, on_error="skip", **options))
    assert [record.id for record in kept] == ["a.wav", "c.wav", "d.wav"]
    found = scorer.score_manifest(pool, **options)
    assert next(found).id == "a.wav"
    with pytest.raises(
        egl_fast.errors.ModelError, match=r"^utterance 'b\.wav': failed with KeyError: 'speaker'$"
    ) as raised:
        next(found)
    cause = raised.value.__cause__
    assert isinstance(cause, KeyError)
    assert cause.__traceback__ is not None  # with where it was, and no tensors
    last = cause.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_code.co_name == "forward"
    assert not last.tb_frame.f_locals


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on_error": "ignore"}, ValueError, "on_error: expected 'raise' or 'skip'"),
        ({"k": 0}, ValueError, "k: expected at least 1"),
        ({"batch_seconds": 0}, ValueError, "batch_seconds: expected more than 0, got 0"),
        ({"batch_seconds": float("nan")}, ValueError, "batch_seconds: expected more than 0"),
        ({"max_duration": -1}, ValueError, "max_duration: expected more than 0, got -1"),
        ({"read_timeout": 0}, ValueError, "read_timeout: expected more than 0, got 0"),
        ({"params": "nothing"}, egl_fast.errors.ModelError, "matches no trainable parameter"),
        ({"manifest": "none.jsonl"}, egl_fast.errors.ManifestError, r"none\.jsonl"),
    ],
)
def test_a_wrong_call_fails_at_the_call(
    pool: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    scorer = egl_fast.Scorer(Picky(True), VOCABULARY, features=egl_fast.FeatureConfig())
    with pytest.raises(error, match=message):
        scorer.score_manifest(**{"manifest": pool, **options})
    without_features = egl_fast.Scorer(Picky(True), VOCABULARY)
    with pytest.raises(egl_fast.errors.ModelError, match="has no features"):
        without_features.score_manifest(pool)
