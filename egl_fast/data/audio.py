"""Recordings to mono waveforms at the model's rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from egl_fast.data.manifest import Utterance
from egl_fast.errors import AudioError, one_line

Waveform = npt.NDArray[np.float32]


def load_audio(utterance: Utterance, *, sample_rate_hz: int) -> Waveform:
    """The samples of one utterance.

    Args:
        utterance: names the file, and the segment of it where there is one.
        sample_rate_hz: rate of the result.

    Returns:
        [S] float32, full scale = 1, channels averaged. A segment that reaches beyond the
        recording's end stops there.

    Raises:
        AudioError: the file is missing, empty, damaged or no audio that libsndfile reads; the
            segment starts beyond its end; a sample is NaN or infinite.
    """
    path = utterance.audio_path
    if not path.is_file():
        raise AudioError(f"audio {path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            start = round(utterance.offset_seconds * rate)
            if start and start >= file.frames:
                raise AudioError(
                    f"audio {path}: offset {utterance.offset_seconds:g} s is beyond the end "
                    f"({file.frames / rate:g} s)"
                )
            file.seek(start)
            seconds = utterance.duration_seconds
            frames = -1 if seconds is None else round(seconds * rate)
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(f"audio {path}: cannot be decoded ({one_line(error)})") from None
    return to_mono(samples, from_rate_hz=rate, to_rate_hz=sample_rate_hz, name=f"audio {path}")


def to_mono(
    samples: npt.NDArray[np.floating], *, from_rate_hz: int, to_rate_hz: int, name: str
) -> Waveform:
    """Average the channels and resample (soxr, high quality).

    Args:
        samples: [S] or [S, channels], full scale = 1.
        from_rate_hz: their rate.
        to_rate_hz: the rate wanted.
        name: what to call the samples in an error.

    Raises:
        AudioError: there are no samples, or one is NaN or infinite.
    """
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    if mono.shape[0] == 0:
        raise AudioError(f"{name}: holds no samples")
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: holds samples that are NaN or infinite")
    if from_rate_hz != to_rate_hz:
        mono = soxr.resample(mono, from_rate_hz, to_rate_hz)
    return np.ascontiguousarray(mono, dtype=np.float32)


def audio_seconds(utterance: Utterance) -> float:
    """How long an utterance is, from its manifest line or else from the file's header.

    Raises:
        AudioError: the header cannot be read.
    """
    if utterance.duration_seconds is not None:
        return utterance.duration_seconds
    path: Path = utterance.audio_path
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(f"audio {path}: cannot be read ({one_line(error)})") from None
    seconds = float(info.frames) / float(info.samplerate)
    return max(0.0, seconds - utterance.offset_seconds)
