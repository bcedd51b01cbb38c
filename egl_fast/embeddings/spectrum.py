"""The long-term spectrum of a recording, the last part of its embedding.

The inputs of a recognizer's output layer describe how speech sounds, but say little about anything
else: a well-trained recognizer has learned to ignore noise. The spectrum of the audio shows it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

#: Mel bands, from ``_LOWEST_HZ`` to 19/20 of half the sample rate.
NUM_BANDS = 40
#: Numbers of a spectrum.
SIZE = 2 * NUM_BANDS
_LOWEST_HZ = 60.0
_WINDOW_SECONDS = 0.025
_HOP_SECONDS = 0.01
#: Added to a band's power. White noise has about 150 in each bin, some 50 dB above this; digital
#: silence, dither, and what lossy formats drop stay below it.
_FLOOR = 1e-3
#: Frames transformed at once, which bounds the memory for long recordings.
_BLOCK = 4096


def spectrum(waveform: npt.NDArray[np.float32], sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Mean and standard deviation over frames of the log power of each mel band.

    The same at any volume: samples are divided by their root mean square.

    Args:
        waveform: [S] mono samples, finite; at least 1.
        sample_rate_hz: of the samples.

    Returns:
        [``SIZE``], the means first.
    """
    window = round(_WINDOW_SECONDS * sample_rate_hz)
    hop = round(_HOP_SECONDS * sample_rate_hz)
    size = 2 ** int(np.ceil(np.log2(window)))
    samples = np.pad(waveform, (size // 2, size // 2))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    power = float(np.square(waveform, dtype=np.float64).mean())
    taper = np.hanning(window) / np.sqrt(power + 1e-12)
    bands = _bands(sample_rate_hz, size)
    sums = np.zeros((2, NUM_BANDS))
    for start in range(0, len(frames), _BLOCK):
        bins = np.fft.rfft(frames[start : start + _BLOCK] * taper, size)
        logs = np.log((bins.real**2 + bins.imag**2) @ bands + _FLOOR)
        sums += logs.sum(0), np.square(logs).sum(0)
    mean, square = sums / len(frames)
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0))
    return np.concatenate([mean, deviation]).astype(np.float32)


def without_spectrum(embeddings: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The model's part of embeddings [n, d]: all but their last ``SIZE`` columns."""
    return embeddings[:, : embeddings.shape[1] - SIZE]


@functools.cache
def _bands(sample_rate_hz: int, size: int) -> npt.NDArray[np.float64]:
    """[bins, bands]: triangles, evenly spaced in mel (O'Shaughnessy's formula)."""
    highest = 0.475 * sample_rate_hz
    lowest = min(_LOWEST_HZ, highest / 2)
    mels = np.linspace(_mel(lowest), _mel(highest), NUM_BANDS + 2)
    corners = 700 * (10 ** (mels / 2595) - 1)
    hertz = np.linspace(0, sample_rate_hz / 2, size // 2 + 1)[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
