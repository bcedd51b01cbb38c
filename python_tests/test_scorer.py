"""Scorer: from a model and its inputs to records."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign_models import FOREIGN_MODELS, VOCABULARY, batch, build
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import AudioError, ModelError
from egl_fast.model import DeepSpeech2, preset
from egl_fast.reference.scoring import reference_score
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.schedule.batches import BatchLimit, BatchScoring, Scored

PROMISED = {torch.float32: 1e-4, torch.float64: 1e-9}


def tiny_scorer(dtype: torch.dtype = torch.float32) -> egl_fast.Scorer:
    torch.manual_seed(5)
    model = DeepSpeech2(preset("tiny")).to(dtype)
    names = ["<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz"]
    return egl_fast.Scorer(model, names, features=egl_fast.FeatureConfig())


def waves() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        0.1 * rng.standard_normal(samples).astype(np.float32)
        for samples in (9000, 15000, 5000, 320)
    ]


@pytest.mark.filterwarnings("ignore:.*different logits alone:egl_fast.EglWarning")
@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", ["packed_gru", "convolutions"])
def test_records_equal_the_reference(name: str, dtype: torch.dtype) -> None:
    model, (x, lengths) = build(name, dtype=dtype), batch(dtype=dtype)
    scorer = egl_fast.Scorer(model, VOCABULARY, blank=0)
    records = scorer.score_batch(x, lengths, k=8, beam_width=64, per_hypothesis=True)
    double = copy.deepcopy(model).double().eval()
    for n, record in enumerate(records):
        one = (x[n : n + 1, : lengths[n]].double(), lengths[n : n + 1])
        expected = reference_score(double, one, k=8, beam_width=64, blank=0)
        rel = PROMISED[dtype]
        assert record.egl == pytest.approx(expected.egl, rel=rel)
        assert record.egl_unsquared == pytest.approx(expected.egl_unsquared, rel=rel)
        assert record.egl_normalized == pytest.approx(expected.egl / expected.beam_mass, rel=rel)
        assert record.beam_mass == pytest.approx(expected.beam_mass, rel=rel)
        assert record.entropy == pytest.approx(expected.entropy, rel=rel)
        assert record.pctc == pytest.approx(expected.pctc, rel=rel)
        assert record.num_frames == int(lengths[n])
        assert record.num_hypotheses == 8
        assert record.egl_stderr == 0.0
        assert record.egl_full is None
        assert [h.labels for h in record.hypotheses] == [h[0] for h in expected.hypotheses]
        for got, (_, log_prob, sq_norm) in zip(record.hypotheses, expected.hypotheses, strict=True):
            assert got.log_prob == pytest.approx(log_prob, rel=rel)
            assert got.sq_grad_norm == pytest.approx(sq_norm, rel=rel)
        assert record.pred_text == record.hypotheses[0].text


def test_the_blank_may_be_any_class() -> None:
    """Permuting the classes permutes the labels and changes no number."""
    model, (x, lengths) = build("packed_gru"), batch()
    moved = copy.deepcopy(model)
    assert isinstance(model.output, nn.Linear)
    order = torch.tensor([1, 2, 0, 3])
    with torch.no_grad():
        moved.output.weight.copy_(model.output.weight[order])
        moved.output.bias.copy_(model.output.bias[order])
    options = {"k": 6, "per_hypothesis": True}
    first = egl_fast.Scorer(model, VOCABULARY, blank=0).score_batch(x, lengths, **options)
    second = egl_fast.Scorer(moved, ["a", "b", "-", "c"], blank=2).score_batch(
        x, lengths, **options
    )
    for a, b in zip(first, second, strict=True):
        assert [h.text for h in a.hypotheses] == [h.text for h in b.hypotheses]
        # The same sums in another order.
        assert a.egl == pytest.approx(b.egl, rel=1e-12)


def test_vocabulary_entry_of_the_blank_is_ignored() -> None:
    x, lengths = batch()
    [a, *_] = egl_fast.Scorer(build("packed_gru"), VOCABULARY).score_batch(x, lengths, k=3)
    [b, *_] = egl_fast.Scorer(build("packed_gru"), ["x", "a", "b", "c"]).score_batch(
        x, lengths, k=3
    )
    assert a == b


@pytest.mark.filterwarnings("ignore:.*different logits alone:egl_fast.EglWarning")
@pytest.mark.parametrize("name", FOREIGN_MODELS)
def test_model_is_left_as_it_was(name: str) -> None:
    model, (x, lengths) = build(name), batch()
    model.train()
    model.register_forward_hook(lambda module, args, output: None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before = {
        "modes": [m.training for m in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "forward": ["forward" in m.__dict__ for m in model.modules()],
        "parameters": [(n, id(p), p.requires_grad) for n, p in model.named_parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
    }
    state = copy.deepcopy(model.state_dict())
    random = torch.random.get_rng_state()

    def assert_untouched() -> None:
        assert [m.training for m in model.modules()] == before["modes"]
        assert [
            (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()
        ] == before["hooks"]
        assert ["forward" in m.__dict__ for m in model.modules()] == before["forward"]
        assert [(n, id(p), p.requires_grad) for n, p in model.named_parameters()] == before[
            "parameters"
        ]
        for parameter, grad in zip(model.parameters(), before["grads"], strict=True):
            assert (parameter.grad is None) == (grad is None)
            assert grad is None or torch.equal(parameter.grad, grad)
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
        assert torch.equal(torch.random.get_rng_state(), random)
        assert torch.is_grad_enabled()

    scorer = egl_fast.Scorer(model, VOCABULARY)
    scorer.score_batch(x, lengths, k=3)
    assert_untouched()
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        scorer.score_batch(x[:, :, :2], lengths, k=3)  # too few bins: fails inside the model
    assert_untouched()


def test_scores_under_no_grad_and_inference_mode() -> None:
    x, lengths = batch()
    scorer = egl_fast.Scorer(build("packed_gru"), VOCABULARY)
    expected = scorer.score_batch(x, lengths, k=4)
    with torch.no_grad():
        assert scorer.score_batch(x, lengths, k=4) == expected
    with torch.inference_mode():
        assert scorer.score_batch(x.clone(), lengths.clone(), k=4) == expected


def equal_to_rounding(a: egl_fast.ScoreRecord, b: egl_fast.ScoreRecord) -> bool:
    # float32 activations summed in another order: a few times 2^-24, grown through the layers.
    close = [
        math.isclose(getattr(a, name), getattr(b, name), rel_tol=2e-5)
        for name in ("egl", "egl_normalized", "egl_unsquared", "beam_mass", "entropy", "pctc")
    ]
    return all(close) and a.pred_text == b.pred_text and a.num_frames == b.num_frames


@pytest.mark.parametrize("batch_seconds", [0.1, 1.5, 100.0])
def test_batches_do_not_matter(batch_seconds: float) -> None:
    scorer, audio = tiny_scorer(), waves()
    together = scorer.score_waveforms(audio, sample_rate_hz=16000, k=5, batch_seconds=batch_seconds)
    alone = [scorer.score_waveforms([w], sample_rate_hz=16000, k=5)[0] for w in audio]
    back = scorer.score_waveforms(
        audio[::-1], sample_rate_hz=16000, k=5, batch_seconds=batch_seconds
    )
    for a, b, c in zip(together, alone, back[::-1], strict=True):
        assert equal_to_rounding(a, b)
        assert equal_to_rounding(a, c)


@pytest.mark.usefixtures("restored_threads")
def test_threads_do_not_matter() -> None:
    scorer, audio = tiny_scorer(), waves()
    records = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        records.append(scorer.score_waveforms(audio, sample_rate_hz=16000, k=5))
    assert all(equal_to_rounding(a, b) for a, b in zip(*records, strict=True))


def test_float64_model_is_scored_in_float64() -> None:
    single, double = tiny_scorer(), tiny_scorer(torch.float64)
    a = single.score_waveforms(waves(), sample_rate_hz=16000, k=5)
    b = double.score_waveforms(waves(), sample_rate_hz=16000, k=5)
    for x, y in zip(a, b, strict=True):
        assert x.egl != y.egl
        assert equal_to_rounding(x, y)


def test_fewer_labelings_than_asked_for_are_all_scored() -> None:
    scorer = egl_fast.Scorer(build("packed_gru"), VOCABULARY)
    x, _ = batch()
    [record] = scorer.score_batch(x[:1, :1], torch.tensor([1]), k=100, per_hypothesis=True)
    # One frame: silence, or one of three labels.
    assert record.num_hypotheses == 4
    assert {h.labels for h in record.hypotheses} == {(), (1,), (2,), (3,)}
    assert record.beam_mass == pytest.approx(1.0, rel=1e-12)
    assert record.egl_normalized == pytest.approx(record.egl, rel=1e-12)


def test_exact_probability_is_the_ctc_loss() -> None:
    model, (x, lengths) = build("packed_lstm").eval(), batch()
    logits, _ = model(x, lengths)
    scorer = egl_fast.Scorer(model, VOCABULARY)
    for n, record in enumerate(scorer.score_batch(x, lengths, k=5, per_hypothesis=True)):
        for hypothesis in record.hypotheses:
            loss = F.ctc_loss(
                logits[n].log_softmax(1)[:, None],
                torch.tensor([hypothesis.labels], dtype=torch.int64),
                lengths[n : n + 1],
                torch.tensor([len(hypothesis.labels)]),
                reduction="sum",
            )
            # T sums of float64 logarithms, each of size about -log p.
            assert hypothesis.log_prob == pytest.approx(-loss.item(), rel=1e-12)


def test_very_improbable_labelings_keep_their_ratio() -> None:
    """A long utterance whose probabilities all underflow still has a normalized score."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(1, 29)
            nn.init.zeros_(self.output.weight)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.output(x), lengths

    torch.manual_seed(0)
    scorer = egl_fast.Scorer(Flat(), [str(c) for c in range(29)])
    [record] = scorer.score_batch(torch.ones(1, 600, 1), torch.tensor([600]), k=3)
    assert record.beam_mass == 0.0
    assert record.egl == 0.0
    assert record.egl_normalized > 0.0


def test_nan_logits_name_the_utterance() -> None:
    model, (x, lengths) = build("packed_gru"), batch()
    x[1, 2] = torch.nan
    scorer = egl_fast.Scorer(model, VOCABULARY)
    with pytest.raises(ModelError, match="utterance 'second'"):
        scorer.score_batch(x, lengths, ids=["first", "second", "third"], k=3)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x, n: x, r"must return \(logits \[N, T, C\], lengths \[N\]\), got torch.float64"),
        (lambda x, n: (x[0], n), r"logits: expected \[N, T, C\], got torch.float64 \[12, 4\]"),
        (lambda x, n: (x[..., :3], n), r"have 3 classes, the vocabulary has 4"),
        (lambda x, n: (x.bfloat16(), n), r"expected float32 or float64, got torch.bfloat16"),
        (lambda x, n: (x, n.double()), r"lengths: expected \[3\] integers, got torch.float64"),
        (lambda x, n: (x, n * 2), r"utterance '0': the model's length is 18, of 9 frames"),
        (lambda x, n: (x, n * 0), r"utterance '0': the model's length is 0"),
    ],
)
def test_outputs_of_another_form_are_refused(outputs: object, message: str) -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(6, 4).double()

        def forward(self, x: Tensor, lengths: Tensor) -> object:
            return outputs(self.output(x), lengths)  # type: ignore[operator]

    with pytest.raises(ModelError, match=message):
        egl_fast.Scorer(Wrong(), VOCABULARY).score_batch(*batch(), k=3)


def test_waveforms_of_other_rates_and_channels_are_converted() -> None:
    scorer = tiny_scorer()
    [wave, *_] = waves()
    [mono] = scorer.score_waveforms([wave], sample_rate_hz=16000, k=3)
    [stereo] = scorer.score_waveforms([np.stack([wave, wave], 1)], sample_rate_hz=16000, k=3)
    [tensor] = scorer.score_waveforms([torch.from_numpy(wave)], sample_rate_hz=16000, k=3)
    assert mono == stereo == tensor
    assert mono.duration == pytest.approx(9000 / 16000)
    [half] = scorer.score_waveforms([wave], sample_rate_hz=8000, k=3)
    assert half.duration == pytest.approx(9000 / 8000)
    integers = np.round(wave * 32768).astype(np.int16)
    [from_integers] = scorer.score_waveforms([integers], sample_rate_hz=16000, k=3)
    # Rounding to 16 bits moves samples of size 0.1 by up to 1.5e-5.
    assert from_integers.egl == pytest.approx(mono.egl, rel=1e-2)


def test_a_waveform_too_short_for_a_frame_is_refused() -> None:
    with pytest.raises(AudioError, match=r"waveform 'tiny': .* too short"):
        tiny_scorer().score_waveforms(
            [np.zeros(100, np.float32)], sample_rate_hz=16000, ids=["tiny"]
        )


def test_scorer_without_features_says_so() -> None:
    scorer = egl_fast.Scorer(build("packed_gru"), VOCABULARY)
    with pytest.raises(ModelError, match="has no front end"):
        scorer.score_waveforms(waves(), sample_rate_hz=16000)


def test_failing_batch_is_scored_one_by_one() -> None:
    """An utterance that breaks its batch inside the model leaves the others scored."""
    scorer = tiny_scorer()
    inner = scorer.model.forward

    def forward(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits, num_frames = inner(features, lengths)
        poisoned = (lengths == 92)[:, None, None]
        return logits.masked_fill(poisoned, torch.nan), num_frames

    scorer.model.forward = forward  # type: ignore[method-assign]
    recordings = [scorer.recognizer.prepare(w, name=str(n)) for n, w in enumerate(waves())]
    assert [int(one.inputs.positional[1]) for one in recordings].count(92) == 1
    scoring = BatchScoring(
        scorer._task(ScoringOptions(k=3)),
        recordings,
        list("abcd"),
        limit=BatchLimit(100.0),
        skip=True,
    )
    [unit] = scoring.units()
    found = scoring.score(unit)
    results = [found[n] for n in range(4)]
    assert [isinstance(r, Scored) for r in results] == [True, False, True, True]
    assert "utterance 'b'" in str(results[1])
