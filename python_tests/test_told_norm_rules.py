"""What has no norm rule is said and recorded, however often a run is stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_factory
from conftest import Run

from egl_fast.scoring.run.resumable_scores import ResumableScores

MODEL = f"{small_factory.__file__}:scaled"
SAID = "0.03% of 3,254 parameters have no norm rule (Scaled 1)"
RULES = {"parameters": 3254, "without_rule": {"Scaled": 1}}


def rules_in(path: Path) -> dict[str, object]:
    found = json.loads(path.read_text())["norm_rules"]
    assert 0 < found.pop("row_share") < 0.01
    return dict(found)


def test_score_says_it_in_every_run(
    run: Run, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, metadata = tmp_path / "scores.jsonl", tmp_path / "scores.jsonl.meta.json"
    command = ["score", "--model", MODEL, "--pool", recordings, "--k", 3, "--device", "cpu"]
    command += ["--out", out]

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # when everything is scored, but nothing is renamed
        patch.setattr(ResumableScores, "finish", stopped)
        assert run(*command)[0] == 130
    for note in ("resuming: 4 of 4", "already complete"):
        status, _, err = run(*command, "--resume")
        assert status == 0
        assert note in err
        assert SAID in err
        assert rules_in(metadata) == RULES


def test_query_says_it_too(run: Run, recordings: Path, tmp_path: Path) -> None:
    out, metadata = tmp_path / "picks.jsonl", tmp_path / "picks.jsonl.meta.json"
    command = ["query", "--model", MODEL, "--pool", recordings, "--k", 3, "--device", "cpu"]
    command += ["--budget", 1, "--strategy", "egl", "--out", out]
    for more in ([], ["--resume"], ["--overwrite"]):
        status, _, err = run(*command, *more)
        assert status == 0, err
        assert SAID in err
        assert rules_in(metadata) == RULES
