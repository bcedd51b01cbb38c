"""Everything is moved to the model's device: tested on a fake device that computes on the CPU."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_device import DEVICE, MixedDevicesError, fake_device, moved
from foreign_models import FOREIGN_MODELS, VOCABULARY, batch, build
from recordings import random_checkpoint, scorer_of, waveform
from torch.utils._pytree import tree_leaves

import egl_fast
from egl_fast import _extension, ops
from egl_fast.compute import cuda_diagnosis
from egl_fast.compute.devices import usable_device
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import DeviceError
from egl_fast.gradients.engine import GradientEngine
from egl_fast.recognizers.checkpoint import recognizer_of
from egl_fast.scoring.formula import search as search_module
from egl_fast.training.config import TrainingConfig
from egl_fast.training.examples import prepare_examples
from egl_fast.training.loop import Trainer
from egl_fast.training.metrics import transcribe

WAVES = [waveform(seconds, seed=i) for i, seconds in enumerate((0.5, 0.8, 0.3, 0.52))]


def test_the_other_device_refuses_what_a_gpu_refuses() -> None:
    with fake_device() as device:
        there = torch.zeros(3, device=device)
        assert (there + 1.0).device == device
        assert (there + torch.tensor(2.0)).tolist() == [2.0, 2.0, 2.0]
        assert there[torch.tensor([0, 2])].cpu().tolist() == [0.0, 0.0]
        here = there.cpu()
        assert here.device.type == "cpu"
        here += 1
        assert there.sum().item() == 0
        for mix in (
            lambda: there + torch.ones(3),
            lambda: torch.ones(3)[there.long()],
            lambda: torch.cat([there, torch.ones(1)]),
            lambda: there.index_put((torch.tensor([0, 1]),), torch.ones(2)),
        ):
            with pytest.raises(MixedDevicesError):
                mix()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


class Gpus:
    """What torch would say on a machine with this many GPUs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, built: bool, count: int) -> None:
        facts = {
            **_extension.build_info(),
            "built_with_cuda": built,
            "cuda_version": "13.0.88" if built else None,
            "cuda_architectures": [75, 90] if built else [],
        }
        monkeypatch.setattr(_extension, "build_info", lambda: facts)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
        monkeypatch.setattr(cuda_diagnosis, "driver_cuda_version", lambda: (13, 0))


@pytest.mark.parametrize(
    ("built", "count", "name", "found"),
    [
        (True, 1, "auto", "cuda"),
        (True, 2, "cuda:1", "cuda:1"),
        (True, 0, "auto", "cpu"),
        (False, 1, "auto", "cpu"),
        (False, 1, "cpu", "cpu"),
    ],
)
def test_device_names_are_resolved(
    monkeypatch: pytest.MonkeyPatch, built: bool, count: int, name: str, found: str
) -> None:
    Gpus(monkeypatch, built=built, count=count)
    assert usable_device(name) == torch.device(found)


@pytest.mark.parametrize(
    ("built", "count", "name", "problem"),
    [
        (False, 1, "cuda", "this egl-fast was built without CUDA; `egl-fast doctor` says more"),
        (True, 0, "cuda:0", "finds no GPU; `egl-fast doctor` says more"),
        (True, 1, "cuda:1", "torch finds 1 GPU, numbered from 0"),
        (True, 1, "gpu", "'gpu': is unknown; choose auto, cpu, cuda"),
        (True, 1, "mps", "operators for the CPU and NVIDIA GPUs only; choose cpu, cuda or auto"),
        (True, 1, "xpu:0", "operators for the CPU and NVIDIA GPUs only"),
        (True, 1, "meta", "operators for the CPU and NVIDIA GPUs only"),
    ],
)
def test_devices_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, built: bool, count: int, name: str, problem: str
) -> None:
    Gpus(monkeypatch, built=built, count=count)
    with pytest.raises(DeviceError, match=f"^device .*{re.escape(problem)}"):
        egl_fast.Scorer.from_checkpoint("none.pt", device=name)


def test_a_torch_without_cuda_is_told_from_an_extension_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Gpus(monkeypatch, built=True, count=0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match=r"torch .* is a CPU build"):
        usable_device("cuda")


def scorer_on(device: torch.device | str) -> egl_fast.Scorer:
    checkpoint = random_checkpoint()
    checkpoint.model.to(device)
    return scorer_of(checkpoint, memory_bytes=2**24)


@pytest.mark.parametrize(
    "options",
    [
        {"per_hypothesis": True},
        {"method": "lowrank", "tolerance": 0.1, "full": True},
        {"method": "lowrank", "per_hypothesis": True, "params": "convs.*,recurrent.*"},
        {"method": "probe", "full": True, "full_samples": 5},
    ],
    ids=str,
)
def test_scores_are_those_of_the_cpu(options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"sample_rate_hz": 16000, "k": 12, "beam_width": 40, **options}
    expected = scorer_on("cpu").score_waveforms(WAVES, **arguments)
    with fake_device() as device:
        scorer = scorer_on(device)
        assert all(p.device == device for p in scorer.model.parameters())
        records = scorer.score_waveforms(WAVES, **arguments)
    assert_close(records, expected)


def test_rows_that_do_not_fit_together_are_searched_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []
    fused = ops.ctc_nbest_cotangents

    def watched(logits: torch.Tensor, *arguments: Any, **options: Any) -> ops.NbestCotangents:
        sizes.append(logits.shape[0])
        return fused(logits, *arguments, **options)

    monkeypatch.setattr(ops, "ctc_nbest_cotangents", watched)
    arguments: dict[str, Any] = {"sample_rate_hz": 16000, "k": 4, "method": "lowrank"}
    arguments |= {"full": True, "full_samples": 3}
    expected = scorer_on("cpu").score_waveforms(WAVES, **arguments)
    assert max(sizes) > 1
    sizes.clear()
    monkeypatch.setattr(search_module, "SEARCH_BYTES", 1)
    with fake_device() as device:
        records = scorer_on(device).score_waveforms(WAVES, **arguments)
    assert set(sizes) == {1}
    assert_close(records, expected)


def assert_close(
    records: Sequence[egl_fast.ScoreRecord], expected: Sequence[egl_fast.ScoreRecord]
) -> None:
    """Equal up to the order in which torch adds on another device."""
    for record, other in zip(records, expected, strict=True):
        for ours, theirs in zip(_leaves(record), _leaves(other), strict=True):
            if isinstance(theirs, float):
                assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-12)
            else:
                assert ours == theirs


def _leaves(record: egl_fast.ScoreRecord) -> list[Any]:
    return tree_leaves(dataclasses.asdict(record))


@pytest.mark.filterwarnings("ignore:.*different logits alone:egl_fast.EglWarning")
@pytest.mark.parametrize("name", FOREIGN_MODELS)
def test_foreign_models_run_where_they_are(name: str) -> None:
    model, inputs = build(name), batch()
    options: dict[str, Any] = {"k": 6, "per_hypothesis": True}
    expected = egl_fast.Scorer(copy.deepcopy(model), VOCABULARY).score_batch(*inputs, **options)
    with fake_device() as device:
        scorer = egl_fast.Scorer(model.to(device), VOCABULARY)
        assert_close(scorer.score_batch(*moved(inputs), **options), expected)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn_tanh", "rnn_clipped_relu"])
def test_norms_and_products_stay_on_the_device(cell: str) -> None:
    with fake_device() as device:
        model = random_checkpoint(cell=cell).model.to(device)
        engine = GradientEngine(model)
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(2, 30, 161, generator=generator).to(device)
        tape = engine.run(features, torch.tensor([30, 21]))
        logits, _ = tape.outputs
        cotangents = torch.randn(2, 3, *logits.shape[1:], generator=generator).to(device)
        for found in (engine.sq_norms, engine.gram):
            assert {x.device for x in found(tape, cotangents).values()} == {device}


def test_training_and_transcribing_on_the_device(recordings: Path, tmp_path: Path) -> None:
    losses = []
    for place in ("cpu", "elsewhere"):
        checkpoint = random_checkpoint(dropout=0.0)
        utterances = read_manifest(recordings)
        config = TrainingConfig(max_epochs=2, batch_seconds=1.5, spec_augment=True)
        with fake_device() as device:
            if place == "elsewhere":
                checkpoint.model.to(device)
            examples = prepare_examples(utterances, checkpoint).examples
            trainer = Trainer(
                checkpoint, config, train=examples, valid=examples, run_dir=tmp_path / place
            )
            trainer.start()
            best = trainer.run()
            losses.append((best.train_loss, best.valid_loss, best.valid_cer))
            [heard] = transcribe(recognizer_of(checkpoint), utterances, batch_seconds=2.0)
            losses.append(tuple(transcript.text for transcript in heard))
    assert losses[:2] == losses[2:]
    # A model file belongs to no device.
    loaded = egl_fast.Scorer.from_checkpoint(tmp_path / "elsewhere" / "model.pt")
    assert next(loaded.model.parameters()).device.type == "cpu"


def test_labels_on_a_device_are_not_waited_for() -> None:
    log_probs = torch.zeros(1, 4, 3).log_softmax(2)
    lengths = torch.tensor([2])
    found = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=2)
    with fake_device():
        there = ops.ctc_beam_search(*moved((log_probs, lengths)), num_hypotheses=2)
        assert there.labels.shape == (1, 2, 4)
        back = there.to(torch.device("cpu"))
    assert torch.equal(back.labels, found.labels)
    assert back.labels.shape[2] == 1


def test_waveforms_may_be_on_the_device() -> None:
    records = scorer_on("cpu").score_waveforms(WAVES[:1], sample_rate_hz=16000, k=3)
    with fake_device():
        there = [torch.from_numpy(np.asarray(WAVES[0])).to(DEVICE)]
        assert_close(scorer_on(DEVICE).score_waveforms(there, sample_rate_hz=16000, k=3), records)
