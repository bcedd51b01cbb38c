"""Commands that read from a store and write to one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faulty_store
import pytest
from commands import contents, lines_of
from conftest import Run
from faulty_store import FaultyStore, content, failing, names

from egl_fast.files import remote

SECRETS = ("user-7f", "pass-3a", "signed-91")
AT = "faulty://user-7f:pass-3a@b/"
QUERY = "?X-Signature=signed-91"


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def store(recordings: Path) -> Iterator[type[FaultyStore]]:
    with faulty_store.store_of(recordings.parent) as found:
        yield found


def unfinished() -> set[str]:
    """What is kept on this machine."""
    return {os.path.basename(name) for name in contents(Path(os.environ["XDG_CACHE_HOME"]))}


def at(name: str) -> str:
    return f"{AT}{name}{QUERY}"


def without_circumstances(metadata: bytes) -> dict[str, Any]:
    found = json.loads(metadata)
    return {k: v for k, v in found.items() if k not in ("pool", "wall_seconds")}


def test_scores_in_a_store_are_those_on_the_disk(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (recordings.parent / "rec1.wav").write_bytes(b"RIFF broken")
    store().pipe_file("b/rec1.wav", b"RIFF broken")
    options = ("--model", tiny_model, "--k", 3)
    local = tmp_path / "local.jsonl"
    assert run("score", *options, "--pool", recordings, "--out", local)[0] == 3
    store().pipe_file("b/tiny.pt", tiny_model.read_bytes())
    status, _, err = run(
        "score", "--model", at("tiny.pt"), "--k", 3, "--pool", at("all.jsonl"),
        "--out", at("scores.jsonl"),
    )  # fmt: skip
    assert status == 3, err
    assert "faulty://***@b/scores.jsonl" in err
    assert content("scores.jsonl") == local.read_bytes()
    far, near = lines_of(content("scores.jsonl.errors.jsonl").decode()), lines_of(
        Path(f"{local}.errors.jsonl").read_text()
    )
    assert [one["id"] for one in far] == [one["id"] for one in near] == ["rec1.wav"]
    metadata = without_circumstances(content("scores.jsonl.meta.json"))
    assert metadata.pop("model") == "faulty://***@b/tiny.pt?***"
    expected = without_circumstances(Path(f"{local}.meta.json").read_bytes())
    assert expected.pop("model") == str(tiny_model)
    assert metadata == expected
    assert unfinished() == set()
