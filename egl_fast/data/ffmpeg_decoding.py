"""What FFmpeg's libraries can read and libsndfile cannot, through PyAV if it is installed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from egl_fast.display import printable
from egl_fast.errors import AudioError, one_line
from egl_fast.files.addresses import Place

#: Audio that may be missing at the end: lengths are rounded to packets.
_ALLOWED_GAP_SECONDS = 0.25

#: Containers whose header gives the length of the sound if they are complete.
_TELL_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf"}


def pyav_is_installed() -> bool:
    """Whether FFmpeg's libraries are available."""
    return find_spec("av") is not None


def conversion(path: Place) -> str:
    """The command that converts a recording to a format that libsndfile reads."""
    wav = path.with_suffix(".wav") if path.suffix.lower() != ".wav" else path.with_suffix(".2.wav")
    return " ".join(["ffmpeg -i", *(shlex.quote(printable(str(p))) for p in (path, wav))])


def decoded_by_ffmpeg(file: BinaryIO, name: str) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
    """The first audio track of a file; ``name`` is what to call it in an error.

    Yields:
        Samples [S], mono, full scale = 1, and their rate in Hz.

    Raises:
        AudioError: it contains no sound, is damaged, cut short, or of a format that FFmpeg does not
            read either.
    """
    import av
    import av.logging

    av.logging.set_level(None)
    file.seek(0)
    try:
        # Tags need not be UTF-8, and none matters.
        with av.open(file, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: contains no sound")
            seconds = 0.0
            resampler: Any = None
            for frame in container.decode(container.streams.audio[0]):
                if resampler is None or frame.sample_rate != resampler.rate:
                    resampler = av.AudioResampler(format="fltp", rate=frame.sample_rate)
                for planes in resampler.resample(frame):
                    seconds += planes.samples / planes.sample_rate
                    yield planes.to_ndarray().mean(axis=0), planes.sample_rate
            promised = _promised_seconds(container)
    except av.error.FFmpegError as error:
        raise AudioError(
            f"{name}: cannot be decoded by FFmpeg ({error.strerror}); it is damaged, cut short, or "
            "not audio"
        ) from None
    if promised - seconds > _ALLOWED_GAP_SECONDS:
        raise AudioError(
            f"{name}: is cut short, has {seconds:.2f} s of the {promised:.2f} s in its header; "
            "copy it again"
        )


def shape_by_ffmpeg(file: BinaryIO, name: str) -> tuple[int, int, int]:
    """Rate in Hz, channels, and samples per channel of the first audio track, which is decoded.

    Raises:
        AudioError: it contains no sound, or cannot be decoded.
    """
    import av
    import av.logging

    av.logging.set_level(None)
    rate_hz = channels = count = 0
    try:
        with av.open(file, metadata_errors="ignore") as container:
            for frame in container.decode(audio=0):
                rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
                count += frame.samples
    except (av.error.FFmpegError, IndexError) as error:
        raise AudioError(f"{name}: cannot be decoded by FFmpeg ({one_line(error)})") from None
    if not count:
        raise AudioError(f"{name}: contains no samples")
    return rate_hz, channels, count


def _promised_seconds(container: Any) -> float:
    sound = container.streams.audio[0]
    if container.format.name not in _TELL_LENGTH:
        return 0.0
    if sound.duration is not None and sound.time_base is not None:
        return float(sound.duration * sound.time_base)
    # This is the whole container's: a film may be longer than its sound.
    if len(container.streams) > 1 or container.duration is None:
        return 0.0
    return float(container.duration) / 1e6
