"""Bad input: one clear line with the remedy and exit status 2, or an entry in the errors file.

Every test runs the real command. Nothing is lost or overwritten: wherever a command could replace
a file, there is one, which must keep its bytes.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from commands import contents, egl_fast, lines_of, refused
from places import FINE, Place
from recordings import SAMPLE_RATE_HZ, random_checkpoint, waveform
from torch_archives import Attack

from egl_fast.checkpoint import checkpoint_content, save_checkpoint


def truncated(place: Place) -> Path:
    path = place.folder / "model.pt"
    path.write_bytes(place.model.read_bytes()[:-1000])
    return path


def copied_model(place: Place) -> Path:
    path = place.folder / "model.pt"
    path.write_bytes(place.model.read_bytes())
    return path


def pickled(place: Place) -> Path:
    path = place.folder / "model.pt"
    path.write_bytes(pickle.dumps(Attack(place.folder / "attacked")))
    return path


def archive(place: Place) -> Path:
    path = place.folder / "model.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "no model")
    return path


def of_version_2(place: Place) -> dict[str, Any]:
    return {**checkpoint_content(random_checkpoint()), "format_version": 2}


def attacking(place: Place) -> dict[str, Any]:
    return {
        **checkpoint_content(random_checkpoint()),
        "training": {"x": Attack(place.folder / "attacked")},
    }


#: What is wrong -> the command, what its line must name, and the remedy in it.
REFUSED: dict[str, tuple[Callable[[Place], list[object]], str, str]] = {
    "a missing manifest": (
        lambda p: p.score(pool="none.jsonl"),
        "manifest none.jsonl: no such file", "give"),
    "an empty manifest": (
        lambda p: p.score(pool=p.manifest()),
        "manifest.jsonl: contains no utterances", "one JSON object per line"),
    "a line that is not JSON": (
        lambda p: p.score(pool=p.manifest(FINE, '{"audio_filepath": ')),
        "manifest.jsonl, line 2: not JSON", "one JSON object per line"),
    "a line without audio_filepath": (
        lambda p: p.score(pool=p.manifest(FINE, {"audio": "rec1.wav"})),
        "manifest.jsonl, line 2: needs 'audio_filepath'", "a path as a string"),
    "an id that is repeated": (
        lambda p: p.score(pool=p.manifest(FINE, "", FINE)),
        "line 3: id 'rec0.wav' is already that of line 1", "give each its own id"),
    "a missing checkpoint": (
        lambda p: p.score(model="none.pt"),
        "model none.pt: no such file", "`egl-fast train`"),
    "a checkpoint of another format version": (
        lambda p: p.score(model=p.checkpoint(of_version_2(p))),
        "model.pt: has format version 2, but this egl-fast reads version 1", "that wrote it"),
    "a truncated checkpoint": (
        lambda p: p.score(model=truncated(p)),
        "model.pt: is not an egl-fast checkpoint, or is cut short", "copy it again"),
    "a pickle with code": (
        lambda p: p.score(model=pickled(p)),
        "model.pt: is not an egl-fast checkpoint", "`egl-fast train`"),
    "a checkpoint with code": (
        lambda p: p.score(model=p.checkpoint(attacking(p))),
        "model.pt: is not an egl-fast checkpoint", "`egl-fast train`"),
    "a zip that is no checkpoint": (
        lambda p: p.score(model=archive(p)),
        "model.pt: is not an egl-fast checkpoint", "`egl-fast train`"),
    "characters outside the vocabulary": (
        lambda p: p.train("größe"),
        "utterance 'other' (line 2): text 'größe': character 'ö'", "vocabulary"),
    "a text that is empty on every line": (
        lambda p: p.train("", first=""), "manifest.jsonl: every 'text' is empty", "add what"),
    "--k 0": (lambda p: p.score("--k", 0), "'--k'", "1<=x"),
    "a budget of 0": (lambda p: p.select("0"), "budget 0: must be above zero", "give"),
    "a budget of 0%": (lambda p: p.select("0%"), "budget 0%: must be above zero", "give"),
    "a budget of 0 h": (lambda p: p.select("0h"), "budget 0h: must be above zero", "give"),
    "a budget over 100%": (lambda p: p.select("101%"), "budget 101%", "give at most 100%"),
    "a budget of more than the pool": (
        lambda p: p.select("4"), "budget 4: there are only 3 records", "give at most 3"),
    "an unknown strategy": (
        lambda p: p.select("1", strategy="best"), "strategy 'best': unknown", "take one of egl, "),
    "a strategy that the file does not hold": (
        lambda p: p.select("1", strategy="egl_full"),
        "this file holds no egl_full", "rank by what it holds: egl"),
    "scores in a folder that is missing": (
        lambda p: p.score(out="no/out.jsonl"),
        "output no/out.jsonl: its folder no does not exist", "create it"),
    "a selection in a folder that is missing": (
        lambda p: p.select("1", out="no/out.jsonl"),
        "output no/out.jsonl: its folder no does not exist", "create it"),
    "transcripts in a folder that is missing": (
        lambda p: p.transcribe(out="no/out.jsonl"),
        "output no/out.jsonl: its folder no does not exist", "create it"),
    "scores over the pool": (
        lambda p: p.score(out=p.pool),
        "all.jsonl: is a file that this command reads", "give another name"),
    "scores over the model": (
        lambda p: p.score(model=copied_model(p), out="model.pt"),
        "model.pt: is a file that this command reads", "give another name"),
    "metadata over the pool": (
        lambda p: p.score(pool=p.pool.rename(p.folder / "x.meta.json"), out="x"),
        "x.meta.json: is a file that this command reads", "give another name"),
    "transcripts over the manifest": (
        lambda p: p.transcribe(out=p.pool),
        "all.jsonl: is a file that this command reads", "give another name"),
    "an evaluation over the manifest": (
        lambda p: p._command("evaluate", {"model": p.model, "data": p.pool, "out": p.pool}),
        "all.jsonl: is a file that this command reads", "give another name"),
    "scores in a file without a name": (
        lambda p: p.score(out=""), "output .: is a folder", "name a file"),
    "a name that is too long": (
        lambda p: p.score(out="n" * 250), "its name is too long", "shorten it by 18"),
    "--batch-seconds inf": (
        lambda p: p.score("--batch-seconds", "inf"), "'--batch-seconds'", "not a finite number"),
    "--max-duration nan": (
        lambda p: p.score("--max-duration", "nan"), "'--max-duration'", "not a finite number"),
    "--learning-rate nan": (
        lambda p: [*p.train("ab"), "--learning-rate", "nan"],
        "'--learning-rate'", "not a finite number"),
    "--threads beyond all machines": (
        lambda p: p.score("--threads", 10**11), "'--threads'", "1<=x<=1024"),
    "--resume without --out": (
        lambda p: ["score", "--model", p.model, "--pool", p.pool, "--resume"],
        "--resume does nothing without --out", ""),
    "--resume with --overwrite": (
        lambda p: p.score("--resume"),
        "--resume continues a run, --overwrite starts over", "give only one"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line_with_the_remedy(place: Place, what: str) -> None:
    make, named, remedy = REFUSED[what]
    arguments = make(place)
    before = contents(place.folder)
    line = refused(*arguments, cwd=place.folder)
    assert named in line
    assert remedy in line.split(named, 1)[1]
    assert contents(place.folder) == before
    # Nothing else was created either: no run folder, and none by an attack.
    assert all(path.is_file() for path in place.folder.iterdir())


@pytest.mark.parametrize("command", ["score", "transcribe"])
def test_a_pipe_is_not_replaced_by_a_file(place: Place, command: str) -> None:
    os.mkfifo(place.folder / "pipe")
    line = refused(*getattr(place, command)(out="pipe"), cwd=place.folder)
    assert "output pipe: is a pipe or device, not a file; name a file" in line
    assert (place.folder / "pipe").is_fifo()


def write_cut(path: Path, share: float) -> None:
    """A recording without its end."""
    soundfile.write(path, waveform(2.0), SAMPLE_RATE_HZ)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def test_recordings_that_cannot_be_scored_cost_only_themselves(
    place: Place, undisturbed_scores: dict[str, bytes]
) -> None:
    folder = place.folder
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no audio at all, but long enough to be a header of some sort")
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "hanging.wav")
    for name in ("cut.wav", "cut.flac", "cut.mp3", "cut.ogg"):
        write_cut(folder / name, 0.9)
    soundfile.write(folder / "nan.wav", np.full(8000, np.nan, np.float32), 8000, "FLOAT")
    soundfile.write(folder / "short.wav", np.zeros(100, np.float32), SAMPLE_RATE_HZ)
    causes = {
        "missing.wav": "no such file",
        "empty.wav": "is empty",
        "text.wav": "is text, not audio",
        "folder.wav": "is a folder",
        "hanging.wav": "was not read within 2 s",
        "cut.wav": "is cut short",
        "cut.flac": "cannot be decoded",
        "cut.mp3": "is cut short",
        "cut.ogg": "is cut short",
        "nan.wav": "NaN",
        "short.wav": "too short",
        "rec0.wav@9": "offset 9 s is beyond the end (0.5 s)",
    }
    lines = lines_of(place.pool.read_text())
    bad = [{"audio_filepath": name.split("@")[0]} for name in causes]
    bad[-1]["offset"] = 9  # type: ignore[assignment]
    pool = place.manifest(*lines[:1], *bad, *lines[1:])
    result = egl_fast(*place.score("--k", 3, "--read-timeout", 2, pool=pool), cwd=folder)
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    assert "12 could not be scored: see out.jsonl.errors.jsonl" in result.stderr
    errors = lines_of((folder / "out.jsonl.errors.jsonl").read_text())
    assert [error["id"] for error in errors] == list(causes)
    for error, cause in zip(errors, causes.values(), strict=True):
        assert cause in error["error"]
        assert "\n" not in error["error"]
    assert (folder / "out.jsonl").read_bytes() == undisturbed_scores["out.jsonl"]


def test_logits_with_nan_name_the_utterance(place: Place) -> None:
    checkpoint = random_checkpoint()
    with torch.no_grad():
        # A model file holds no NaN, but one of these adds up to infinity.
        checkpoint.model.output.weight[3:5] = torch.tensor([[3e38], [-3e38]])
    save_checkpoint(place.folder / "nan.pt", checkpoint)
    result = egl_fast(*place.score("--k", 3, model="nan.pt"), cwd=place.folder)
    assert result.returncode == 3, result.stderr
    errors = lines_of((place.folder / "out.jsonl.errors.jsonl").read_text())
    assert [error["id"] for error in errors] == [f"rec{n}.wav" for n in range(4)]
    for error in errors:
        assert f"utterance '{error['id']}'" in error["error"]
        assert "NaN" in error["error"]
