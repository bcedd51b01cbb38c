"""Files with odd formats or names, and files that are not audio: the message says what they are."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import SAMPLE_RATE_HZ, load, utterance, waveform

from egl_fast.data import decoding
from egl_fast.data.audio import audio_seconds
from egl_fast.data.c_stderr import silenced_c_stderr
from egl_fast.errors import AudioError

HERE = Path(__file__).parent

SOUND = waveform(2.5)


def written(path: Path, samples: np.ndarray = SOUND, rate_hz: int = SAMPLE_RATE_HZ, **options: str):
    """The bytes of a recording that soundfile writes."""
    soundfile.write(path, samples, rate_hz, **options)
    return path.read_bytes()


# Formats that do not seek, and formats without a header.


@pytest.mark.parametrize("suffix", ["wav", "gsm", "GSM"])
def test_gsm_is_decoded_with_a_header_or_by_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {} if suffix == "wav" else {"format": "RAW"}
    written(path, waveform(2.0, rate_hz=8000), 8000, subtype="GSM610", **options)
    raw = {} if suffix == "wav" else {"channels": 1, "samplerate": 8000, "subtype": "GSM610"}
    expected = soundfile.read(path, dtype="float32", **options, **raw)[0]
    assert np.array_equal(load(path, rate_hz=8000), expected)
    segment = load(path, rate_hz=8000, offset_seconds=0.5, duration_seconds=1.0)
    assert np.array_equal(segment, expected[4000:12000])
    assert audio_seconds(utterance(path)) == expected.shape[0] / 8000


def test_what_is_only_named_gsm_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gsm"
    path.write_bytes(bytes(range(256)) * 33)
    with pytest.raises(AudioError, match="cannot be decoded"):
        load(path)


# Names.


@pytest.mark.parametrize(
    "name",
    ["a.raw", "a", "a.txt", "a.mp3", os.fsdecode(b"caf\xe9.wav"), "a\nb.wav", " .wav", "-i.wav"],
)
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = written(tmp_path / "b.wav", subtype="FLOAT")
    path.write_bytes(content)
    assert np.array_equal(load(path), SOUND.astype(np.float32))
    path.write_bytes(bytes(range(256)))
    for attempt in (load, lambda p: audio_seconds(utterance(p.with_name("x" + p.name)))):
        with pytest.raises(AudioError) as caught:
            attempt(path)
        message = str(caught.value)
        assert message.isprintable()
        assert message.encode()


@pytest.mark.parametrize("name", ["a\0.wav", "\ud800.wav", "a" * 300, ""])
def test_impossible_file_names_are_refused(tmp_path: Path, name: str) -> None:
    for attempt in (load, lambda p: audio_seconds(utterance(p))):
        with pytest.raises(AudioError) as caught:
            attempt(tmp_path / name)
        assert str(caught.value).isprintable()


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.flac"
    written(path)

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decoding, "parts_of", fails)
    with pytest.raises(AudioError, match=r"cannot be read \(Input/output error\)"):
        load(path)


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), RuntimeError("a\nb"), MemoryError()])
def test_whatever_a_decoder_raises_is_an_audio_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.flac"
    written(path)

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(decoding, "parts_of", fails)
    for attempt in (load, lambda p: audio_seconds(utterance(p))):
        with pytest.raises(
            AudioError, match=r"cannot be decoded|does not fit into memory"
        ) as caught:
            attempt(path)
        assert "\n" not in str(caught.value)


# Files that are not audio, or not audio that libsndfile reads.

NO_AUDIO: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "is an HTML page"),
    "html after a byte order mark": (b"\xef\xbb\xbf \n<HTML>", "is an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error>NoSuchKey</Error>", "is XML or HTML text"),
    "json": (b'{"error": "not found"}', "is JSON text"),
    "text": (b"no audio at all, but long enough for some header\n" * 9, "is text"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "zip": (b"PK\x03\x04" + bytes(99), "zip archive; unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "gzip; unpack it"),
    "zeros": (bytes(5000), "only zeros"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "an image"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3" + bytes(99), "a PDF"),
    "midi": (b"MThd\0\0\0\x06" + bytes(99), "a MIDI file, not audio"),
}


@pytest.mark.parametrize("kind", NO_AUDIO)
def test_what_is_no_audio_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp3"
    content, words = NO_AUDIO[kind]
    path.write_bytes(content)
    for attempt in (load, lambda p: audio_seconds(utterance(p))):
        with pytest.raises(AudioError, match=words):
            attempt(path)


FOREIGN = {
    "tone.m4a": "MPEG-4",
    "tone.aac": "AAC",
    "tone.webm": "WebM",
    "tone.wma": "Windows Media",
    "tone_flac.ogg": "Ogg",
    "tone_speex.ogg": "Ogg",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_only_ffmpeg_reads_comes_with_the_remedy(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decoding, "pyav_is_installed", lambda: False)
    path = tmp_path / f"it's {name}"
    path.write_bytes((HERE / "audio" / name).read_bytes())
    with pytest.raises(AudioError) as caught:
        load(path)
    message = str(caught.value)
    assert f"is {FOREIGN[name]}" in message or f"or {FOREIGN[name]}" in message
    assert "ffmpeg -i '" in message
    assert "pip install 'egl-fast[av]'" in message


@pytest.mark.parametrize("name", FOREIGN)
def test_pyav_reads_what_libsndfile_does_not(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = HERE / "audio" / name
    whole = load(path)
    # Encoders pad with less than two blocks of silence on either side, or lose the last block.
    assert 8000 - 512 <= whole.shape[0] <= 8000 + 2 * 2048
    time = np.arange(8000) / 16000
    tone = np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 440 * time)
    inner = whole[2000:7000]
    # FFmpeg's sine has an amplitude of 1/8.
    size = np.hypot(*(inner @ part[2000:7000] for part in tone)) / 2500
    assert size == pytest.approx(0.125, rel=0.1)
    assert audio_seconds(utterance(path)) == pytest.approx(whole.shape[0] / 16000, abs=1e-3)
    segment = load(path, offset_seconds=0.25, duration_seconds=0.125)
    if name != "tone.webm":  # it has another rate, so the resampling filter starts elsewhere
        assert np.array_equal(segment, whole[4000:6000])
    assert segment.shape == (2000,)
    with pytest.raises(AudioError, match="beyond the end"):
        load(path, offset_seconds=2.0)
    assert capfd.readouterr() == ("", "")


def test_pyav_names_what_it_cannot_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AudioError, match="contains no sound"):
        load(HERE / "audio" / "silent_film.mp4")
    content = (HERE / "audio" / "tone.m4a").read_bytes()
    path = tmp_path / "a.m4a"
    path.write_bytes(2 * content)
    with pytest.raises(AudioError, match="several recordings joined in one file"):
        load(path)
    path.write_bytes(content[:-900])
    with pytest.raises(AudioError, match="cannot be decoded by FFmpeg"):
        load(path)
    webm = (HERE / "audio" / "tone.webm").read_bytes()
    path.write_bytes(webm[: len(webm) // 2])
    with pytest.raises(AudioError, match="is cut short"):
        load(path)
    assert capfd.readouterr() == ("", "")


def damaged(content: bytes, seed: int) -> bytes:
    changed = bytearray(content)
    rng = np.random.default_rng(seed)
    for place in rng.integers(300, len(content), 40):
        changed[place] = rng.integers(256)
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "bytes": lambda content: damaged(content, 0),
    "other bytes": lambda content: damaged(content, 1),
    "cut off": lambda content: content[:-500],
    "cut off in front": lambda content: content[1500:],
    "a tag that ends early": lambda content: b"ID3\x03\0\x40\0\0\x02\x01" + content,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_nothing_of_libmpg123_reaches_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(DAMAGE[damage](written(path, format="MP3")))
    for fields in ({}, {"offset_seconds": 0.7}):
        with contextlib.suppress(AudioError):
            load(path, **fields)
    assert capfd.readouterr() == ("", "")


def test_c_code_can_print_again_after_the_last_decoder(capfd: pytest.CaptureFixture[str]) -> None:
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        pytest.skip("the test finds the stream as glibc has it")
    c = ctypes.CDLL(None)

    def says(words: bytes) -> None:
        c.fputs(words, ctypes.c_void_p.in_dll(c, "stderr"))

    barrier = threading.Barrier(4)

    def decode(number: int) -> None:
        for _ in range(50):
            with silenced_c_stderr():
                barrier.wait()
                says(b"never heard\n")
                barrier.wait()

    threads = [threading.Thread(target=decode, args=[n]) for n in range(4)]
    says(b"before\n")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    says(b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"
