"""Disks that are full or may not be written to: one line, and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import contents, egl_fast, in_this_process, refused
from conftest import Run
from places import Place
from recorded_disk import RecordedDisk, no_syncing
from recordings import write_manifest, write_recordings

from egl_fast.cli.report import GENERATOR


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system mounted at a folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, *, but_for: int) -> Path:
    """Fill a disk so that this many bytes are free; the file that does."""
    path = disk / "filling"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    path.write_bytes(bytes(free - but_for))
    return path


@pytest.mark.parametrize("command", ["score", "select", "transcribe"])
def test_a_read_only_folder_is_named(place: Place, command: str) -> None:
    with mounted(place.folder / "disk", "size=64k") as disk:
        (disk / "out.jsonl").write_text("precious")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        arguments: dict[str, list[object]] = {
            "score": place.score(out="disk/out.jsonl"),
            "select": place.select("1", out="disk/out.jsonl"),
            "transcribe": place.transcribe(out="disk/out.jsonl"),
        }
        line = refused(*arguments[command], cwd=place.folder)
        assert "output disk/out.jsonl: its folder disk is not writable" in line
        assert "name another" in line
        assert contents(disk) == {"out.jsonl": b"precious"}


@pytest.mark.parametrize("free", [0, 12 * 1024])
def test_scores_on_a_full_disk_can_be_resumed(
    place: Place, undisturbed_scores: dict[str, bytes], free: int
) -> None:
    with mounted(place.folder / "disk", "size=64k") as disk:
        (disk / "out.jsonl").write_text("precious")
        filling = fill(disk, but_for=free)
        arguments = place.score("--k", 3, out="disk/out.jsonl")
        line = refused(*arguments, cwd=place.folder)
        assert "output disk/out.jsonl" in line
        assert "No space left on device" in line
        assert "make room" in line
        assert (disk / "out.jsonl").read_text() == "precious"
        assert (disk / "out.jsonl.journal").exists() == (free > 0)
        assert not (disk / "out.jsonl.lock").exists()
        filling.unlink()
        if free:
            assert "--resume" in line
            arguments = ["--resume" if x == "--overwrite" else x for x in arguments]
        result = egl_fast(*arguments, cwd=place.folder)
        assert result.returncode == 0, result.stderr
        assert set(contents(disk)) == {"out.jsonl", "out.jsonl.meta.json"}
        assert (disk / "out.jsonl").read_bytes() == undisturbed_scores["out.jsonl"]


@pytest.mark.parametrize("command", ["select", "transcribe"])
def test_a_full_disk_keeps_the_old_output(place: Place, command: str) -> None:
    with mounted(place.folder / "disk", "size=64k") as disk:
        (disk / "out.jsonl").write_text("precious")
        fill(disk, but_for=0)
        out = "disk/out.jsonl"
        make = {"select": place.select("1", out=out), "transcribe": place.transcribe(out=out)}
        line = refused(*make[command], cwd=place.folder)
        assert re.search(r"output disk/out\.jsonl(\.meta\.json)?: cannot be written", line)
        assert "No space left on device" in line
        assert "make room" in line
        assert (disk / "out.jsonl").read_text() == "precious"


def test_a_model_that_does_not_fit_on_the_disk_leaves_no_file(place: Place) -> None:
    with mounted(place.folder / "disk", "size=64k") as disk:
        result = egl_fast(
            *("train", "--train", place.pool, "--valid", place.pool, "--run-dir", "disk/run"),
            *("--preset", "tiny", "--max-epochs", 1, "--threads", 1),
            cwd=place.folder,
        )
        assert result.returncode == 2, result.stderr
        assert "Traceback" not in result.stderr
        line = result.stderr.splitlines()[-1]
        assert "output disk/run/model.pt: cannot be written" in line
        assert "No space left on device" in line
        assert not list(disk.rglob("*.pt"))


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every command reads: recordings, scores, shards, picks, answers."""
    folder = tmp_path_factory.mktemp("inputs")
    pool = write_recordings(folder, ["ab", "no", "ab"], [0.5, 0.4, 0.6])
    pool.rename(folder / "pool.jsonl")
    lines = [json.loads(line) for line in (folder / "pool.jsonl").read_text().splitlines()]
    write_manifest(folder / "partly.jsonl", [*lines, {"audio_filepath": "gone.wav", "text": "a"}])
    (folder / "model.pt").symlink_to(tiny_model)
    score = ("score", "--model", tiny_model, "--pool", folder / "partly.jsonl", "--k", 2)
    for out, more in (("scores.jsonl", ()), ("shard.jsonl", ("--shard", "1/1"))):
        assert in_this_process(*score, "--out", folder / out, "--threads", 1, *more) == 3
    answers = [{**line, "text": "so be it"} for line in lines]
    write_manifest(folder / "answers.jsonl", answers)
    return folder


#: Command -> its arguments but for --out: what reads files of ``inputs`` and writes in one go.
WRITING = {
    "select": ("select", "scores.jsonl", "--budget", "2", "--overwrite"),
    "select as a table": ("select", "scores.jsonl", "--budget", "2", "--overwrite", "--format",
                          "csv"),
    "manifest": ("manifest", "partly.jsonl", "--overwrite"),
    "labels": ("labels", "pool.jsonl", "answers.jsonl", "--overwrite"),
    "report": ("report", "--scores", "scores.jsonl", "--overwrite"),
    "merge": ("merge", "shard.jsonl", "--overwrite"),
    "transcribe": ("transcribe", "--model", "model.pt", "--data", "partly.jsonl", "--overwrite",
                   "--threads", "1"),
    "evaluate": ("evaluate", "--model", "model.pt", "--data", "partly.jsonl", "--overwrite",
                 "--threads", "1"),
    "query": ("query", "--model", "model.pt", "--pool", "partly.jsonl", "--budget", "1", "--k", "2",
              "--overwrite", "--threads", "1"),
}  # fmt: skip
#: How many steps lie between those that fail, for commands that take longer.
EVERY = {"query": 23, "evaluate": 5, "transcribe": 5, "report": 9}


def left(disk: Path) -> dict[str, bytes]:
    """What a reader may take for results."""
    temporary = (".partial", ".lock", ".journal")
    return {
        name: content
        for name, content in contents(disk).items()
        if not name.endswith(temporary) and ".query/" not in name
    }


def timeless(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: re.sub(rb'"wall_seconds": [\d.e-]+', b"", files[name]) for name in files}


@pytest.mark.parametrize("command", WRITING)
def test_whatever_step_fails_or_is_the_last_no_output_is_half_there(
    inputs: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(inputs)
    name = {"report": "out.html", "select as a table": "out.csv"}.get(command, "out.jsonl")
    old = {name: GENERATOR if command == "report" else b"precious"}

    def disk(number: int, **failing: int) -> tuple[RecordedDisk, list[object]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(old[name])
        return RecordedDisk(folder, **failing), [*WRITING[command], "--out", folder / name]

    whole, arguments = disk(0)
    with whole.recording():
        status, _, err = run(*arguments)
    assert status in (0, 3), err
    new = timeless(left(tmp_path / "0"))
    assert new.get(name) not in (None, old[name])

    def check(found: dict[str, bytes]) -> None:
        for path, content in timeless(found).items():
            assert content in (old.get(path), new.get(path)), path

    for tree in whole.states("killed"):
        check({path: content for path, content in tree if content is not None and path in new})
    for step in range(1, whole.steps + 1, EVERY.get(command, 1)):
        failing, arguments = disk(step, fail_from=step, error=(errno.ENOSPC, errno.EIO)[step % 2])
        with failing.recording():
            status, _, err = run(*arguments)
        check(left(tmp_path / str(step)))
        assert "Traceback" not in err
        if status not in (0, 3):
            assert status == 2
            assert str(tmp_path) in err.splitlines()[-1]
            assert "cannot be " in err.splitlines()[-1]
    with no_syncing():
        assert run(*arguments)[0] in (0, 3)
    assert timeless(left(tmp_path / str(step))) == new


@pytest.mark.parametrize(
    "arguments",
    [
        ("select", "-", "--budget", "1"),
        ("score", "--model", "model.pt", "--pool", "pool.jsonl", "--pool", "partly.jsonl"),
        ("manifest", "-"),
    ],
)
def test_a_full_temporary_folder_is_named(
    inputs: Path, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(inputs)
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    standard_input = io.TextIOWrapper(io.BytesIO((inputs / "scores.jsonl").read_bytes()))
    monkeypatch.setattr("sys.stdin", standard_input)
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "cannot be copied to a temporary file ([Errno 28] No space left on device); set" in err


def test_a_manifest_that_stops_being_readable_is_named(
    inputs: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("egl_fast.data.streamed_manifest.os.pread", broken)
    out = inputs / "eio.jsonl"
    given = ("--model", inputs / "model.pt", "--pool", inputs / "pool.jsonl", "--out", out)
    status, _, err = run("score", *given, "--threads", 1)
    assert status == 2
    assert "pool.jsonl: cannot be read ([Errno 5] Input/output error)" in err
    assert not out.exists()
