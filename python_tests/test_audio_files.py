"""Files whose headers give no length, or only that of the first part, are read to the end."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import SAMPLE_RATE_HZ, load, utterance, waveform

from egl_fast.data.audio import audio_seconds, load_audio
from egl_fast.errors import AudioError

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio"

#: Noise behind a tone: an encoder of variable rate spends few bits on the one, many on the other.
SOUND = np.concatenate([waveform(1.0), 20 * waveform(1.5, pitch_hz=900.0, seed=1) / 21])


def written(path: Path, samples: np.ndarray = SOUND, rate_hz: int = SAMPLE_RATE_HZ, **options: str):
    """The bytes of a recording as soundfile writes it; it leaves the file at that path."""
    soundfile.write(path, samples, rate_hz, **options)
    return path.read_bytes()


def as_soundfile_reads_it(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    samples: np.ndarray = soundfile.read(path, dtype="float32")[0]
    return samples


# Ordinary files.


@pytest.mark.parametrize(
    "suffix", ["wav", "flac", "mp3", "ogg", "opus", "aiff", "w64", "caf", "au"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_give_the_samples_of_one_read(tmp_path: Path, suffix: str, channels: int) -> None:
    path = tmp_path / f"a.{suffix}"
    channels = min(channels, 2) if suffix == "mp3" else channels
    stack = np.stack([waveform(4.5, seed=c) for c in range(channels)], axis=1)
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(path, stack, SAMPLE_RATE_HZ, **options)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    assert np.array_equal(load(path), expected)


def test_recorded_speech_is_decoded_to_the_same_bits() -> None:
    paths = sorted(EXAMPLES.rglob("*.flac"))[::8]
    assert paths
    for path in paths:
        expected, rate_hz = soundfile.read(path, dtype="float32")
        assert np.array_equal(load(path, rate_hz=rate_hz), expected)


# Lengths that headers omit or get wrong.


def first_frame_bytes(mp3: bytes) -> int:
    """Size of the frame with the table of an MP3 of version 2, layer 3."""
    assert mp3[0] == 0xFF
    assert mp3[1] & 0xFE == 0xF2
    kbits = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160][mp3[2] >> 4]
    return 72 * 1000 * kbits // SAMPLE_RATE_HZ


def mp3_without_table(path: Path) -> tuple[bytes, np.ndarray]:
    """An MP3 of variable rate as written to a pipe, and its samples according to LAME."""
    # The loudest part first, so that the rest takes fewer bytes than it suggests.
    content = written(path, SOUND[::-1], format="MP3", bitrate_mode="VARIABLE")
    table = first_frame_bytes(content)
    assert b"Xing" in content[:table] or b"Info" in content[:table]
    return content[table:], as_soundfile_reads_it(content, path)


def test_an_mp3_of_variable_rate_without_a_table_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content, expected = mp3_without_table(path)
    path.write_bytes(content)
    whole = load(path)
    # The table also gave the delays of the encoder, 576 samples, and the decoder, 529.
    delay = 576 + 529
    assert whole.shape[0] % 576 == 0
    there = whole[delay : delay + expected.shape[0]]
    assert there.shape == expected.shape
    assert np.abs(there - expected).max() < 1e-5
    assert audio_seconds(utterance(path)) == whole.shape[0] / SAMPLE_RATE_HZ
    # After seeking, an MP3 may differ in the last bits.
    segment = load(path, offset_seconds=2.0, duration_seconds=0.25)
    assert np.abs(segment - whole[32000:36000]).max() < 1e-5


def test_an_mp3_in_a_wav_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content, _ = mp3_without_table(path.with_suffix(".mp3"))
    path.with_suffix(".mp3").write_bytes(content)
    expected = load(path.with_suffix(".mp3"))
    # WAVEFORMATEX with MPEGLAYER3WAVEFORMAT behind it.
    fmt = struct.pack("<HHIIHHH", 0x55, 1, SAMPLE_RATE_HZ, 8000, 1, 0, 12)
    fmt += struct.pack("<HIHHH", 1, 2, 576, 1, 1105)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(content)) + content
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert np.array_equal(load(path), expected)
    assert audio_seconds(utterance(path)) == expected.shape[0] / SAMPLE_RATE_HZ


def test_tags_and_junk_between_the_frames_of_an_mp3_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = written(path, format="MP3")
    expected = as_soundfile_reads_it(content, path)
    id3 = b"ID3\x03\0\0\0\0\x02\x01" + bytes(257)
    ape = b"APETAGEX" + struct.pack("<III", 2000, 32, 0) + bytes(8)
    for before, after in [
        (id3, b""),
        (b"", b"TAG" + bytes(125)),
        (id3, ape),
        (b"", b"\xff\xfb" * 99),
    ]:
        path.write_bytes(before + content + after)
        assert np.array_equal(load(path), expected)


def without_length(flac: bytes) -> bytes:
    """As an encoder writes it to a pipe: the number of samples is 36 zero bits."""
    changed = bytearray(flac)
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    return bytes(changed)


def test_a_flac_of_unknown_length_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = written(path)
    expected = as_soundfile_reads_it(content, path)
    path.write_bytes(without_length(content))
    assert np.array_equal(load(path), expected)
    assert np.array_equal(load(path, offset_seconds=1.25), expected[20000:])
    assert audio_seconds(utterance(path)) == pytest.approx(2.5)
    with pytest.raises(AudioError, match="beyond the end"):
        load(path, offset_seconds=3.0)


def test_a_flac_that_is_longer_than_its_header_says_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = bytearray(written(path))
    expected = as_soundfile_reads_it(content, path)
    content[22:26] = struct.pack(">I", 8000)
    path.write_bytes(content)
    assert np.array_equal(load(path), expected)


def test_a_recording_that_is_too_long_is_given_up_early(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(without_length(written(path)))
    assert 1.0 < audio_seconds(utterance(path), enough_seconds=1.0) < 2.5
    with pytest.raises(AudioError, match="longer than the 1 s allowed"):
        load_audio(utterance(path), sample_rate_hz=SAMPLE_RATE_HZ, max_seconds=1.0)
    segment = utterance(path, duration_seconds=0.75)
    assert load_audio(segment, sample_rate_hz=SAMPLE_RATE_HZ, max_seconds=1.0).shape == (12000,)


@pytest.mark.parametrize(
    "size", [0, 2_000_000_000, 1_500_000_000, 2**30, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF]
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "ULAW", "GSM610"])
def test_a_wav_whose_size_stands_for_unknown_is_whole(
    tmp_path: Path, size: int, subtype: str
) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(written(path, subtype=subtype))
    expected = as_soundfile_reads_it(content, path)
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    assert np.array_equal(load(path), expected)
    assert audio_seconds(utterance(path)) == expected.shape[0] / SAMPLE_RATE_HZ


def test_an_rf64_without_sizes_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(written(path, format="RF64", subtype="PCM_16"))
    expected = as_soundfile_reads_it(content, path)
    place = content.index(b"ds64") + 8
    content[place : place + 24] = bytes(24)
    path.write_bytes(content)
    assert np.array_equal(load(path), expected)


def test_a_caf_that_ends_with_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.caf"
    content = bytearray(written(path, format="CAF", subtype="PCM_16"))
    expected = as_soundfile_reads_it(content, path)
    place = content.index(b"data") + 4
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    assert np.array_equal(load(path), expected)


def test_chunks_after_the_samples_of_an_empty_wav_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = written(path, SOUND[:0], subtype="PCM_16")
    path.write_bytes(content + b"LIST\x08\0\0\0INFOabcd")
    with pytest.raises(AudioError, match="contains no samples"):
        load(path)


# Joined files.

KINDS = {
    "wav": {},
    "aiff": {},
    "au": {},
    "w64": {},
    "caf": {},
    "flac": {},
    "mp3": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}


@pytest.mark.parametrize("suffix", KINDS)
def test_joined_files_are_read_to_the_end_of_the_last(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    first = written(path, SOUND, **KINDS[suffix])
    second = written(path, waveform(0.75, seed=5), **KINDS[suffix])
    parts = [as_soundfile_reads_it(content, path) for content in (first, second, first)]
    path.write_bytes(first + second + first)
    whole = np.concatenate(parts)
    # An MP3 is rewound to its start, or its last bits differ; so are the parts.
    assert np.array_equal(load(path), whole)
    assert audio_seconds(utterance(path)) == pytest.approx(5.75)
    for offset, duration in [(2.75, 0.25), (2.25, 0.5), (3.5, 1.0)]:
        start, stop = round(offset * 16000), round((offset + duration) * 16000)
        segment = load(path, offset_seconds=offset, duration_seconds=duration)
        assert np.abs(segment - whole[start:stop]).max() < 1e-5
    with pytest.raises(AudioError, match=r"beyond the end \(5\.75 s\)"):
        load(path, offset_seconds=6.0)


@pytest.mark.parametrize("size", [0, 2_000_000_000, 0xFFFFFFFF])
def test_joined_wavs_of_unknown_length_are_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(written(path, subtype="PCM_16"))
    expected = as_soundfile_reads_it(content, path)
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(3 * content)
    assert np.array_equal(load(path), np.tile(expected, 3))


def test_a_wav_cut_short_before_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = written(path, np.tile(SOUND, 2), subtype="PCM_16")
    path.write_bytes(content[: len(content) // 2] + written(path, subtype="PCM_16")[:9000])
    with pytest.raises(AudioError, match=r"has 2\.50 s of the 5\.00 s in its header"):
        load(path)


def test_joined_flac_files_of_unknown_length_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = written(path)
    expected = as_soundfile_reads_it(content, path)
    path.write_bytes(2 * without_length(content))
    assert np.array_equal(load(path), np.concatenate([expected, expected]))


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_joined_parts_may_differ_in_rate_and_channels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    slow = written(path, np.stack([waveform(0.5, rate_hz=8000)] * 2, axis=1), 8000)
    fast = written(path, waveform(0.5), SAMPLE_RATE_HZ)
    path.write_bytes(slow)
    parts = [load(path)]
    path.write_bytes(fast)
    parts.append(load(path))
    path.write_bytes(slow + fast)
    assert np.array_equal(load(path), np.concatenate(parts))
    assert audio_seconds(utterance(path)) == pytest.approx(1.0)


def test_an_mp3_with_a_table_joined_to_one_without_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    bare, expected = mp3_without_table(path)
    path.write_bytes(bare)
    bare_samples = load(path).shape[0]
    complete = written(path, format="MP3")
    path.write_bytes(bare + complete)
    assert load(path).shape[0] == bare_samples + SOUND.shape[0]
    # The first table states less than there is, so it is ignored.
    path.write_bytes(complete + bare)
    there = load(path).shape[0]
    assert SOUND.shape[0] + expected.shape[0] <= there <= bare_samples + SOUND.shape[0] + 3 * 576


def test_joined_files_that_cannot_all_be_decoded_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = written(path)
    broken = content.replace(b"fmt ", b"fmtX")
    path.write_bytes(content + broken)
    with pytest.raises(AudioError, match="2 recordings joined in one file, of which number 2"):
        load(path)


def test_a_page_missing_in_the_middle_of_an_ogg_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    content = written(path, np.tile(SOUND, 4))
    places = [i for i in range(len(content)) if content.startswith(b"OggS\0", i)]
    pages = [content[a:b] for a, b in pairwise([*places, len(content)])]
    assert len(pages) > 5
    del pages[4]
    path.write_bytes(b"".join(pages))
    with pytest.raises(AudioError, match="cut short"):
        load(path)


@pytest.mark.parametrize("suffix", ["ogg", "opus", "flac", "wav", "mp3"])
def test_a_segment_at_the_end_is_that_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    """libsndfile 1.2.2 finds the wrong samples in the last page of an Ogg Vorbis file."""
    path = tmp_path / f"a.{suffix}"
    written(path, np.tile(SOUND, 2), **KINDS[suffix])
    whole = load(path)
    for start in range(61001, 79000, 2003):
        segment = load(path, offset_seconds=start / 16000, duration_seconds=0.0625)
        assert np.abs(segment - whole[start : start + 1000]).max() < 1e-5, start


def test_two_chunks_of_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(written(path, subtype="PCM_16"))
    at = content.index(b"data")
    chunk = bytes(content[at:])
    content += chunk
    content[4:8] = struct.pack("<I", len(content) - 8)
    path.write_bytes(content)
    with pytest.raises(AudioError, match="two chunks of samples"):
        load(path)


def test_a_rate_without_speech_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(26_000), 1)
    with pytest.raises(AudioError, match="its rate of 1 Hz is too low"):
        load(tmp_path / "a.wav")
