"""A recording as a page holds it: a short MP3 and a small picture of its spectrogram.

MP3, because every browser plays it and libsndfile writes it: about 4.5 kB per second of speech at
16 kHz. FLAC takes 16; Opus takes 4 to 8, but not every browser plays it in Ogg.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import soundfile

from egl_fast.data.audio import Waveform, load_audio
from egl_fast.data.manifest import Utterance
from egl_fast.errors import AudioError, one_line
from egl_fast.evaluation.reporting.wording import shown_text
from egl_fast.files.addresses import Place

SAMPLE_RATE_HZ = 16000
MAX_SECONDS = 8.0

_THUMBNAIL_WIDTH, _THUMBNAIL_HEIGHT = 224, 56
_FRAME_SAMPLES, _HOP_SAMPLES, _FFT_SIZE = 400, 160, 512
_DYNAMIC_RANGE_DB = 60.0
#: From quiet to loud; readable on a light and on a dark page, lightness rising throughout.
_COLORS = (
    (13, 17, 38),
    (40, 40, 98),
    (45, 92, 140),
    (46, 148, 148),
    (140, 200, 110),
    (253, 240, 140),
)
_NUM_LEVELS = 32


@dataclass(frozen=True)
class Excerpt:
    """One recording, ready for a page.

    Attributes:
        audio: data URI of the sound, or None where there is none.
        thumbnail: data URI of the spectrogram's picture, or None.
        shown_seconds: how much of the recording this is.
        problem: why there is no sound, in one line; None where there is.
    """

    audio: str | None
    thumbnail: str | None
    shown_seconds: float
    problem: str | None


def make_excerpt(path: Place, *, offset_seconds: float, duration_seconds: float | None) -> Excerpt:
    """The first ``MAX_SECONDS`` of an utterance, or why it cannot be read."""
    seconds = MAX_SECONDS if duration_seconds is None else min(MAX_SECONDS, duration_seconds)
    # load_audio takes an Utterance, but only looks at where the sound is.
    utterance = Utterance(path.name, path, offset_seconds, seconds, None, {}, 0)
    try:
        wave = load_audio(utterance, sample_rate_hz=SAMPLE_RATE_HZ)
        sound = _mp3(wave)
    except (AudioError, soundfile.LibsndfileError, RuntimeError, OSError, ValueError) as error:
        return Excerpt(None, None, 0.0, shown_text(one_line(error)))
    return Excerpt(
        f"data:audio/mpeg;base64,{base64.b64encode(sound).decode()}",
        f"data:image/png;base64,{base64.b64encode(_thumbnail(wave)).decode()}",
        len(wave) / SAMPLE_RATE_HZ,
        None,
    )


def _mp3(wave: Waveform) -> bytes:
    # Room tone would be inaudible; speech that fills the scale is left as it is.
    peak = float(np.abs(wave).max())
    loud = wave * min(10.0, 0.7 / peak) if 0 < peak < 0.7 else np.clip(wave, -1.0, 1.0)
    buffer = io.BytesIO()
    # Of smaller files (0.7 and more), Chromium cannot reach the end when somebody skips there.
    soundfile.write(
        buffer, loud, SAMPLE_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode="VARIABLE", compression_level=0.6,
    )  # fmt: skip
    return buffer.getvalue()


def _thumbnail(wave: Waveform) -> bytes:
    """A PNG of the spectrogram: 0 to 8 kHz upwards on a mel scale, decibels as color."""
    from PIL import Image

    levels = _mel_levels(wave)
    places = np.linspace(0, len(_COLORS) - 1, _NUM_LEVELS)
    channels = [np.interp(places, range(len(_COLORS)), of) for of in zip(*_COLORS, strict=True)]
    palette = np.stack(channels, axis=1).round().astype(int)
    image = Image.fromarray((levels * (_NUM_LEVELS - 1)).round().astype(np.uint8), mode="P")
    image.putpalette(palette.ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _mel_levels(wave: Waveform) -> npt.NDArray[np.float64]:
    """[height, width] in 0..1, the highest frequency at the top."""
    padded = np.pad(wave, (0, max(0, _FRAME_SAMPLES - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME_SAMPLES)[::_HOP_SAMPLES]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME_SAMPLES), _FFT_SIZE)) ** 2
    top_mel = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top_mel, _THUMBNAIL_HEIGHT + 1) / 2595) - 1)
    edges = np.round(hertz / SAMPLE_RATE_HZ * _FFT_SIZE).astype(int)
    bands = np.stack(
        [power[:, low : max(high, low + 1)].mean(axis=1) for low, high in pairwise(edges)]
    )
    columns = np.linspace(0, bands.shape[1], _THUMBNAIL_WIDTH + 1).astype(int)
    shrunk = np.stack(
        [bands[:, low : max(high, low + 1)].max(axis=1) for low, high in pairwise(columns)], axis=1
    )
    decibels = 10 * np.log10(np.maximum(shrunk, 1e-12))
    return np.asarray(np.clip((decibels - decibels.max()) / _DYNAMIC_RANGE_DB + 1, 0, 1)[::-1])
