"""Any bytes are a recording, or are refused in one line; all its frames and parts are found."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from any_input import any_bytes, few, put, value_or_line
from hypothesis import example, given
from hypothesis import strategies as st

from egl_fast.data.audio import audio_seconds, load_audio
from egl_fast.data.file_bytes import FileBytes
from egl_fast.data.manifest import utterance_of
from egl_fast.data.mpeg_frames import mpeg_parts
from egl_fast.data.parts import Recording, parts_of

RATE_HZ = 8000
SAMPLES = np.sin(np.arange(800) / 5) * np.linspace(0, 0.5, 800)

#: What headers are made of.
SIGNS = [
    *(b"RIFF", b"RF64", b"WAVE", b"ds64", b"fmt ", b"data", b"fLaC", b"OggS\0\2", b"OpusHead"),
    *(b"FORM", b"AIFC", b"COMM", b"SSND", b"caff", b".snd", b"ID3\4\0\0\0\0\1\0", b"TAG"),
    *(b"APETAGEX", b"Xing\0\0\0\1", b"VBRI", b"\xff\xf3\x14\xc4", b"\xff\xfb\x90\0", b"U\0"),
    *(b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\0\0\0\x10"),
]  # fmt: skip


def written(suffix: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, SAMPLES, RATE_HZ, format=suffix.upper(), **options)
    return buffer.getvalue()


RECORDINGS = {name: written(name) for name in ("wav", "rf64", "flac", "aiff", "au", "caf", "w64")}
LOSSY = [written("ogg", subtype="VORBIS"), written("ogg", subtype="OPUS"), written("mp3")]
FLOATS = written("wav", subtype="DOUBLE")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def utterance(folder: Path) -> Any:
    return utterance_of({"audio_filepath": "x"}, 1, folder, "here")


@few
@given(any_bytes(*RECORDINGS.values(), *LOSSY, FLOATS, also=SIGNS))
def test_any_bytes_are_a_recording_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, x=content)
    samples = value_or_line(load_audio, utterance(folder), sample_rate_hz=RATE_HZ)
    if samples is not None:
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert np.isfinite(samples).all()
    value_or_line(audio_seconds, utterance(folder))


@few
@given(any_bytes(*RECORDINGS.values(), *LOSSY, also=SIGNS))
def test_parts_are_pieces_of_the_file(folder: Path, content: bytes) -> None:
    put(folder, x=content)
    with open(folder / "x", "rb") as file:
        try:
            parts = parts_of(Recording(file, len(content), (id(file), hash(content))))
        except (OSError, ValueError):  # which loading reports in one line
            return
    assert parts
    for part in parts:
        assert part.promised_frames >= 0
        for piece in part.pieces:
            assert isinstance(piece, bytes) or 0 <= piece.start <= piece.stop <= len(content)


@few
@given(st.sampled_from(sorted(set(RECORDINGS) - {"rf64"})), st.integers(1, 4))
def test_joined_recordings_are_read_to_the_end(folder: Path, name: str, count: int) -> None:
    put(folder, x=RECORDINGS[name] * count)
    samples = load_audio(utterance(folder), sample_rate_hz=RATE_HZ)
    put(folder, x=RECORDINGS[name])
    one = load_audio(utterance(folder), sample_rate_hz=RATE_HZ)
    assert len(one) == len(SAMPLES)
    assert np.array_equal(samples, np.tile(one, count))


#: Bits of the version, its rates in Hz, and samples a frame of layers 1 to 3.
VERSIONS = [
    (3, (44100, 48000, 32000), (384, 1152, 1152)),
    (2, (22050, 24000, 16000), (384, 1152, 576)),
    (0, (11025, 12000, 8000), (384, 1152, 576)),
]


@st.composite
def frames(draw: Callable[[Any], Any]) -> tuple[bytes, float]:
    """A stream of silent frames without a table, and its seconds, as the standard has them."""
    version, rates, samples = draw(st.sampled_from(VERSIONS))
    layer, rate = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    mode = draw(st.sampled_from([0x00, 0xC0]))
    stream, count = b"", draw(st.integers(4, 9))
    for _ in range(count):
        bit_rate, padding = draw(st.integers(1, 14)), draw(st.integers(0, 1))
        header = bytes([0xFF, 0xE1 | version << 3 | (4 - layer) << 1])
        header += bytes([bit_rate << 4 | rate << 2 | padding << 1, mode])
        # Kbit/s of version 1 grow in other steps for each layer; those of 2 and 2.5 share a table.
        kbits = {
            1: [32 * n for n in range(15)],
            2: [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
            3: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        }[layer]
        if version != 3:
            kbits = [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256]
            if layer > 1:
                kbits = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
        slot = 4 if layer == 1 else 1
        size = slot * (
            samples[layer - 1] // 8 * 1000 * kbits[bit_rate] // (slot * rates[rate]) + padding
        )
        stream += header + bytes(size - 4)
    return stream, count * samples[layer - 1] / rates[rate]


def streams(content: bytes) -> list[Any]:
    return list(mpeg_parts(FileBytes(io.BytesIO(content), len(content)), 0))


@few
@given(frames(), st.sampled_from([b"", b"TAG" + bytes(125), b"junk", bytes(5000)]))
def test_frames_of_mpeg_are_counted(stream: tuple[bytes, float], behind: bytes) -> None:
    content, seconds = stream
    (found,) = streams(content + behind)
    assert found.spans == (range(len(content)),)
    assert found.seconds == pytest.approx(seconds)


@few
@given(st.lists(st.sampled_from(SIGNS) | st.binary(max_size=20), max_size=12).map(b"".join))
@example(b"\xff\xf3\x14\x00" + bytes(17) + b"Xing" + bytes(2))
def test_any_bytes_have_frames_or_none(content: bytes) -> None:
    for found in streams(content):
        assert all(0 <= span.start < span.stop <= len(content) for span in found.spans)
