"""The spectrum of a recording, against transformers' filter bank and spectrogram."""

from __future__ import annotations

import numpy as np
import pytest

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest
from egl_fast.embeddings import spectrum as module
from egl_fast.embeddings.spectrum import NUM_BANDS, SIZE, spectrum

RATE = 16000


def noise(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=num_samples).astype(np.float32)


def test_it_is_that_of_transformers(examples) -> None:  # type: ignore[no-untyped-def]
    audio_utils = pytest.importorskip("transformers.audio_utils")
    waveform = load_audio(read_manifest(examples / "pool.jsonl")[0], sample_rate_hz=RATE)
    filters = audio_utils.mel_filter_bank(257, NUM_BANDS, 60.0, 7600.0, RATE)
    scaled = waveform.astype(np.float64) / np.sqrt(np.square(waveform, dtype=np.float64).mean())
    # It starts frames half a window before the samples, and ours half a Fourier transform.
    power = audio_utils.spectrogram(
        np.pad(scaled, (256, 256)),
        np.hanning(400),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        mel_filters=filters,
        dtype=np.float64,
    )
    logs = np.log(power + 1e-3)  # its own floor of 1e-10 is far below
    expected = np.concatenate([logs.mean(1), logs.std(1)])
    assert spectrum(waveform, RATE) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_volume_changes_nothing() -> None:
    waveform = noise(RATE)
    # Float32 holds a product with a power of two exactly.
    assert (spectrum(waveform / 64, RATE) == spectrum(waveform, RATE)).mean() > 0.9
    assert spectrum(waveform / 64, RATE) == pytest.approx(spectrum(waveform, RATE), abs=1e-5)


def test_long_recordings_are_transformed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = spectrum(noise(RATE), RATE)
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert spectrum(noise(RATE), RATE) == pytest.approx(whole, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("waveform", [np.zeros(5000, np.float32), noise(1), 1e18 * noise(999)])
def test_any_waveform_has_one(waveform: np.ndarray, rate: int) -> None:
    found = spectrum(waveform, rate)
    assert found.shape == (SIZE,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
