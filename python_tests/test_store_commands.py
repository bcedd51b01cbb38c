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
from recordings import write_manifest

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
    far, near = (
        lines_of(content("scores.jsonl.errors.jsonl").decode()),
        lines_of(Path(f"{local}.errors.jsonl").read_text()),
    )
    assert [one["id"] for one in far] == [one["id"] for one in near] == ["rec1.wav"]
    metadata = without_circumstances(content("scores.jsonl.meta.json"))
    assert metadata.pop("model") == "faulty://***@b/tiny.pt?***"
    expected = without_circumstances(Path(f"{local}.meta.json").read_bytes())
    assert expected.pop("model") == str(tiny_model)
    assert metadata == expected
    assert unfinished() == set()


def test_scores_with_typicality_are_resumed_chosen_from_and_shown(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Files beside scores travel with them, and paths lead to where recordings are."""
    pytest.importorskip("sklearn")
    pytest.importorskip("pyarrow")
    out, local = at("s.parquet"), tmp_path / "s.parquet"
    score = ("score", "--model", tiny_model, "--method", "none", "--k", 3)
    lines = [{"audio_filepath": f"rec{n % 4}.wav", "id": f"{n}"} for n in range(8)]
    trusted = write_manifest(tmp_path / "trusted.jsonl", lines)
    store().pipe_file("b/trusted.jsonl", trusted.read_bytes())
    far_ones = ("--pool", at("all.jsonl"), "--typicality", at("trusted.jsonl"), "--out", out)
    near_ones = ("--pool", recordings, "--typicality", trusted, "--out", local)
    for ones in (far_ones, near_ones):
        status, _, err = run(*score, *ones)
        assert status == 0, err
    for suffix in ("", ".embeddings.npy"):
        assert content(f"s.parquet{suffix}") == Path(f"{local}{suffix}").read_bytes()
    # Complete scores are found complete, on any machine.
    store.calls.clear()
    status, _, err = run(*score, *far_ones, "--resume")
    assert (status, err) == (0, "faulty://***@b/s.parquet?***: already complete\n")
    assert not any(name == "put" for name, _ in store.calls)
    status, _, err = run(*score, *far_ones)
    assert status == 2
    assert "output faulty://***@b/s.parquet?***: already exists; give --overwrite" in err
    # From the store to the disk, and within the store.
    picks = tmp_path / "picks.jsonl"
    assert run("select", out, "--budget", 2, "--drop-atypical", "25%", "--out", picks)[0] == 0
    assert all(
        one["audio_filepath"].startswith("faulty://***@b/rec")
        for one in lines_of(picks.read_text())
    )
    arguments = ("--budget", 2, "--drop-atypical", "25%", "--out", at("picks/p.jsonl"))
    assert run("select", out, *arguments)[0] == 0
    assert "picks/p.jsonl.atypical.jsonl" in names()
    near = tmp_path / "near.jsonl"
    assert run("select", local, *arguments[:-1], near)[0] == 0
    far = lines_of(content("picks/p.jsonl").decode())
    assert [one["id"] for one in far] == [one["id"] for one in lines_of(near.read_text())]
    assert (
        json.loads(content("picks/p.jsonl.meta.json"))["scores"] == "faulty://***@b/s.parquet?***"
    )
    # They are in another folder, so relative paths would not start from there.
    assert {one["audio_filepath"] for one in far} <= {
        f"faulty://***@b/rec{n}.wav?***" for n in range(4)
    }
    assert (
        run("select", out, "--budget", 1, "--exclude", at("picks/p.jsonl"), "--out", at("q.jsonl"))[
            0
        ]
        == 0
    )
    (rest,) = lines_of(content("q.jsonl").decode())
    assert rest["id"] not in {one["id"] for one in far}
    assert rest["audio_filepath"] == rest["id"]  # relative, as in the manifest beside it
    assert unfinished() == set()


def test_what_fails_or_is_refused_leaves_what_was_there(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path
) -> None:
    score = ("score", "--model", tiny_model, "--method", "none", "--k", 3, "--pool", recordings)
    out = at("s.jsonl")
    store().pipe_file("b/s.jsonl", b"old")
    store().pipe_file("b/s.jsonl.embeddings.npy", b"old")
    assert run(*score, "--out", out)[0] == 2
    store.fault = failing("put", error=ConnectionError("reset by pass-3a"), of=".partial")
    status, _, err = run(*score, "--out", out, "--overwrite")
    assert status == 2
    assert err.splitlines()[-1] == (
        "egl-fast: output faulty://***@b/s.jsonl?***: cannot be written (reset by ***); "
        "--resume continues from what is finished"
    )
    assert content("s.jsonl") == b"old"
    assert "s.jsonl" in unfinished()
    # The same command with --resume puts there what is complete, and computes nothing.
    store.fault = failing("put", error=ConnectionError("reset"), times=2)
    assert run(*score, "--out", out)[0] == 2
    status, _, err = run(*score, "--out", out, "--resume")
    assert status == 0, err
    assert len(lines_of(content("s.jsonl").decode())) == 4
    assert "s.jsonl.embeddings.npy" not in names()
    assert unfinished() == set()
    assert not any(name.endswith(".partial") for name in names())


def test_an_interrupted_run_is_continued_from_this_machine(
    run: Run, store: type[FaultyStore], recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    score = (
        "score",
        "--model",
        tiny_model,
        "--method",
        "none",
        "--k",
        3,
        "--pool",
        at("all.jsonl"),
    )
    assert run(*score, "--out", tmp_path / "local.jsonl")[0] == 0

    def interrupt(name: str, path: str, count: int) -> None:
        if name == "read" and path.endswith("rec3.wav"):
            os.kill(os.getpid(), 2)

    store.fault = staticmethod(interrupt)
    status, _, err = run(*score, "--out", at("s.jsonl"))
    store.fault = staticmethod(lambda *_: None)
    assert status == 130, err
    assert not any(name.startswith("s.jsonl") for name in names())
    assert "s.jsonl.journal" in unfinished()
    status, _, err = run(*score, "--out", at("s.jsonl"))
    assert status == 2
    assert "faulty://***@b/s.jsonl?***: an earlier run was stopped" in err
    assert run(*score, "--out", at("s.jsonl"), "--resume")[0] == 0
    assert content("s.jsonl") == (tmp_path / "local.jsonl").read_bytes()
    assert unfinished() == set()
