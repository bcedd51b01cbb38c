"""Audio files to blocks of samples, to their actual end, whatever length a header gives."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from egl_fast.data.ffmpeg_decoding import conversion, decoded_by_ffmpeg, pyav_is_installed
from egl_fast.data.libsndfile import Stream, headerless
from egl_fast.data.parts import Recording, ogg_is_cut_short, parts_of, starts_again
from egl_fast.errors import AudioError
from egl_fast.files.addresses import Place
from egl_fast.files.signatures import (
    MPEG_4,
    PACKED,
    RECORDING,
    SOUND,
    WINDOWS_MEDIA,
    signature_of,
    text_kind,
)

#: How much is read of a file to identify it.
_HEAD_BYTES = 1024

#: If two such files are joined, FFmpeg reads only the first.
_ONE_IS_READ = (MPEG_4, WINDOWS_MEDIA)


class Block(NamedTuple):
    """Consecutive samples.

    Attributes:
        mono: [S] float32, full scale = 1, channels averaged.
        rate_hz: their rate, which may change between parts of a file.
    """

    mono: npt.NDArray[np.float32]
    rate_hz: int


def decoded(
    recording: Recording,
    path: Place,
    name: str,
    *,
    start_seconds: float = 0.0,
    seconds: float | None = None,
) -> Generator[Block, None, None]:
    """The samples of a file, or of a segment of it, as they are decoded.

    Args:
        recording: the open file.
        path: its path.
        name: what to call it in an error.
        start_seconds: how much to skip.
        seconds: how much to decode, if there is that much; None: to the end.

    Raises:
        AudioError: the wanted part of the file is damaged or cut short, the file ends before the
            start, or it is of a kind that cannot be decoded here.
        OSError: the file cannot be read.
    """
    first = _first_stream(recording, path, name)
    if first is None:
        yield from _decoded_by_ffmpeg(recording, name, start_seconds, seconds)
    else:
        yield from _decoded_parts(recording, first, name, start_seconds, seconds)


def known_seconds(recording: Recording, path: Place, name: str) -> float | None:
    """The length of a file by its headers; None if only decoding tells. Raises as ``decoded``."""
    first = _first_stream(recording, path, name)
    if first is None:
        return None
    seconds = 0.0
    for stream in _streams(recording, first, name):
        with stream:
            if stream.num_frames is None:
                return None
            seconds += stream.num_frames / stream.rate_hz
    return seconds


def _first_stream(recording: Recording, path: Place, name: str) -> Stream | None:
    """The first part of a file; None if FFmpeg has to read it."""
    part = parts_of(recording)[0]
    try:
        return Stream(recording, part, name)
    except soundfile.LibsndfileError as error:
        reason = error.error_string
    recording.file.seek(0)
    head = recording.file.read(_HEAD_BYTES)
    nothing = _without_sound(head)
    if nothing is not None:
        raise AudioError(f"{name}: is {nothing}")
    raw = headerless(path, head)
    if raw is not None:
        return Stream(recording, part, name, raw)
    found = signature_of(head)
    kind = None if found is None or found.name == RECORDING else found.name
    if pyav_is_installed():
        if kind in _ONE_IS_READ and starts_again(recording):
            raise AudioError(
                f"{name}: several recordings joined in one file ({kind}), of which only the first "
                f"can be read; split them, or keep only the first: {conversion(path)}"
            )
        return None
    what = f"is {kind}" if kind else f"cannot be decoded ({reason})"
    raise AudioError(
        f"{name}: {what}; convert it: {conversion(path)}; or install support for it: "
        "pip install 'egl-fast[av]'"
    )


def _without_sound(head: bytes) -> str | None:
    """What a file is that is certainly not audio, and the remedy; None if it may be audio."""
    if not head:
        return "empty; fetch it again"
    found = signature_of(head)
    if found is not None and found.group != SOUND:
        return f"{found.name}; unpack it" if found.group == PACKED else f"{found.name}, not audio"
    if not head.strip(b"\0"):
        return "only zeros at the beginning; fetch it again"
    text = text_kind(head)
    if text in (None, "text"):
        return text and f"{text}, not audio"
    return f"{text}, not audio; check what its URL returns, and fetch it again"


def _streams(recording: Recording, first: Stream, name: str) -> Iterator[Stream]:
    """All parts of a file, each opened when its turn comes."""
    yield first
    parts = parts_of(recording)
    for number, part in enumerate(parts[1:], start=2):
        try:
            yield Stream(recording, part, name)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{name}: {len(parts)} recordings joined in one file, of which number {number} "
                f"cannot be decoded ({error.error_string}); split them"
            ) from None


def _decoded_parts(
    recording: Recording, first: Stream, name: str, start_seconds: float, seconds: float | None
) -> Generator[Block, None, None]:
    passed, taken, is_ogg = 0.0, 0.0, False
    for stream in _streams(recording, first, name):
        with stream:
            most = None if seconds is None else round((seconds - taken) * stream.rate_hz)
            try:
                stream.skip_to(round(max(0.0, start_seconds - passed) * stream.rate_hz))
                for mono in stream.blocks(most):
                    taken += mono.shape[0] / stream.rate_hz
                    yield Block(mono, stream.rate_hz)
            except soundfile.LibsndfileError as error:
                place = max(start_seconds, passed + stream.seconds)
                raise AudioError(
                    f"{name}: cannot be decoded at {place:.2f} s ({error.error_string}); it is "
                    "damaged or cut short, copy it again"
                ) from None
            passed += stream.seconds
            is_ogg = stream.is_ogg
            if not stream.has_ended:
                return
    if is_ogg and ogg_is_cut_short(recording):
        raise AudioError(f"{name}: is cut short in the middle of a page; copy it again")
    _check_offset(name, start_seconds, passed)


def _decoded_by_ffmpeg(
    recording: Recording, name: str, start_seconds: float, seconds: float | None
) -> Generator[Block, None, None]:
    passed, num_taken = 0.0, 0
    for mono, rate_hz in decoded_by_ffmpeg(recording.file, name):
        # From the start, because seeking in these formats is not exact to the sample.
        before = round(max(0.0, start_seconds - passed) * rate_hz)
        passed += mono.shape[0] / rate_hz
        wanted = mono[before:]
        if seconds is not None:
            wanted = wanted[: max(0, round(seconds * rate_hz) - num_taken)]
        num_taken += wanted.shape[0]
        if wanted.shape[0] > 0:
            yield Block(wanted, rate_hz)
        if before < mono.shape[0] != before + wanted.shape[0]:
            return
    _check_offset(name, start_seconds, passed)


def _check_offset(name: str, start_seconds: float, seconds: float) -> None:
    if start_seconds > 0 and start_seconds >= seconds:
        raise AudioError(f"{name}: offset {start_seconds:g} s is beyond the end ({seconds:g} s)")
