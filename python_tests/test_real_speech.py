"""Exactness where it counts: on recorded speech, for every cell, preset, and the shipped model."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path

import jiwer
import pytest
import torch
from recordings import random_checkpoint, scorer_of, shortest

import egl_fast
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.gradients.backward import VectorizedBackward
from egl_fast.gradients.memory import GradientMemory
from egl_fast.model import CELLS
from egl_fast.records import ScoreRecord
from egl_fast.reference.gradients import looped_sq_norms
from egl_fast.scorer import pool_scoring
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.run import pool
from egl_fast.scoring.run.outcome import in_order

# What `exact` promises (DESIGN.md, section 5), for each squared norm and for their sum.
PROMISED = {torch.float32: 1e-4, torch.float64: 1e-9}


def assert_exact(scorer: egl_fast.Scorer, utterances: list[Utterance], *, k: int) -> None:
    """All in one batch, against one float64 backward pass per hypothesis."""
    assert scorer.features is not None
    features, lengths = pad_features(
        [load_spectrogram(u, scorer.features).features for u in utterances]
    )
    dtype = next(scorer.model.parameters()).dtype
    records = scorer.score_batch(features.to(dtype), lengths, k=k, per_hypothesis=True)
    double = copy.deepcopy(scorer.model).double().eval()
    for n, record in enumerate(records):
        one = features[n : n + 1, : int(lengths[n])].double(), lengths[n : n + 1]
        labelings = [h.labels for h in record.hypotheses]
        truth = looped_sq_norms(double, one, labelings, parameters=dict(double.named_parameters()))
        assert_record_exact(record, [sum(norms.values()) for norms in truth], PROMISED[dtype])


def assert_record_exact(record: ScoreRecord, sq_norms: list[float], rel: float) -> None:
    weights = torch.tensor([h.log_prob for h in record.hypotheses], dtype=torch.float64).softmax(0)
    for hypothesis, expected in zip(record.hypotheses, sq_norms, strict=True):
        assert hypothesis.sq_grad_norm == pytest.approx(expected, rel=rel)
    total = float(weights @ torch.tensor(sq_norms, dtype=torch.float64))
    assert record.egl_normalized == pytest.approx(total, rel=rel)


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_exact(examples: Path, cell: str, dtype: torch.dtype) -> None:
    checkpoint = random_checkpoint(cell=cell)
    checkpoint.model.to(dtype)
    assert_exact(scorer_of(checkpoint), shortest(examples, 3), k=5)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("preset", ["small", "paper"])
def test_every_larger_preset_is_exact(examples: Path, preset: str, cell: str) -> None:
    checkpoint = random_checkpoint(name=preset, cell=cell)
    assert_exact(scorer_of(checkpoint), shortest(examples, 2), k=4)


def test_the_shipped_model_is_exact(examples: Path) -> None:
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    assert_exact(scorer, shortest(examples, 2), k=10)


@pytest.mark.parametrize("name", ["outliers/noise_chainsaw_4157611B", "speechocean762/096400021"])
def test_recordings_that_amplify_rounding_are_exact(examples: Path, name: str) -> None:
    """A float32 scan over their frames errs by more than is promised."""
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    assert_exact(scorer, [u for u in read_manifest(examples / "pool.jsonl") if u.id == name], k=3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PROMISED, ids=str)
def test_the_shipped_model_is_exact_at_full_k(examples: Path, dtype: torch.dtype) -> None:
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    scorer.model.to(dtype)
    assert_exact(scorer, shortest(examples, 4), k=100)


@pytest.mark.parametrize("held", [True, False])
def test_hypotheses_from_a_basis_of_their_span_are_exact(
    examples: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: bool,
) -> None:
    """At full K, a few hypotheses; and without the basis where there is no room for it."""
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    passes: list[int] = []
    each_row = VectorizedBackward._each_row
    monkeypatch.setattr(
        VectorizedBackward,
        "_each_row",
        lambda self, pull, rows: (passes.append(len(rows)), each_row(self, pull, rows))[1],
    )
    monkeypatch.setattr(GradientMemory, "holds_gradients", lambda *_: held)
    [utterance] = shortest(examples, 1)
    features = load_spectrogram(utterance, scorer.features).features[None]
    lengths = torch.tensor([features.shape[1]])
    passes.clear()
    with nullcontext() if held else pytest.warns(egl_fast.EglWarning, match="one by one"):
        [record] = scorer.score_batch(features, lengths, k=100, per_hypothesis=True)
    assert record.num_hypotheses == 100
    assert record.egl_stderr == 0.0
    assert (sum(passes) < 80) == held
    double = copy.deepcopy(scorer.model).double().eval()
    some = record.hypotheses[::33]
    truth = looped_sq_norms(
        double,
        (features.double(), lengths),
        [h.labels for h in some],
        parameters=dict(double.named_parameters()),
    )
    for hypothesis, norms in zip(some, truth, strict=True):
        expected = pytest.approx(sum(norms.values()), rel=PROMISED[torch.float32])
        assert hypothesis.sq_grad_norm == expected
        assert hypothesis.sq_grad_norm_stderr == 0.0


def test_the_shipped_model_hears_what_was_said(examples: Path) -> None:
    """A plausibility check of the whole path from FLAC to text, on the easiest corpus."""
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    utterances = [
        u for u in read_manifest(examples / "test.jsonl") if u.record["corpus"] == "grid_s1"
    ][:4]
    spectrograms = [load_spectrogram(u, scorer.features).features for u in utterances]
    records = scorer.score_batch(*pad_features(spectrograms), k=1)
    # GRID has a fixed grammar of six words per sentence; most of them must come out right.
    assert jiwer.wer([u.text or "" for u in utterances], [r.pred_text for r in records]) < 0.5


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("method", ["exact", "probe"])
def test_neither_threads_nor_the_pools_order_matter(
    examples: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same to rounding: each is within what is promised of the same number.

    Windows of two make other batches of another order.
    """
    monkeypatch.setattr(pool, "WINDOW", 2)
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    utterances = shortest(examples, 3)
    options = ScoringOptions(k=10, method=method, full=True, full_samples=4)

    def scores(order: list[int], threads: int) -> dict[str, ScoreRecord]:
        torch.set_num_threads(threads)
        scoring = pool_scoring(scorer, options)
        outcomes = in_order(scoring.outcomes([utterances[n] for n in order]))
        records = [outcome.record for outcome in outcomes if outcome.record is not None]
        assert [record.id for record in records] == [utterances[n].id for n in order]
        return {record.id: record for record in records}

    first, other = scores([0, 1, 2], 1), scores([2, 0, 1], 3)
    for name, record in first.items():
        assert other[name].pred_text == record.pred_text
        assert other[name].num_frames == record.num_frames
        for score in ("egl", "egl_normalized", "egl_full", "entropy", "pctc", "random"):
            got, expected = getattr(other[name], score), getattr(record, score)
            assert got == pytest.approx(expected, rel=2 * PROMISED[torch.float32])
