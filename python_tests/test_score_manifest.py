"""``Scorer.score_manifest``: a wrong call fails at once, a failing model costs one utterance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from foreign_models import NUM_CLASSES, VOCABULARY
from recordings import random_checkpoint, scorer_of, write_manifest
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import AudioError


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    names = ["a", "b", "c", "d"]
    for n, name in enumerate(names):
        soundfile.write(tmp_path / f"{name}.wav", rng.normal(size=4000 + 800 * n) * 0.1, 16000)
    return write_manifest(
        tmp_path / "pool.jsonl", [{"audio_filepath": f"{name}.wav"} for name in names]
    )


class Picky(nn.Module):
    """Fails on one length, with an exception of its own."""

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
    assert cause.__traceback__ is not None  # says where it was raised, but holds no tensors
    last = cause.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_code.co_name == "forward"
    assert not last.tb_frame.f_locals


def test_a_broken_recording_costs_only_itself(pool: Path) -> None:
    pool.with_name("b.wav").write_bytes(b"no audio")
    scorer = scorer_of(random_checkpoint())
    kept = list(scorer.score_manifest(pool, k=3, on_error="skip"))
    assert [record.id for record in kept] == ["a.wav", "c.wav", "d.wav"]
    with pytest.raises(AudioError, match=r"b\.wav"):
        list(scorer.score_manifest(pool, k=3, on_error="raise"))


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
    with pytest.raises(egl_fast.errors.ModelError, match="has no front end"):
        without_features.score_manifest(pool)
