"""``egl-fast check`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import egl_fast, lines_of
from conftest import Run
from recordings import write_manifest


def test_check_passes_for_a_good_model(tiny_model: Path, recordings: Path) -> None:
    result = egl_fast(
        "check", "--model", tiny_model, "--pool", recordings, "--utterances", 2, "--k", 3
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for group in ("convs.0.conv", "recurrent.1.rnn", "output", "all"):
        assert group in result.stdout
    assert "TOO LARGE" not in result.stdout


def test_check_notices_a_wrong_norm(
    tiny_model: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from egl_fast.cli.check import command
    from egl_fast.gradients import engine

    right = engine.sq_norms
    monkeypatch.setattr(engine, "sq_norms", lambda found: right(found) * (1 + 1e-3))
    status = command.main(
        ["--model", str(tiny_model), "--pool", str(recordings), "--utterances", "1", "--k", "2"],
        standalone_mode=False,
    )
    assert status == 2
    assert "TOO LARGE" in capsys.readouterr().out


def test_check_takes_the_first_that_can_be_read(
    run: Run, partly_unreadable: Path, tiny_model: Path
) -> None:
    arguments = ["check", "--model", tiny_model, "--utterances", 2, "--k", 1, "--pool"]
    status, out, err = run(*arguments, partly_unreadable, "--json")
    assert status == 0, err
    assert json.loads(out)["passed"]
    assert "warning: skipped rec1.wav" in err
    assert "rec2.wav" in err
    missing = lines_of(partly_unreadable.read_text())[1]
    gone = write_manifest(partly_unreadable.with_name("gone.jsonl"), [missing])
    status, _, err = run(*arguments, gone)
    assert status == 2
    assert "none of its recordings can be read" in err
