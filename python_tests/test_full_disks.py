"""Disks that are full or may not be written to: one line, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import contents, egl_fast, refused
from places import Place


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
