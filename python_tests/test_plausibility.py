"""Warnings of outputs that give a wrong blank or a wrong sample rate away."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import small_factory
import torch
from conftest import Run
from recordings import write_recordings

from egl_fast.errors import ModelError
from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.scoring.formula.plausibility import Plausibility
from egl_fast.scoring.options import ScoringOptions
from egl_fast.warning import EglWarning


def recognizer(blank: int = 0, frame_seconds: float | None = 0.02) -> Recognizer:
    module = torch.nn.Linear(1, 4)
    found = Recognizer.of(module, ["-", "a", "b", "c"], blank=blank, frame_seconds=frame_seconds)
    return replace(found, front_end=None)


def outputs(winners: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [1, T, 4] that these classes win, and a frame of padding that another one wins."""
    log_probs = torch.full((1, len(winners) + 1, 4), -5.0)
    log_probs[0, range(len(winners)), winners] = -0.1
    log_probs[0, -1, 3] = 0.0
    return log_probs, torch.tensor([len(winners)])


#: 600 frames, 12 s at 20 ms: as a CTC model has them.
SPEECH = ([0, 0, 1, 0, 0, 2, 2, 0, 0, 3]) * 60


def messages(model: Recognizer, winners: list[int], seconds: float) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch = Plausibility(model)
        for _ in range(2):
            watch.see(*outputs(winners), [seconds])
    return [str(one.message) for one in caught]


def test_speech_is_plausible() -> None:
    assert messages(recognizer(), SPEECH, 12.0) == []
    assert messages(recognizer(frame_seconds=None), SPEECH, 1e3) == []


def test_a_wrong_blank_is_noticed_once() -> None:
    [message] = messages(recognizer(blank=3), SPEECH, 12.0)
    assert "class 0 ('-') has the highest probability in more than half of the frames" in message
    assert "the blank (class 3) has not" in message


@pytest.mark.parametrize("seconds", [6.0, 24.0])
def test_a_wrong_rate_is_noticed(seconds: float) -> None:
    [message] = messages(recognizer(), SPEECH, seconds)
    assert f"a frame for every {seconds / 600 * 1000:.2g} ms of audio" in message
    assert "frame_seconds says 20 ms" in message


def test_short_recordings_may_be_padded() -> None:
    assert messages(recognizer(), SPEECH, 1.9) == []


def test_a_few_frames_are_no_evidence() -> None:
    assert messages(recognizer(blank=3), SPEECH[:200], 4.0) == []


def test_unknown_durations_say_nothing() -> None:
    assert messages(recognizer(), SPEECH, 0.0) == []


def test_check_shows_what_is_heard_and_warns(run: Run, tmp_path: Path) -> None:
    tests = Path(small_factory.__file__).parent
    factory = tmp_path / "wrong.py"
    factory.write_text(
        f"import sys\nsys.path.insert(0, {str(tests)!r})\nimport small_factory\n"
        "def recognizer():\n"
        "    return small_factory.recognizer() | {'frame_seconds': 25.0}\n"
    )
    pool = write_recordings(tmp_path, ["banana"], [3.0])
    status, out, err = run("check", "--model", f"{factory}:recognizer", "--pool", pool, "--k", 1)
    assert status == 0, err
    assert "what the model hears:\n  " in out
    assert "said: banana" in out
    assert "frame_seconds says 25000 ms" in err


def test_a_name_for_two_classes_is_noticed() -> None:
    with pytest.warns(EglWarning, match="'a' is the name of several classes"):
        Classes.of(["<blank>", "a", "b", "a", "<unk>", "<unk>"], 0)


def broken_factory(folder: Path) -> str:
    """A model whose outputs are probabilities."""
    tests = Path(small_factory.__file__).parent
    path = folder / "softmaxed.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(tests)!r})\nimport small_factory\n"
        "class Softmaxed(small_factory.Small):\n"
        "    def forward(self, samples, lengths):\n"
        "        logits, lengths = super().forward(samples, lengths)\n"
        "        return logits.softmax(2), lengths\n"
        "def recognizer():\n"
        "    return small_factory.recognizer() | {'module': Softmaxed()}\n"
    )
    return f"{path}:recognizer"


@pytest.mark.parametrize("count", [3, 25])
def test_a_model_that_never_works_is_told_of_and_given_up(
    run: Run, tmp_path: Path, count: int
) -> None:
    pool = write_recordings(tmp_path, [""] * count, [0.3] * count)
    out = tmp_path / "scores.jsonl"
    status, _, err = run("score", "--model", broken_factory(tmp_path), "--pool", pool, "--out", out)
    assert err.count("warning: the model failed for rec0.wav: the model returns probabilities") == 1
    if count == 3:
        assert status == 3
        assert "3 could not be scored" in err
    else:
        assert status == 2
        assert "the model failed for the first 20 recordings" in err
        assert not out.exists()


def test_a_factory_without_a_function_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("")
    status, _, err = run("check", "--model", path)
    assert status == 2
    assert f"name the function that makes the model: {path}:FUNCTION" in err


def test_more_labelings_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egl_fast.compute.memory.machine_memory_bytes", lambda: 2**30)
    ScoringOptions(k=2000).refuse_more_than_fits(torch.float32)
    with pytest.raises(ModelError, match=r"k=3000: .* take 0.8 GiB, and this machine has 1.0 GiB"):
        ScoringOptions(k=3000).refuse_more_than_fits(torch.float32)
    ScoringOptions(k=3000, method="none").refuse_more_than_fits(torch.float32)
