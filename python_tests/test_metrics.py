"""Transcripts, losses, and error rates, against hand counts and the reference loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from recordings import random_checkpoint, utterance, write_recordings

from egl_fast.data.loading import load_spectrogram
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError
from egl_fast.recognizers.checkpoint import recognizer_of
from egl_fast.recognizers.classes import Classes
from egl_fast.reference.ctc import ctc_forward_backward
from egl_fast.training.metrics import (
    WINDOW_UTTERANCES,
    EditCounts,
    Transcript,
    count_edits,
    error_rates,
    transcribe,
)
from egl_fast.training.texts import reference_labels

CLASSES = Classes.of(["<blank>", " ", "a", "b"], 0)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("abc", "abc", EditCounts(0, 3, 0, 1)),
        ("abc", "axc", EditCounts(1, 3, 1, 1)),  # a character substituted
        ("abc", "ac", EditCounts(1, 3, 1, 1)),  # deleted
        ("abc", "abbc", EditCounts(1, 3, 1, 1)),  # inserted
        ("a b", "ab", EditCounts(1, 3, 2, 2)),  # a space deleted joins two words
        ("set red now", "set bed now", EditCounts(1, 11, 1, 3)),
        ("set red now", "now", EditCounts(8, 11, 2, 3)),
        ("set red", "", EditCounts(7, 7, 2, 2)),
        ("", "", EditCounts(0, 0, 0, 0)),
        ("", "uh oh", EditCounts(5, 0, 2, 0)),
        ("kitten", "sitting", EditCounts(3, 6, 1, 1)),
        ("ab", " ab ", EditCounts(0, 2, 0, 1)),  # spaces at the ends count for nothing
        (" ab ", "ab", EditCounts(0, 2, 0, 1)),
    ],
)
def test_edits_are_those_counted_by_hand(
    reference: str, hypothesis: str, expected: EditCounts
) -> None:
    assert count_edits(reference, hypothesis) == expected


def transcript(reference: str, heard: str, loss: float | None = 1.0) -> Transcript:
    return Transcript(utterance(Path("a.wav"), text=reference), 1.0, heard, loss, 50)


def test_rates_are_totals_over_totals() -> None:
    rates = error_rates([transcript("aaaa bbbb", "aaaa bbb", 3.0), transcript("b", "a", 1.0)])
    assert rates.cer == 2 / 10
    assert rates.wer == 2 / 3
    assert rates.loss == 2.0
    assert (rates.num_utterances, rates.num_infinite) == (2, 0)


def test_insertions_into_empty_references_count() -> None:
    rates = error_rates([transcript("ab", "ab"), transcript("", "a b")])
    assert rates.cer == 3 / 2
    assert rates.wer == 2 / 1


def test_with_nothing_but_empty_references_rates_are_edits_an_utterance() -> None:
    rates = error_rates([transcript("", "a b"), transcript("", "")])
    assert (rates.cer, rates.wer) == (3 / 2, 2 / 2)


def test_an_infinite_loss_is_counted_and_left_out() -> None:
    rates = error_rates([transcript("a", "a", 4.0), transcript("b", "b", math.inf)])
    assert (rates.loss, rates.num_infinite) == (4.0, 1)
    assert error_rates([transcript("b", "b", math.inf)]).loss is None
    nothing = error_rates([])
    assert (nothing.loss, nothing.cer, nothing.wer) == (None, None, None)


def test_a_reference_that_cannot_be_used_is_named() -> None:
    line = {"id": "x", "line": 7}
    assert reference_labels(utterance(Path("a"), text="ab a"), CLASSES) == [2, 3, 1, 2]
    assert reference_labels(utterance(Path("a"), text=""), CLASSES) == []
    with pytest.raises(ManifestError, match=r"utterance 'x' \(line 7\): has no 'text'"):
        reference_labels(utterance(Path("a"), **line), CLASSES)
    with pytest.raises(ManifestError, match=r"utterance 'x' \(line 7\): .*character 'é' is not"):
        reference_labels(utterance(Path("a"), text="é", **line), CLASSES)
    with pytest.raises(ManifestError, match="character '<' is not"):
        reference_labels(utterance(Path("a"), text="<blank>", **line), CLASSES)


def test_transcripts_come_in_order_and_each_is_what_it_is_alone(tmp_path: Path) -> None:
    lengths = [0.4 + 0.13 * (i * 5 % 7) for i in range(7)]
    utterances = read_manifest(write_recordings(tmp_path, ["ab"] * 7, lengths))
    checkpoint = random_checkpoint()
    (window,) = transcribe(recognizer_of(checkpoint), utterances, batch_seconds=2.0, with_loss=True)
    assert [t.utterance.id for t in window] == [u.id for u in utterances]
    assert [t.seconds for t in window] == pytest.approx(lengths, abs=1e-4)
    assert len({t.text for t in window}) > 1
    for together in window:
        ((alone,),) = transcribe(
            recognizer_of(checkpoint), [together.utterance], batch_seconds=2.0, with_loss=True
        )
        assert alone.text == together.text
        assert together.loss == pytest.approx(alone.loss, rel=1e-4)


def test_text_and_loss_follow_from_the_logits(tmp_path: Path) -> None:
    (line,) = read_manifest(write_recordings(tmp_path, ["abba no"], [0.8]))
    checkpoint = random_checkpoint()
    ((got,),) = transcribe(recognizer_of(checkpoint), [line], batch_seconds=1.0, with_loss=True)
    features = load_spectrogram(line, checkpoint.features).features
    with torch.inference_mode():
        logits, _ = checkpoint.model(features.unsqueeze(0), torch.tensor([features.shape[0]]))
    log_probs = logits[0].double().log_softmax(dim=1)
    log_prob, _ = ctc_forward_backward(
        log_probs, [checkpoint.vocabulary.index(c) for c in "abba no"]
    )
    assert got.loss == pytest.approx(-log_prob, rel=1e-9)
    previous, text = 0, ""
    for label in log_probs.argmax(dim=1).tolist():
        if label not in (0, previous):
            text += checkpoint.vocabulary[label]
        previous = label
    assert got.text == text != ""


def test_a_text_too_long_for_its_audio_has_an_infinite_loss(tmp_path: Path) -> None:
    (line,) = read_manifest(write_recordings(tmp_path, ["ab" * 50], [0.4]))
    ((got,),) = transcribe(
        recognizer_of(random_checkpoint()), [line], batch_seconds=1.0, with_loss=True
    )
    assert got.loss == math.inf


def test_without_losses_any_text_is_accepted(tmp_path: Path) -> None:
    (line,) = read_manifest(write_recordings(tmp_path, ["ÄÖÜ"], [0.4]))
    ((got,),) = transcribe(recognizer_of(random_checkpoint()), [line], batch_seconds=1.0)
    assert got.loss is None
    with pytest.raises(ManifestError, match="not in the model's vocabulary"):
        list(
            transcribe(
                recognizer_of(random_checkpoint()), [line], batch_seconds=1.0, with_loss=True
            )
        )


def test_windows_bound_what_is_held_at_once(tmp_path: Path) -> None:
    (line,) = read_manifest(write_recordings(tmp_path, ["a"], [0.1]))
    utterances = [line] * (WINDOW_UTTERANCES + 3)
    windows = transcribe(recognizer_of(random_checkpoint()), utterances, batch_seconds=5.0)
    assert [len(window) for window in windows] == [WINDOW_UTTERANCES, 3]
