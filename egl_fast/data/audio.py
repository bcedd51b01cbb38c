"""Recordings to mono waveforms at the model's rate."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from egl_fast.data.manifest import Utterance
from egl_fast.errors import AudioError, one_line

Waveform = npt.NDArray[np.float32]

#: Missing audio that is not worth a word: the length of an MP3 is known to about a frame of it.
_ALLOWED_GAP_SECONDS = 0.1

#: libsndfile's log of a WAV or AIFF whose samples end early.
_SHORT_CHUNK = re.compile(r"(data|SSND) *: *(?P<promised>\d+) \(should be (?P<there>\d+)\)")
_UNKNOWN_SIZE = 0x7FFF0000

#: At either end of a recording is what tells its format and its length.
_EDGE_BYTES = 2**16

#: The start of an Ogg page: sign and version, then 21 bytes, then the number of its segments.
_OGG_PAGE = b"OggS\0"
_OGG_NUM_SEGMENTS_AT = 26


def load_audio(utterance: Utterance, *, sample_rate_hz: int) -> Waveform:
    """The samples of one utterance.

    Args:
        utterance: names the file, and the segment of it where there is one.
        sample_rate_hz: rate of the result.

    Returns:
        [S] float32, full scale = 1, channels averaged. A segment that reaches beyond the
        recording's end stops there.

    Raises:
        AudioError: the file is missing, empty, cut short, damaged or no audio that libsndfile
            reads; the segment starts beyond its end; a sample is NaN or infinite.
    """
    path = utterance.audio_path
    _refuse_what_is_no_file(path)
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
            promised = _promised_frames(file)
            to_the_end = start + samples.shape[0] >= file.frames
            is_ogg = file.format == "OGG"
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(f"audio {path}: cannot be decoded ({one_line(error)})") from None
    wanted = promised if seconds is None else min(start + frames, promised)
    end = start + samples.shape[0]
    if wanted - end > _ALLOWED_GAP_SECONDS * rate:
        raise AudioError(
            f"audio {path}: is cut short, its header promises {promised / rate:.2f} s and "
            f"{end / rate:.2f} s are there; copy it anew"
        )
    if is_ogg and to_the_end and _ogg_is_cut_short(path):
        raise AudioError(f"audio {path}: is cut short, in the middle of a page; copy it anew")
    return to_mono(samples, from_rate_hz=rate, to_rate_hz=sample_rate_hz, name=f"audio {path}")


def _refuse_what_is_no_file(path: Path) -> None:
    """Also reads what opening reads first, as soundfile lets only one thread open at a time.

    Where a disk hangs, it hangs here, and others go on.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise AudioError(f"audio {path}: is no file but a pipe or device; copy it into one")
            file.read(_EDGE_BYTES)
            file.seek(max(0, status.st_size - _EDGE_BYTES))
            file.read(_EDGE_BYTES)
    except FileNotFoundError:
        raise AudioError(f"audio {path}: no such file") from None
    except IsADirectoryError:
        raise AudioError(f"audio {path}: is a folder") from None
    except OSError as error:
        raise AudioError(f"audio {path}: cannot be read ({one_line(error)})") from None


def _ogg_is_cut_short(path: Path) -> bool:
    """Whether the last page is not all there; nothing in an Ogg file tells of its length."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _EDGE_BYTES))
        end = file.read()
    page = end[max(0, end.rfind(_OGG_PAGE)) :]
    if len(page) <= _OGG_NUM_SEGMENTS_AT:
        return True
    segments = page[_OGG_NUM_SEGMENTS_AT + 1 :][: page[_OGG_NUM_SEGMENTS_AT]]
    needed = _OGG_NUM_SEGMENTS_AT + 1 + page[_OGG_NUM_SEGMENTS_AT] + sum(segments)
    return len(page) < needed


def _promised_frames(file: soundfile.SoundFile) -> int:
    """Frames that the file's header tells of, which may be more than there are.

    libsndfile makes do with the data that are there and mentions the rest in its log alone.
    """
    promised: int = file.frames
    chunk = _SHORT_CHUNK.search(file.extra_info)
    # Writers into a pipe cannot know the size, and put down the largest or none.
    if chunk is not None and int(chunk["there"]) < int(chunk["promised"]) < _UNKNOWN_SIZE:
        promised = round(promised * int(chunk["promised"]) / max(1, int(chunk["there"])))
    return promised


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
        AudioError: there are no samples, too many to be resampled, or one is NaN or infinite.
    """
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    if mono.shape[0] == 0:
        raise AudioError(f"{name}: holds no samples")
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: holds samples that are NaN or infinite")
    if from_rate_hz != to_rate_hz:
        # soxr counts samples in 32 bits; beyond that it writes outside its memory.
        if from_rate_hz > 0 and mono.shape[0] * max(1, to_rate_hz / from_rate_hz) >= 2**31:
            raise AudioError(
                f"{name}: {mono.shape[0]:,} samples at {from_rate_hz} Hz are too many to be "
                f"resampled to {to_rate_hz} Hz; cut it into shorter recordings"
            )
        mono = soxr.resample(mono, from_rate_hz, to_rate_hz)
    return np.ascontiguousarray(mono, dtype=np.float32)


def audio_seconds(utterance: Utterance) -> float:
    """How long an utterance is, from its manifest line or else from the file's header.

    Raises:
        AudioError: the header cannot be read.
    """
    if utterance.duration_seconds is not None:
        return utterance.duration_seconds
    path = utterance.audio_path
    _refuse_what_is_no_file(path)
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(f"audio {path}: cannot be read ({one_line(error)})") from None
    seconds = float(info.frames) / float(info.samplerate)
    return max(0.0, seconds - utterance.offset_seconds)
