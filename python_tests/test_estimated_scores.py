"""Estimated scores: how close they are to exact ones, and what they depend on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from recordings import random_checkpoint, scorer_of, shortest
from torch import Tensor

import egl_fast
from egl_fast.data.loading import load_spectrogram, pad_features


@pytest.fixture(scope="module")
def scorer_and_inputs(examples: Path) -> tuple[egl_fast.Scorer, Tensor, Tensor, list[str]]:
    checkpoint = random_checkpoint()
    checkpoint.model.double()
    scorer = scorer_of(checkpoint)
    utterances = shortest(examples, 2)
    features, lengths = pad_features(
        [load_spectrogram(u, checkpoint.features).features for u in utterances]
    )
    return scorer, features.double(), lengths, [u.id for u in utterances]


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("method", ["lowrank", "probe"])
def test_estimates_depend_on_seed_id_and_audio_alone(
    scorer_and_inputs: tuple[egl_fast.Scorer, Tensor, Tensor, list[str]], method: str
) -> None:
    scorer, features, lengths, ids = scorer_and_inputs
    options = {"k": 30, "method": method, "tolerance": 0.05, "probes": 3}
    options |= {"full": True, "full_samples": 40}
    together = scorer.score_batch(features, lengths, ids=ids, **options)
    backwards = scorer.score_batch(features.flip(0), lengths.flip(0), ids=ids[::-1], **options)
    torch.set_num_threads(3 - min(torch.get_num_threads(), 2))
    alone = [
        scorer.score_batch(
            features[n : n + 1, : int(lengths[n])], lengths[n : n + 1], ids=[ids[n]], **options
        )[0]
        for n in range(2)
    ]
    for others in (backwards[::-1], alone):
        for record, other in zip(together, others, strict=True):
            for field in ("egl", "egl_stderr", "egl_normalized", "egl_full", "egl_full_stderr"):
                # Rounding in float64, amplified where a spread is small compared with its values.
                assert getattr(record, field) == pytest.approx(
                    getattr(other, field), rel=1e-6, abs=1e-9 * record.egl
                )
    reseeded = scorer.score_batch(features, lengths, ids=ids, seed=1, **options)
    renamed = scorer.score_batch(features, lengths, ids=["x", "y"], **options)
    for record, *others in zip(together, reseeded, renamed, strict=True):
        for other in others:
            assert other.egl_full != record.egl_full


def test_lowrank_on_real_speech_is_within_its_tolerance(examples: Path) -> None:
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    utterances = shortest(examples, 3)
    inputs = pad_features([load_spectrogram(u, scorer.features).features for u in utterances])
    ids = [u.id for u in utterances]
    exact = scorer.score_batch(*inputs, ids=ids, per_hypothesis=True)
    close = scorer.score_batch(*inputs, ids=ids, method="lowrank", per_hypothesis=True)
    for one, other in zip(exact, close, strict=True):
        # Four standard errors; the tolerance promises 1% for one.
        assert other.egl == pytest.approx(one.egl, rel=0.04)
        assert 0.0 < other.egl_stderr < 0.04 * one.egl
        assert [h.labels for h in other.hypotheses] == [h.labels for h in one.hypotheses]
        assert other.egl_unsquared == pytest.approx(one.egl_unsquared, rel=0.04)
        total = sum(math.exp(h.log_prob) * h.sq_grad_norm for h in other.hypotheses)
        # The sums differ where a norm would have been negative.
        assert total == pytest.approx(other.egl, rel=1e-3)
        errors = [
            (a.sq_grad_norm - b.sq_grad_norm, b.sq_grad_norm_stderr)
            for a, b in zip(one.hypotheses, other.hypotheses, strict=True)
        ]
        # On average, errors are not larger than stated: see DirectionsAndProbes.single_norms.
        assert sum(e**2 for e, _ in errors) < 1.5 * sum(s**2 for _, s in errors)
        assert all(h.sq_grad_norm_stderr == 0.0 for h in one.hypotheses)
    [plain] = scorer.score_batch(inputs[0][:1], inputs[1][:1], method="lowrank")
    assert plain.egl_unsquared is None
