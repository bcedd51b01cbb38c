"""Uncertainty of words: the published formula, words of a path, and recordings of the sample."""

from __future__ import annotations

import dataclasses
import math
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recordings import shortest

from egl_fast import Scorer, ScoreRecord
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.vocabulary import Spelling
from egl_fast.records import from_json, to_json
from egl_fast.scoring.formula.word_confidence import (
    frame_uncertainties,
    word_uncertainty,
    words_of_path,
)

NAMES = ("<blank>", " ", "a", "b", "\u2581", "\u2581c", "d\u2581")
PIECES = Classes(NAMES, 0, Spelling.literal(NAMES, blank=0))


def published(probabilities: np.ndarray) -> tuple[float, float]:
    """Confidence of a frame by Tsallis and by Renyi entropy, as the paper writes it; order 1/3."""
    count, order = len(probabilities), 1 / 3
    powers = float((probabilities**order).sum())
    tsallis = (1 - powers) / (order - 1)
    largest = (1 - count ** (1 - order)) / (order - 1)
    by_tsallis = (math.exp(-tsallis) - math.exp(-largest)) / (1 - math.exp(-largest))
    renyi = math.log2(powers) / (1 - order)
    by_renyi = (2**-renyi - 1 / count) / (1 - 1 / count)
    return by_tsallis, by_renyi


@pytest.mark.parametrize("num_classes", [2, 29, 1024])
def test_a_frame_is_as_unsure_as_published(num_classes: int) -> None:
    random = np.random.default_rng(num_classes)
    logits = torch.from_numpy(random.normal(size=(20, num_classes)) * 4)
    expected = [published(row) for row in logits.softmax(1).numpy()]
    found = frame_uncertainties(logits.log_softmax(1))
    # Both take a difference from 1, in double precision.
    torch.testing.assert_close(
        1 - found.T, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


def test_nothing_is_surer_than_one_class_or_less_sure_than_all_alike() -> None:
    certain = torch.full((1, 5), -math.inf)
    certain[0, 3] = 0.0
    alike = torch.full((1, 5), -math.log(5.0))
    assert frame_uncertainties(certain).tolist() == [[0.0], [0.0]]
    torch.testing.assert_close(frame_uncertainties(alike), torch.ones(2, 1, dtype=torch.float64))
    assert frame_uncertainties(torch.zeros(2, 1)).tolist() == [[0.0, 0.0]] * 2


def words_by_hand(path: list[int]) -> list[list[int]]:
    """Runs of a label, spelled; a letter's frames are those of its run."""
    letters: list[tuple[str, list[int]]] = []
    for label, run in groupby(range(len(path)), key=path.__getitem__):
        frames = list(run)
        if label == PIECES.blank:
            continue
        text = PIECES.vocabulary[label].replace("\u2581", " ")
        # The run's frames go with its only letter, if it has one.
        letters += [(c, [] if c == " " else frames) for c in text]
    words: list[list[int]] = [[]]
    for letter, frames in letters:
        if letter == " ":
            words.append([])
        words[-1] += frames
    return [word for word in words if word]


@given(st.lists(st.integers(0, 6), max_size=30))
def test_words_are_those_of_the_text(path: list[int]) -> None:
    assert words_of_path(path, PIECES) == words_by_hand(path)


def test_a_word_is_as_unsure_as_its_least_sure_frame() -> None:
    letters = Classes.of(("<blank>", " ", "a", "b"), 0)
    path = [2, 0, 3, 3, 1, 2, 0]  # "ab a"
    sharpness = [9.0, 0.1, 3.0, 5.0, 0.1, 4.0, 0.1]  # of frames 1, 4, 6 does not matter
    logits = torch.zeros(7, 4)
    logits[torch.arange(7), torch.tensor(path)] = torch.tensor(sharpness)
    log_probs = logits.double().log_softmax(1)
    by_tsallis, by_renyi = frame_uncertainties(log_probs)
    found = word_uncertainty(log_probs, letters)
    assert found.tsallis == pytest.approx(float(by_tsallis[2] + by_tsallis[5]) / 2)
    assert found.renyi == pytest.approx(float(by_renyi[2] + by_renyi[5]) / 2)
    one_word = word_uncertainty(log_probs, Classes.of(("<blank>", "c", "a", "b"), 0))
    assert one_word.tsallis == pytest.approx(float(by_tsallis[4]))


def test_silence_is_as_unsure_as_its_least_sure_frame() -> None:
    log_probs = torch.tensor([[4.0, 0, 0], [1, 0, 0], [2, 0, 0]]).log_softmax(1)
    found = word_uncertainty(log_probs, Classes.of(("<blank>", "a", " "), 0))
    assert found == tuple(frame_uncertainties(log_probs)[:, 1].tolist())


def test_recordings_of_the_sample(examples: Path) -> None:
    scorer = Scorer.from_checkpoint(examples / "base.pt")
    assert scorer.features is not None
    utterances = shortest(examples, 3)
    features, lengths = pad_features(
        [load_spectrogram(u, scorer.features).features for u in utterances]
    )
    plain = scorer.score_batch(features, lengths, k=3)
    records = scorer.score_batch(features, lengths, k=3, word_confidence=True)
    with torch.inference_mode():
        logits, num_frames = scorer.model(features, lengths)
    for n, record in enumerate(records):
        probabilities = logits[n, : num_frames[n]].double().softmax(1).numpy()
        path = probabilities.argmax(1).tolist()
        names = scorer.classes.vocabulary
        words = "".join(" " if label and names[label] == " " else "x" for label in path)
        # Frames between frames of a space, without blanks.
        spans, start = [], 0
        for span in words.split(" "):
            own = [t for t in range(start, start + len(span)) if path[t]]
            spans += [own] if own else []
            start += len(span) + 1
        expected = np.mean(
            [np.min([published(probabilities[t]) for t in span], axis=0) for span in spans], axis=0
        )
        # States are carried in float64 on tape and in float32 in the model: logits differ by 1e-5.
        assert record.tsallis == pytest.approx(1 - expected[0], abs=1e-4)
        assert record.renyi == pytest.approx(1 - expected[1], abs=1e-4)
        # All else is as it is without.
        assert dataclasses.replace(record, tsallis=None, renyi=None) == plain[n]


def test_a_line_holds_what_was_asked_for() -> None:
    record = ScoreRecord("u", 2.0, 100, "", 1, 1.0, 3.0, 0.0, 3.0, None, None, None, 0.0, 0.0, 0.0)
    earlier = {"id": "u", "speaker": "s", "tsallis": 0.5, "renyi": 0.5, "mc_dropout": 0.5}
    line = to_json(record, earlier)
    assert not {"tsallis", "renyi", "mc_dropout", "hypotheses"} & set(line)
    assert line["speaker"] == "s"
    unsure = dataclasses.replace(record, tsallis=0.0, renyi=0.25)
    line = to_json(unsure, earlier)
    assert (line["tsallis"], line["renyi"], "mc_dropout" in line) == (0.0, 0.25, False)
    assert from_json(line) == unsure
