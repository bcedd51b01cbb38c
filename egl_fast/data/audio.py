"""Recordings to mono waveforms at the model's rate."""

from __future__ import annotations

import itertools
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soxr

from egl_fast.data.archives import bytes_inside
from egl_fast.data.decoding import Block, decoded, known_seconds
from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.data.parts import Recording
from egl_fast.errors import AudioError, MissingExtraError, one_line
from egl_fast.files.addresses import Address
from egl_fast.files.remote import read

Waveform = npt.NDArray[np.float32]

#: The two ends of a recording tell its format and its length.
_EDGE_BYTES = 2**16

#: Telephones have 8,000 Hz. Far below that, a rate is in kHz, or damaged, and resampling from it
#: would take that many times the memory.
LEAST_RATE_HZ = 1000


def load_audio(
    utterance: Utterance, *, sample_rate_hz: int, max_seconds: float | None = None
) -> Waveform:
    """The samples of one utterance.

    Args:
        utterance: names the file, and possibly a segment of it.
        sample_rate_hz: rate of the result.
        max_seconds: refuse more than that; None: any length.

    Returns:
        [S] float32, full scale = 1, channels averaged. A segment that extends beyond the end of the
        recording stops there.

    Raises:
        AudioError: whatever is wrong with a recording: it is missing, empty, cut short, damaged,
            too long, or not audio that can be decoded here; the segment starts beyond its end; a
            sample is NaN or infinite.
    """
    with _recording(utterance) as (recording, name):
        blocks = decoded(
            recording,
            utterance.audio_path,
            name,
            start_seconds=utterance.offset_seconds,
            seconds=utterance.duration_seconds,
        )
        with closing(blocks):
            parts = [
                to_mono(run, from_rate_hz=rate_hz, to_rate_hz=sample_rate_hz, name=name)
                for run, rate_hz in _runs(blocks, max_seconds, name)
            ]
        if not parts:
            raise AudioError(f"{name}: contains no samples")
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def blocks_of(utterance: Utterance, *, sample_rate_hz: int) -> Iterator[Waveform]:
    """The samples of an utterance as ``load_audio`` gives them, but a block at a time.

    For recordings of hours, whose samples do not have to be in memory at the same time.

    Raises:
        AudioError: the recording cannot be read.
    """
    with _recording(utterance) as (recording, name):
        blocks = decoded(
            recording,
            utterance.audio_path,
            name,
            start_seconds=utterance.offset_seconds,
            seconds=utterance.duration_seconds,
        )
        with closing(blocks):
            for rate_hz, run in itertools.groupby(blocks, key=lambda block: block.rate_hz):
                stream = soxr.ResampleStream(rate_hz, sample_rate_hz, 1, dtype="float32")
                for block in run:
                    yield stream.resample_chunk(block.mono)
                yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def audio_seconds(utterance: Utterance, *, enough_seconds: float | None = None) -> float:
    """The length of an utterance, from its manifest line or else the file's headers.

    Args:
        utterance: names the file, and possibly a segment of it.
        enough_seconds: if the file has to be decoded, stop at more than that; None: decode all of
            it.

    Raises:
        AudioError: the file is missing, or not audio that can be decoded here.
    """
    if utterance.duration_seconds is not None:
        return utterance.duration_seconds
    with _recording(utterance) as (recording, name):
        seconds = known_seconds(recording, utterance.audio_path, name)
        if seconds is not None:
            return max(0.0, seconds - utterance.offset_seconds)
        seconds = 0.0
        blocks = decoded(
            recording, utterance.audio_path, name, start_seconds=utterance.offset_seconds
        )
        with closing(blocks):
            for block in blocks:
                seconds += block.mono.shape[0] / block.rate_hz
                if enough_seconds is not None and seconds > enough_seconds:
                    break
        return seconds


def header_seconds(utterance: Utterance) -> float | None:
    """The length of an utterance's whole recording by its headers; None if only decoding tells.

    Raises:
        AudioError: the file is missing, or not audio that can be decoded here.
    """
    with _recording(utterance) as (recording, name):
        return known_seconds(recording, utterance.audio_path, name)


@contextmanager
def _recording(utterance: Utterance) -> Iterator[tuple[Recording, str]]:
    """An open file and its name in errors; any exception inside becomes an ``AudioError``."""
    name = recording_name(utterance.audio_path)
    try:
        with _open(utterance, name) as file:
            size = file.seek(0, os.SEEK_END)
            # soundfile opens files one thread at a time. A disk that hangs must hang here, where
            # it does not hold up the others.
            file.seek(0)
            edges = zlib.crc32(file.read(_EDGE_BYTES))
            file.seek(max(0, size - _EDGE_BYTES))
            edges = zlib.crc32(file.read(_EDGE_BYTES), edges)
            yield Recording(file, size, (*_identity(file), edges)), name
    except (AudioError, MissingExtraError):
        raise
    except MemoryError:
        raise AudioError(f"{name}: does not fit into memory; cut it") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror or one_line(error)})") from None
    except Exception as error:  # Whatever a decoder does to one recording, the others continue.
        raise AudioError(
            f"{name}: cannot be decoded ({type(error).__name__}: {one_line(error)})"
        ) from None


def _open(utterance: Utterance, name: str) -> BinaryIO:
    if utterance.held is not None:
        return BytesIO(utterance.held)
    path = utterance.audio_path
    if isinstance(path, Address):
        return BytesIO(read(path) if path.inside is None else bytes_inside(path) or b"")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        member = bytes_inside(path)
        if member is not None:
            return BytesIO(member)
        raise AudioError(f"{name}: no such file") from None
    except ValueError:
        raise AudioError(f"{name}: is not a possible file name") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{name}: is a folder")
        raise AudioError(f"{name}: is a pipe or device, not a file; copy it into one")
    return open(descriptor, "rb")


def _identity(file: BinaryIO) -> tuple[int, ...]:
    """What tells a file from others; with its size and its ends, which are compared, too."""
    if isinstance(file, BytesIO):
        return (zlib.crc32(file.getbuffer()),)
    # File systems have coarse clocks, so the modification time alone proves little.
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _runs(
    blocks: Iterator[Block], max_seconds: float | None, name: str
) -> Iterator[tuple[Waveform, int]]:
    """Samples joined as long as their rate stays the same, and that rate."""
    seconds = 0.0
    for rate_hz, run in itertools.groupby(blocks, key=lambda block: block.rate_hz):
        waves = []
        for block in run:
            waves.append(block.mono)
            seconds += block.mono.shape[0] / rate_hz
            if max_seconds is not None and seconds > max_seconds:
                raise AudioError(too_long(name, max_seconds))
        yield np.concatenate(waves), rate_hz


def too_long(name: str, max_seconds: float) -> str:
    """The message for a recording that is longer than allowed."""
    return f"{name}: is longer than the {max_seconds:g} s allowed; cut it, or raise --max-duration"


def to_mono(
    samples: npt.NDArray[np.floating], *, from_rate_hz: int, to_rate_hz: int, name: str
) -> Waveform:
    """Average the channels and resample (soxr, high quality).

    Args:
        samples: [S] or [S, channels], full scale = 1.
        from_rate_hz: their rate.
        to_rate_hz: the rate of the result.
        name: what to call the samples in an error.

    Raises:
        AudioError: there are no samples, or too many to be resampled; or one is NaN or infinite.
    """
    if from_rate_hz < LEAST_RATE_HZ:
        raise AudioError(
            f"{name}: its rate of {from_rate_hz} Hz is too low for speech; give the correct rate, "
            "in Hz"
        )
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    if mono.shape[0] == 0:
        raise AudioError(f"{name}: contains no samples")
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: contains samples that are NaN or infinite")
    if from_rate_hz != to_rate_hz:
        # soxr counts samples in 32 bits; beyond that it writes outside its memory.
        if from_rate_hz > 0 and mono.shape[0] * max(1, to_rate_hz / from_rate_hz) >= 2**31:
            raise AudioError(
                f"{name}: {mono.shape[0]:,} samples at {from_rate_hz} Hz are too many to resample "
                f"to {to_rate_hz} Hz; cut it into shorter recordings"
            )
        mono = soxr.resample(mono, from_rate_hz, to_rate_hz)
    return np.ascontiguousarray(mono, dtype=np.float32)
