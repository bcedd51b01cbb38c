"""Recordings embedded in a page: the sound survives, and the picture shows it."""

import base64
import io
import math

import numpy as np
import pytest
import soundfile
from PIL import Image
from recordings import waveform

from egl_fast.evaluation.reporting.excerpts import MAX_SECONDS, make_excerpt
from egl_fast.evaluation.reporting.listening import _hypotheses
from egl_fast.evaluation.reporting.wording import plain_exp


def decoded(uri, kind):
    head, _, body = uri.partition(";base64,")
    assert head == f"data:{kind}"
    return io.BytesIO(base64.b64decode(body, validate=True))


def made(path, samples, rate=16000, **place):
    soundfile.write(path, samples, rate)
    return make_excerpt(path, **{"offset_seconds": 0.0, "duration_seconds": None, **place})


def test_the_sound_can_be_played_again(tmp_path):
    samples = waveform(1.5, pitch_hz=500.0)
    excerpt = made(tmp_path / "a.wav", samples)
    assert excerpt.problem is None
    assert excerpt.shown_seconds == pytest.approx(1.5)
    heard, rate = soundfile.read(decoded(excerpt.audio, "audio/mpeg"))
    assert rate == 16000
    assert len(heard) / rate == pytest.approx(
        1.5, abs=0.15
    )  # an MP3 consists of whole frames, padded
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) * rate / len(heard) == pytest.approx(500.0, abs=5.0)
    assert len(excerpt.audio) < 1.5 * 12_000


def test_the_picture_shows_the_pitch(tmp_path):
    heights = []
    for pitch in (300.0, 3000.0):
        tone = np.sin(2 * np.pi * pitch * np.arange(16000) / 16000).astype(np.float32)
        image = Image.open(decoded(made(tmp_path / "a.wav", tone).thumbnail, "image/png"))
        assert image.size == (224, 56)
        heights.append(int(np.asarray(image)[:, 112].argmax()))
    low, high = heights
    assert high < low, "the higher pitch stands nearer to the top"


def test_long_recordings_are_cut_and_segments_kept(tmp_path):
    long = made(tmp_path / "long.wav", waveform(MAX_SECONDS + 3))
    assert long.shown_seconds == MAX_SECONDS
    segment = made(tmp_path / "b.wav", waveform(3.0), offset_seconds=1.0, duration_seconds=0.5)
    assert segment.shown_seconds == pytest.approx(0.5)


def test_quiet_recordings_are_made_louder_at_most_tenfold(tmp_path):
    def peak(gain):
        excerpt = made(tmp_path / "a.wav", gain * waveform(1.0))
        return np.abs(soundfile.read(decoded(excerpt.audio, "audio/mpeg"))[0]).max()

    loudest = np.abs(waveform(1.0)).max()
    assert peak(0.3) == pytest.approx(0.7, rel=0.15)
    assert peak(0.01) == pytest.approx(0.1 * loudest, rel=0.2)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_any_rate_and_channels(tmp_path, rate):
    stereo = np.stack([waveform(0.5, rate_hz=rate)] * 2, axis=1)
    assert made(tmp_path / "a.wav", stereo, rate).shown_seconds == pytest.approx(0.5, abs=0.01)


def test_silence_and_the_shortest_of_sounds(tmp_path):
    assert made(tmp_path / "a.wav", np.zeros(8000)).problem is None
    assert made(tmp_path / "b.wav", np.ones(3) * 0.1).problem is None


def test_what_cannot_be_heard_says_why(tmp_path):
    missing = make_excerpt(tmp_path / "none.wav", offset_seconds=0.0, duration_seconds=1.0)
    assert missing.audio is None
    assert missing.thumbnail is None
    assert "no such file" in missing.problem
    (tmp_path / "text.wav").write_text("no sound")
    broken = make_excerpt(tmp_path / "text.wav", offset_seconds=0.0, duration_seconds=None)
    assert "is text, not audio" in broken.problem
    assert "\n" not in broken.problem


@pytest.mark.parametrize("name", ["a\0b.wav", "a\ud800.wav", "x" * 5000])
def test_a_path_that_no_file_can_have_is_said(tmp_path, name):
    excerpt = make_excerpt(tmp_path / name, offset_seconds=0.0, duration_seconds=1.0)
    assert excerpt.audio is None
    assert excerpt.problem


@pytest.mark.parametrize("subtype", ["PCM_24", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_what_browsers_do_not_play_becomes_mp3(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", waveform(0.5), 16000, subtype=subtype)
    excerpt = make_excerpt(tmp_path / "a.wav", offset_seconds=0.0, duration_seconds=None)
    heard, rate = soundfile.read(decoded(excerpt.audio, "audio/mpeg"))
    assert (rate, heard.ndim) == (16000, 1)


def test_probabilities_too_small_for_a_float():
    assert plain_exp(math.log(0.25)) == "0.25"
    assert plain_exp(-1000 * math.log(10)) == "1\u00a0×\u00a010⁻¹⁰⁰⁰"
    assert plain_exp(math.log(3e-7)) == "3\u00a0×\u00a010⁻⁷"


def test_what_each_hypothesis_adds_to_egl():
    lines = [
        {"text": "a", "log_prob": -1000.0, "sq_grad_norm": 300.0},
        {"text": "b", "log_prob": -1000.0 + math.log(0.5), "sq_grad_norm": 200.0},
        {"text": "no numbers"},
        {"text": "c", "log_prob": 1e308, "sq_grad_norm": 1e308},
        {"text": "d", "log_prob": -1.0, "sq_grad_norm": 10**400},
        {"text": "e", "log_prob": float("-inf"), "sq_grad_norm": 1.0},
    ]
    heard = _hypotheses({"hypotheses": lines})
    assert [(one["pieces"], one["share"]) for one in heard] == [
        ([("", "a")], "75%"),
        ([("-", "a"), ("+", "b")], "25%"),
    ]
    assert _hypotheses({}) == _hypotheses({"hypotheses": "x"}) == []
