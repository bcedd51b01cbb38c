"""One part of a file, decoded by libsndfile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from egl_fast.data.c_stderr import c_stderr_is_silent
from egl_fast.data.parts import Part, Recording
from egl_fast.data.pieces import PieceReader
from egl_fast.errors import AudioError

#: Frames that are decoded at a time.
_BLOCK_FRAMES = 2**14

#: From here on, a number of frames stands for one that libsndfile does not know.
_UNKNOWN_FRAMES = 2**62

#: A size that makes a decoder of MPEG frames expect more than there can be.
_ENDLESS_BYTES = 2**40

#: Missing audio that is not worth a word: the length of an MP3 is known to about a frame of it.
_ALLOWED_GAP_SECONDS = 0.1

#: libsndfile's log of a WAV or AIFF whose samples end early.
_SHORT_CHUNK = re.compile(r"(data|SSND) *: *(?P<promised>\d+) \(should be (?P<there>\d+)\)")

#: Programs that write into a pipe do not know the size, and put down a large one: about the largest
#: possible, or any round number. One above a gigabyte is believed if half of it is there.
_NO_SIZE_BYTES = 0x7FFF0000
_MAYBE_NO_SIZE_BYTES = 10**9

#: Formats without a header, by the ending of the file's name.
_HEADERLESS = {".gsm": "GSM610", ".vox": "VOX_ADPCM"}
_HEADERLESS_RATE_HZ = 8000

#: GSM 06.10 comes in frames of 33 bytes, whose first half byte is always the same.
_GSM_FRAME_BYTES, _GSM_SIGN = 33, 0xD

#: libsndfile finds a place in Ogg Vorbis by the page, and goes wrong in the last one, which may
#: hold 255 packets of 1024 samples: 33 s at 8 kHz.
_OGG_APPROACH_SECONDS = 40.0


def headerless(path: PurePath, head: bytes) -> dict[str, Any] | None:
    """What soundfile must be told of a file without a header, if the name says that it is one.

    Args:
        path: its name.
        head: its first bytes.
    """
    encoding = _HEADERLESS.get(path.suffix.lower())
    signs = head[::_GSM_FRAME_BYTES] if encoding == "GSM610" else b""
    if encoding is None or any(sign >> 4 != _GSM_SIGN for sign in signs):
        return None
    return {"format": "RAW", "subtype": encoding, "samplerate": _HEADERLESS_RATE_HZ, "channels": 1}


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A file that soundfile does not seek in on its own, as it else does after every read.

    Seeking makes MP3 decoders start over, and is wrong or impossible in some formats.
    """

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        return bool(super().seekable())


class Stream:
    """Samples of one part, from first to last. To be used in a ``with`` statement.

    Args:
        recording: the file.
        part: which bytes of it.
        name: what to call the file in an error.
        raw: see ``headerless``.

    Raises:
        soundfile.LibsndfileError: libsndfile does not know the format, or not this kind of it.
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
            stack.enter_context(c_stderr_is_silent())
            self._sound = stack.enter_context(_Sequential(self._reader, **(raw or {})))
            self._stack = stack.pop_all()
        self.rate_hz: int = self._sound.samplerate
        #: Frames decoded or left out so far.
        self.place = 0
        #: Whether there are no more.
        self.has_ended = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def seconds(self) -> float:
        """How much was decoded or left out so far."""
        return self.place / self.rate_hz

    @property
    def is_ogg(self) -> bool:
        """Whether it is an Ogg stream, which ends with whatever page is the last."""
        return bool(self._sound.format == "OGG")

    @property
    def num_frames(self) -> int | None:
        """How many frames there are, or should be; None where nothing tells."""
        if self._part.seconds is not None:
            return round(self._part.seconds * self.rate_hz)
        if self._sound.frames < _UNKNOWN_FRAMES:
            return int(self._sound.frames)
        return self._part.promised_frames or None

    def skip_to(self, place: int) -> None:
        """Leave out what comes before a frame; there may be less."""
        length = self.num_frames
        if self._sound.can_seek() and length is not None:
            approach = round(_OGG_APPROACH_SECONDS * self.rate_hz) if self.is_ogg else 0
            # The last frame can be found, but the place behind it not in every format.
            target = max(0, min(place - approach, length - 1))
            # In an MP3 also the start: the last bits of its samples depend on it.
            if target > 0 or self._sound.format == "MP3":
                self.place = self._sound.seek(target)
        while self.place < place and not self.has_ended:
            self._read(place - self.place)

    def blocks(self, num_frames: int | None) -> Iterator[npt.NDArray[np.float32]]:
        """Samples from here on, mono, a block at a time.

        Args:
            num_frames: how many; None: all there are. There may be fewer.

        Raises:
            AudioError: the stream ends earlier than its header promises and than wanted.
            soundfile.LibsndfileError: it is damaged.
            OSError: the file cannot be read.
        """
        stop = None if num_frames is None else self.place + num_frames
        while stop is None or self.place < stop:
            samples = self._read(_BLOCK_FRAMES if stop is None else stop - self.place)
            if self.has_ended:
                break
            yield samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
        else:
            return
        promised = self._promised_frames()
        if promised - self.place > _ALLOWED_GAP_SECONDS * self.rate_hz:
            raise AudioError(
                f"{self._name}: is cut short, its header promises {promised / self.rate_hz:.2f} s "
                f"and {self.place / self.rate_hz:.2f} s are there; copy it again"
            )

    def _read(self, most: int) -> npt.NDArray[np.float32]:
        """Up to ``most`` frames, [S, channels]; none at the end."""
        most = min(most, _BLOCK_FRAMES)
        promised = self._part.promised_frames
        if self.place < promised:
            most = min(most, promised - self.place)
        try:
            samples: npt.NDArray[np.float32] = self._sound.read(
                most, dtype="float32", always_2d=True
            )
        except soundfile.LibsndfileError:
            # All that was promised is there: what comes now may be a tag, or other junk.
            if self._reader.error is not None or not 0 < promised <= self.place:
                raise
            samples = np.empty((0, 1), np.float32)
        if self._reader.error is not None:
            raise self._reader.error
        self.place += samples.shape[0]
        self.has_ended = samples.shape[0] == 0
        return samples

    def _promised_frames(self) -> int:
        """Frames that the header tells of, which may be more than there are.

        libsndfile makes do with the samples that are there, and mentions the rest in its log alone.
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
