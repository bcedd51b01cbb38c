"""One part of a file, decoded by libsndfile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from egl_fast.data.c_stderr import silenced_c_stderr
from egl_fast.data.parts import Part, Recording
from egl_fast.data.pieces import PieceReader
from egl_fast.errors import AudioError
from egl_fast.files.addresses import Place

#: Frames that are decoded at a time.
_BLOCK_FRAMES = 2**14

#: At least this many frames means that libsndfile does not know the number.
_UNKNOWN_FRAMES = 2**62

#: A size that makes an MPEG decoder read on to the end.
_ENDLESS_BYTES = 2**40

#: Audio that may be missing: an MP3's length is known to about one of its frames.
_ALLOWED_GAP_SECONDS = 0.1

#: libsndfile's log about a WAV or AIFF whose samples end early.
_SHORT_CHUNK = re.compile(r"(data|SSND) *: *(?P<promised>\d+) \(should be (?P<there>\d+)\)")

#: Programs that write to a pipe do not know the size, and write a large one: about the largest
#: possible, or a round number. A size above a gigabyte is believed if half of it is there.
_NO_SIZE_BYTES = 0x7FFF0000
_MAYBE_NO_SIZE_BYTES = 10**9

#: Formats without a header, by file name.
_HEADERLESS = {".gsm": "GSM610", ".vox": "VOX_ADPCM"}
_HEADERLESS_RATE_HZ = 8000

#: GSM 06.10 has frames of 33 bytes, whose first half byte is always the same.
_GSM_FRAME_BYTES, _GSM_SIGN = 33, 0xD

#: libsndfile seeks in Ogg Vorbis by page, and goes wrong in the last one, which may contain 255
#: packets of 1024 samples: 33 s at 8 kHz.
_OGG_APPROACH_SECONDS = 40.0


def headerless(path: Place, head: bytes) -> dict[str, Any] | None:
    """soundfile's arguments for a file without a header, judged by its name and first bytes."""
    encoding = _HEADERLESS.get(path.suffix.lower())
    signs = head[::_GSM_FRAME_BYTES] if encoding == "GSM610" else b""
    if encoding is None or any(sign >> 4 != _GSM_SIGN for sign in signs):
        return None
    return {"format": "RAW", "subtype": encoding, "samplerate": _HEADERLESS_RATE_HZ, "channels": 1}


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A file in which soundfile does not seek unasked; normally it does so after every read.

    Seeking makes MP3 decoders start over, and is wrong or impossible in some formats.
    """

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        return bool(super().seekable())


class Stream:
    """Samples of one part, from first to last; a context manager.

    Args:
        recording: the file.
        part: which bytes of it.
        name: what to call the file in an error.
        raw: see ``headerless``.

    Raises:
        soundfile.LibsndfileError: libsndfile does not know the format, or this variety of it.
    """

    def __init__(
        self, recording: Recording, part: Part, name: str, raw: dict[str, Any] | None = None
    ) -> None:
        self._part = part
        self._name = name
        self._reader = PieceReader(
            recording.file, part.pieces, _ENDLESS_BYTES if part.seconds is not None else 0
        )
        with ExitStack() as stack:
            stack.enter_context(silenced_c_stderr())
            self._sound = stack.enter_context(_Sequential(self._reader, **(raw or {})))
            self._stack = stack.pop_all()
        self.rate_hz: int = self._sound.samplerate
        #: Frames decoded or skipped so far.
        self.position = 0
        #: Whether there are no more.
        self.has_ended = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def seconds(self) -> float:
        """How much was decoded or skipped so far."""
        return self.position / self.rate_hz

    @property
    def is_ogg(self) -> bool:
        """Whether it is an Ogg stream, which ends wherever the pages end."""
        return bool(self._sound.format == "OGG")

    @property
    def num_frames(self) -> int | None:
        """How many frames there are, or should be; None if unknown."""
        if self._part.seconds is not None:
            return round(self._part.seconds * self.rate_hz)
        if self._sound.frames < _UNKNOWN_FRAMES:
            return int(self._sound.frames)
        return self._part.promised_frames or None

    def skip_to(self, position: int) -> None:
        """Skip to a frame, or to the end if that comes first."""
        length = self.num_frames
        if self._sound.can_seek() and length is not None:
            approach = round(_OGG_APPROACH_SECONDS * self.rate_hz) if self.is_ogg else 0
            # Not every format can seek to its end, but every one to its last frame.
            target = max(0, min(position - approach, length - 1))
            # In an MP3, even seeking to the start changes the last bits of samples.
            if target > 0 or self._sound.format == "MP3":
                self.position = self._sound.seek(target)
        while self.position < position and not self.has_ended:
            self._read(position - self.position)

    def blocks(self, num_frames: int | None) -> Iterator[npt.NDArray[np.float32]]:
        """The next samples, mono, a block at a time.

        Args:
            num_frames: how many, if there are that many; None: all.

        Raises:
            AudioError: the stream ends before ``num_frames``, and before its header says it does.
            soundfile.LibsndfileError: it is damaged.
            OSError: the file cannot be read.
        """
        stop = None if num_frames is None else self.position + num_frames
        while stop is None or self.position < stop:
            samples = self._read(_BLOCK_FRAMES if stop is None else stop - self.position)
            if self.has_ended:
                break
            yield samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
        else:
            return
        promised = self._promised_frames()
        if promised - self.position > _ALLOWED_GAP_SECONDS * self.rate_hz:
            raise AudioError(
                f"{self._name}: is cut short, has {self.seconds:.2f} s of the "
                f"{promised / self.rate_hz:.2f} s in its header; copy it again"
            )

    def _read(self, most: int) -> npt.NDArray[np.float32]:
        """Up to ``most`` frames, [S, channels]; none at the end."""
        most = min(most, _BLOCK_FRAMES)
        promised = self._part.promised_frames
        if self.position < promised:
            most = min(most, promised - self.position)
        try:
            samples: npt.NDArray[np.float32] = self._sound.read(
                most, dtype="float32", always_2d=True
            )
        except soundfile.LibsndfileError:
            # After all that was promised, a tag or other junk may follow.
            if self._reader.error is not None or not 0 < promised <= self.position:
                raise
            samples = np.empty((0, 1), np.float32)
        if self._reader.error is not None:
            raise self._reader.error
        self.position += samples.shape[0]
        self.has_ended = samples.shape[0] == 0
        return samples

    def _promised_frames(self) -> int:
        """Frames that the header promises, which may be more than there are.

        libsndfile silently makes do with the samples that exist, and mentions the rest only in its
        log.
        """
        if self._part.seconds is not None or self._sound.frames >= _UNKNOWN_FRAMES:
            return self._part.promised_frames
        frames: int = self._sound.frames
        chunk = _SHORT_CHUNK.search(self._sound.extra_info)
        if chunk is None:
            return frames
        promised, there = int(chunk["promised"]), int(chunk["there"])
        unknown = promised >= _NO_SIZE_BYTES or promised >= max(_MAYBE_NO_SIZE_BYTES, 2 * there)
        return frames if unknown else max(frames, round(frames * promised / max(1, there)))
