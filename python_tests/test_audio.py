"""Decoding: formats, rates, channels, segments, and broken recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import SAMPLE_RATE_HZ, load, utterance, waveform

from egl_fast.data.audio import audio_seconds, to_mono
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.errors import AudioError
from egl_fast.features import FeatureConfig

ONE_SECOND = waveform(1.0)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_formats_give_their_samples_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, ONE_SECOND, SAMPLE_RATE_HZ, subtype="PCM_16")
    loaded = load(path)
    assert loaded.dtype == np.float32
    # Rounding to 16 bits is off by at most half a step; some encoders truncate: a whole step.
    assert np.abs(loaded - ONE_SECOND).max() <= 2**-15


def test_a_lossy_format_keeps_length_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, ONE_SECOND, SAMPLE_RATE_HZ)
    loaded = load(path)
    assert loaded.shape == ONE_SECOND.shape
    assert np.corrcoef(loaded, ONE_SECOND)[0, 1] > 0.99


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000])
def test_any_rate_is_resampled(tmp_path: Path, rate_hz: int) -> None:
    # The tone alone: noise beyond the lower of the two bandwidths is rightly lost.
    def tone(rate: int) -> np.ndarray:
        return 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)

    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate_hz), rate_hz, subtype="FLOAT")
    loaded = load(path)
    assert abs(loaded.shape[0] - SAMPLE_RATE_HZ) <= 1
    # Away from the ends, where the filter reads silence; soxr's HQ is good to 20 bits.
    inner = slice(2000, 14000)
    assert np.abs(loaded[inner] - tone(SAMPLE_RATE_HZ)[inner]).max() < 1e-4


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    left, right = ONE_SECOND, waveform(1.0, pitch_hz=700)
    soundfile.write(path, np.stack([left, right, -right], axis=1), SAMPLE_RATE_HZ, subtype="FLOAT")
    # A sum of three and a division, each rounded once.
    assert np.abs(load(path) - left / 3).max() <= 3 * np.finfo(np.float32).eps


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_segment_is_that_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, ONE_SECOND, SAMPLE_RATE_HZ)
    whole = load(path)
    segment = load(path, offset_seconds=0.25, duration_seconds=0.5)
    assert np.array_equal(segment, whole[4000:12000])
    assert np.array_equal(load(path, offset_seconds=0.75), whole[12000:])
    assert np.array_equal(load(path, duration_seconds=0.125), whole[:2000])


def test_a_segment_is_counted_at_the_recordings_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, waveform(1.0, rate_hz=8000), 8000)
    assert load(path, offset_seconds=0.5, duration_seconds=0.25).shape == (4000,)


def test_a_segment_beyond_the_end_stops_there(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, ONE_SECOND, SAMPLE_RATE_HZ)
    assert load(path, offset_seconds=0.5, duration_seconds=9.0).shape == (8000,)


def _missing(path: Path) -> None:
    pass


def _folder(path: Path) -> None:
    path.mkdir()


def _zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("no audio at all, but long enough to hold a header of some format")


def _no_samples(path: Path) -> None:
    soundfile.write(path, ONE_SECOND[:0], SAMPLE_RATE_HZ, format="WAV")


def _truncated(path: Path) -> None:
    soundfile.write(path, ONE_SECOND, SAMPLE_RATE_HZ, format="FLAC")
    path.write_bytes(path.read_bytes()[:-2000])


def _nan(path: Path) -> None:
    broken = ONE_SECOND.copy()
    broken[77] = np.nan
    soundfile.write(path, broken, SAMPLE_RATE_HZ, format="WAV", subtype="FLOAT")


def _infinite(path: Path) -> None:
    broken = ONE_SECOND.copy()
    broken[77] = np.inf
    soundfile.write(path, broken, SAMPLE_RATE_HZ, format="WAV", subtype="FLOAT")


def _too_short(path: Path) -> None:
    soundfile.write(path, ONE_SECOND[:319], SAMPLE_RATE_HZ, format="WAV")


def _overflowing(path: Path) -> None:
    soundfile.write(path, ONE_SECOND * 1e30, SAMPLE_RATE_HZ, format="WAV", subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (_missing, "no such file"),
        (_folder, "is a folder"),
        (_zero_bytes, "is empty"),
        (_text, "is text, not audio"),
        (_no_samples, "contains no samples"),
        (_truncated, "cannot be decoded"),
        (_nan, "NaN or infinite"),
        (_infinite, "NaN or infinite"),
        (_too_short, "too short"),
        (_overflowing, "overflow"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, make: object, complaint: str
) -> None:
    path = tmp_path / "broken.audio"
    make(path)
    with pytest.raises(AudioError, match=complaint) as caught:
        load_spectrogram(utterance(path), FeatureConfig())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offset", [1.0, 1.5])
def test_an_offset_beyond_the_end_is_refused(tmp_path: Path, offset: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, ONE_SECOND, SAMPLE_RATE_HZ)
    with pytest.raises(AudioError, match="beyond the end"):
        load(path, offset_seconds=offset)


def test_samples_in_memory_are_checked_by_name() -> None:
    with pytest.raises(AudioError, match="waveform 3: contains no samples"):
        to_mono(np.zeros((0, 2)), from_rate_hz=8000, to_rate_hz=16000, name="waveform 3")


def test_length_is_known_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, ONE_SECOND, SAMPLE_RATE_HZ)
    assert audio_seconds(utterance(path)) == 1.0
    assert audio_seconds(utterance(path, offset_seconds=0.25)) == 0.75
    assert audio_seconds(utterance(path, duration_seconds=0.3)) == 0.3
    with pytest.raises(AudioError, match="no such file"):
        audio_seconds(utterance(tmp_path / "none.flac"))


def test_a_spectrogram_knows_its_seconds_and_padding_is_zero(tmp_path: Path) -> None:
    config = FeatureConfig()
    spectrograms = []
    for seconds in (0.5, 1.0):
        path = tmp_path / f"{seconds}.wav"
        soundfile.write(path, waveform(seconds), SAMPLE_RATE_HZ)
        spectrograms.append(load_spectrogram(utterance(path), config))
    assert [s.seconds for s in spectrograms] == [0.5, 1.0]
    features, lengths = pad_features([s.features for s in spectrograms])
    assert lengths.tolist() == [49, 99]
    assert features.shape == (2, 99, config.num_bins)
    assert features[0, 49:].abs().max() == 0
    assert features[0, :49].equal(spectrograms[0].features)


@pytest.mark.parametrize("extension", ["wav", "aiff", "mp3"])
def test_a_recording_that_is_cut_short_is_refused_where_the_rest_is_wanted(
    tmp_path: Path, extension: str
) -> None:
    """libsndfile silently returns what is there."""
    path = tmp_path / f"whole.{extension}"
    soundfile.write(path, waveform(2.0), SAMPLE_RATE_HZ)
    load(path)
    cut = path.with_name(f"cut.{extension}")
    content = path.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    for wanted in ({}, {"offset_seconds": 0.5}, {"duration_seconds": 1.5}):
        with pytest.raises(AudioError, match=r"is cut short, .* 2\.00 s"):
            load(cut, **wanted)
    there = load(cut, duration_seconds=0.5)
    assert there.shape == (SAMPLE_RATE_HZ // 2,)
