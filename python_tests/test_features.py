"""The log-spectrogram, against numpy's Fourier transform and its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recordings import SAMPLE_RATE_HZ, waveform

from egl_fast.data.audio import to_mono
from egl_fast.data.loading import spectrogram_of
from egl_fast.errors import AudioError
from egl_fast.features import FeatureConfig, log_spectrogram

CONFIG = FeatureConfig()


def features_of(samples: np.ndarray) -> torch.Tensor:
    return log_spectrogram(torch.from_numpy(samples), CONFIG)


def test_it_is_the_normalized_log_power_of_numpys_transform() -> None:
    samples = waveform(0.3).astype(np.float64)
    window = np.hanning(CONFIG.window_samples + 1)[:-1]  # periodic, as for a transform
    frames = np.lib.stride_tricks.sliding_window_view(samples, CONFIG.window_samples)
    spectrum = np.fft.rfft(frames[:: CONFIG.hop_samples] * window)
    log_power = np.log(np.abs(spectrum) ** 2 / (window**2).sum() + CONFIG.power_floor)
    expected = log_power - log_power.mean(axis=0)
    expected /= expected.std()
    # Two transforms of n samples differ by about n * eps; the logarithm magnifies it by at most
    # largest power / floor, which is below 1e7 here.
    tolerance = 1e7 * CONFIG.window_samples * np.finfo(np.float64).eps
    assert np.abs(features_of(samples).numpy() - expected).max() < tolerance


@pytest.mark.parametrize("num_samples", [320, 321, 479, 480, 481, 16000])
def test_only_whole_windows_count(num_samples: int) -> None:
    features = features_of(waveform(num_samples / SAMPLE_RATE_HZ))
    assert features.shape == (1 + (num_samples - 320) // 160, 161)
    assert features.shape[0] == CONFIG.num_frames(num_samples)


#: Rate, window and hop in samples; the recording has 1,000.
STRANGE = {
    "one sample a second": (1, 20, 10),
    "a window of one sample": (16000, 1, 1),
    "a window of two samples": (16000, 2, 1),
    "an odd window": (16000, 321, 160),
    "a hop longer than the window": (16000, 320, 700),
    "a hop longer than the recording": (16000, 320, 160_000),
    "a window of the whole recording": (16000, 1000, 10),
    "as much overlap as there may be": (16000, 500, 5),
    "the highest rate": (384_000, 960, 480),
}


@pytest.mark.parametrize("what", STRANGE)
def test_strange_windows_give_the_frames_that_fit(what: str) -> None:
    rate, window, hop = STRANGE[what]
    config = FeatureConfig(
        sample_rate_hz=rate, window_seconds=window / rate, hop_seconds=hop / rate
    )
    samples = waveform(1000 / 16000).astype(np.float64)
    features = log_spectrogram(torch.from_numpy(samples), config)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    bins = np.fft.rfft(frames).shape[1]
    assert features.shape == (frames.shape[0], bins) == (config.num_frames(1000), config.num_bins)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(("window", "hop"), [(1001, 160), (60_000, 60_000), (65_536, 656)])
def test_a_window_longer_than_the_recording_is_one_line(window: int, hop: int) -> None:
    config = FeatureConfig(window_seconds=window / 16000, hop_seconds=hop / 16000)
    assert config.num_frames(1000) == 0
    with pytest.raises(AudioError, match=r"^x: 62\.5 ms is too short; one frame takes"):
        spectrogram_of(waveform(1000 / 16000), config, name="x")


def test_more_samples_than_soxr_can_count_are_one_line() -> None:
    """soxr crashes with a segmentation fault if its result has 2^31 samples."""
    samples = np.zeros(36_000, np.float32)
    with pytest.raises(AudioError, match=r"^x: 36,000 samples at 16000 Hz are too many .*; cut it"):
        to_mono(samples, from_rate_hz=16_000, to_rate_hz=10**9, name="x")


def test_less_than_a_window_gives_no_frame() -> None:
    assert CONFIG.num_frames(319) == 0
    assert CONFIG.num_frames(0) == 0
    with pytest.raises(ValueError, match="319 samples are fewer than the 320"):
        features_of(waveform(319 / SAMPLE_RATE_HZ))


def test_only_mono_is_taken() -> None:
    with pytest.raises(ValueError, match=r"expected shape \[S\], got \[2, 400\]"):
        log_spectrogram(torch.zeros(2, 400), CONFIG)


def test_each_bin_is_centered_and_the_whole_has_unit_variance() -> None:
    features = features_of(waveform(1.0).astype(np.float64))
    num_frames = features.shape[0]
    eps = torch.finfo(torch.float64).eps
    assert features.mean(dim=0).abs().max() < num_frames * features.abs().max() * eps
    assert features.square().mean().item() == pytest.approx(1.0, rel=features.numel() * eps)


def test_loudness_hardly_matters_far_above_the_floor() -> None:
    loud = features_of(waveform(1.0).astype(np.float64))
    louder = features_of(2 * waveform(1.0).astype(np.float64))
    # A factor shifts all logarithms equally, except for the floor's share in them.
    assert (loud - louder).abs().mean() < 0.01


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_silence_and_a_constant_stay_finite_and_small(level: float) -> None:
    features = features_of(np.full(16000, level, dtype=np.float32))
    assert torch.isfinite(features).all()
    assert features.abs().max() < 1.0


def test_the_dtype_is_kept() -> None:
    assert features_of(waveform(0.1)).dtype == torch.float32
    assert features_of(waveform(0.1).astype(np.float64)).dtype == torch.float64
