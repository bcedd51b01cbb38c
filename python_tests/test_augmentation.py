"""Augmentation: masks, speed, and random draws that belong to an utterance and an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recordings import waveform

from egl_fast.training.augment import change_speed, seed_epoch, spec_augment, utterance_rng


def test_draws_belong_to_the_utterance_and_the_epoch() -> None:
    def draws(seed: int, epoch: int, identity: str) -> list[float]:
        return utterance_rng(seed, epoch, identity).uniform(size=4).tolist()

    expected = draws(1, 2, "a")
    torch.rand(3)
    np.random.default_rng(0).uniform()
    draws(1, 2, "b")
    assert draws(1, 2, "a") == expected
    for other in ((2, 2, "a"), (1, 3, "a"), (1, 2, "b"), (12, 0, "a")):
        assert draws(*other) != expected


def test_an_epochs_seed_covers_torch_and_numpy() -> None:
    results = []
    for seed, epoch in ((3, 4), (3, 5), (3, 4)):
        rng = seed_epoch(seed, epoch)
        results.append((torch.rand(2).tolist(), rng.uniform(size=2).tolist()))
    assert results[0] == results[2]
    assert results[0][0] != results[1][0]
    assert results[0][1] != results[1][1]


def test_masks_are_bands_and_spans_of_zeros_and_spare_the_original() -> None:
    features = torch.ones(50, 161)
    sizes = {"num_frequency_masks": 1, "num_time_masks": 1, "max_bins": 20, "max_frames": 30}
    seen = set()
    for number in range(50):
        masked = spec_augment(features, utterance_rng(0, number, "x"), **sizes)
        rows, columns = masked.sum(dim=1) == 0, masked.sum(dim=0) == 0
        # Masks are whole rows or whole columns, each contiguous.
        assert torch.equal(masked == 0, rows[:, None] | columns[None, :])
        for hits, longest in ((rows, 5), (columns, 20)):  # a tenth of 50 frames
            places = hits.nonzero().flatten()
            assert len(places) <= longest
            assert len(places) == 0 or places[-1] - places[0] + 1 == len(places)
        seen.add((int(rows.sum()), int(columns.sum())))
    assert features.min() == 1
    assert {count for count, _ in seen} == {0, 1, 2, 3, 4, 5}


def test_masks_fit_the_shortest_utterance() -> None:
    masked = spec_augment(torch.ones(1, 161), utterance_rng(0, 0, "x"))
    assert masked.shape == (1, 161)
    assert masked.max() == 1


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_the_length_and_the_pitch(factor: float) -> None:
    samples = waveform(1.0, pitch_hz=1000.0)
    changed = change_speed(samples, factor)
    assert changed.dtype == np.float32
    assert abs(changed.shape[0] - 16000 / factor) <= 1
    spectrum = np.abs(np.fft.rfft(changed))
    pitch_hz = spectrum.argmax() * 16000 / changed.shape[0]
    # The tone swells twice a second, which puts its peaks 2 Hz off; a bin is 1 Hz wide.
    assert abs(pitch_hz - 1000 * factor) < 8
