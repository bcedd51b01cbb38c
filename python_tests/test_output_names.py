"""Names of outputs and of the files kept beside them: nothing else is lost or mistaken for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from recordings import random_checkpoint

from egl_fast.checkpoint import save_checkpoint
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.errors import OutputError
from egl_fast.files import atomic
from egl_fast.scoring.run.resumable_scores import ResumableScores


def write_lines(out: Path, *, overwrite: bool = False) -> None:
    """As `transcribe`, `evaluate` and `select` do."""
    with JsonlWriter(out, overwrite=overwrite) as writer:
        writer.write({"id": "a"})


def write_scores(out: Path, *, overwrite: bool = False) -> None:
    """As `score` does, with no recordings."""
    results = ResumableScores(str(out), overwrite=overwrite)
    with results.locked():
        assert results.begin({}, 0)
        results.finish({})


Write = Callable[..., None]
WRITERS = pytest.mark.parametrize("write", [write_lines, write_scores])


@WRITERS
@pytest.mark.parametrize("suffix", [".partial", ".journal", ".lock", ".errors.jsonl", ".meta.json"])
def test_no_output_has_a_name_that_belongs_to_another(
    tmp_path: Path, write: Write, suffix: str
) -> None:
    out = tmp_path / f"scores.jsonl{suffix}"
    with pytest.raises(OutputError, match=f"names ending in {suffix} are reserved .* give an"):
        write(out, overwrite=True)
    assert not list(tmp_path.iterdir())


@WRITERS
def test_the_longest_name_that_fits_is_taken(tmp_path: Path, write: Write) -> None:
    # At most 255 bytes, not characters, of which suffixes of files beside it take 23.
    out = tmp_path / ("é" * 116)
    write(out)
    assert out.exists()
    for name in ("é" * 116 + "a", "é" * 200):
        excess = len(name.encode()) - 232
        with pytest.raises(OutputError, match=f"too long for .* by {excess} bytes") as caught:
            write(tmp_path / name)
        assert "\n" not in str(caught.value)


@WRITERS
@pytest.mark.parametrize("name", ["-x.jsonl", "a\nb.jsonl", "not UTF-8", "\x1b[31mred.jsonl"])
def test_strange_names_are_taken(tmp_path: Path, write: Write, name: str) -> None:
    name = os.fsdecode(b"\xff.jsonl") if name == "not UTF-8" else name
    write(tmp_path / name)
    assert (tmp_path / name).is_file()
    assert {path.name for path in tmp_path.iterdir()} <= {name, f"{name}.meta.json"}


@WRITERS
@pytest.mark.parametrize("suffix", ["", ".partial", ".errors.jsonl.partial", ".journal.partial"])
@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_the_target_of_a_linked_output_stays(
    tmp_path: Path, write: Write, suffix: str, kind: str
) -> None:
    precious, link = tmp_path / "precious", tmp_path / f"out.jsonl{suffix}"
    precious.write_text("precious")
    if kind == "link":
        link.symlink_to(precious)
    else:
        link.hardlink_to(precious)
    write(tmp_path / "out.jsonl", overwrite=True)
    assert precious.read_text() == "precious"
    assert not (tmp_path / "out.jsonl").is_symlink()


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_the_target_of_a_linked_model_file_stays(tmp_path: Path, kind: str) -> None:
    precious, link = tmp_path / "precious", tmp_path / "model.pt.partial"
    precious.write_text("precious")
    if kind == "link":
        link.symlink_to(precious)
    else:
        link.hardlink_to(precious)
    save_checkpoint(tmp_path / "model.pt", random_checkpoint())
    assert precious.read_text() == "precious"


@WRITERS
def test_one_run_at_a_time_writes_an_output(tmp_path: Path, write: Write) -> None:
    out = tmp_path / "out.jsonl"
    with JsonlWriter(out) as writer:
        writer.write({"id": "first"})
        with pytest.raises(OutputError, match=r"another run is writing it \(process \d+ on "):
            write(out, overwrite=True)
    assert out.read_text() == '{"id": "first"}\n'
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_partial_file_that_is_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.partial").mkdir()
    with pytest.raises(OutputError, match=r"output .*out\.jsonl: cannot be written \("):
        write_lines(tmp_path / "out.jsonl")
    with pytest.raises(OutputError, match=r"output .*out\.jsonl: cannot be written \("):
        atomic.write_bytes(tmp_path / "out.jsonl", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.partial"]


def test_a_folder_removed_while_writing_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OutputError, match="its folder"), JsonlWriter(folder / "a") as writer:
        writer.write({"id": "a"})
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert not folder.exists()
