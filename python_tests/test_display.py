"""No control character of a manifest reaches the terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import in_this_process, lines_of
from conftest import Run
from recordings import write_manifest, write_recordings
from rich.console import Console

from egl_fast.cli import console
from egl_fast.data.jsonl import encoded_line
from egl_fast.data.strict_json import json_value
from egl_fast.display import json_text, printable
from egl_fast.records import STRATEGIES
from egl_fast.warning import warn

#: ESC and BEL (a window's title), CSI in one character, DEL, an override of direction, line ends of
#: all sorts, a byte order mark, half of a surrogate pair, a NUL.
HOSTILE = "\x1b]0;owned\x07 \x9b31m \x7f \u202e \r\n \x85 \u2028 \ufeff \ud800 \0 [red]"
#: The soft hyphen and zero-width (non-)joiners belong to scripts and move nothing.
ALLOWED = {"\n", "\xad", "\u200c", "\u200d"}
_CONTROLS = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def assert_harmless(*outputs: str) -> None:
    for output in outputs:
        categories = {c: unicodedata.category(c) for c in set(output) - ALLOWED}
        assert [ascii(c) for c, kind in categories.items() if kind in _CONTROLS] == []


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Like conftest's, but with the bytes that reach the terminal, C code's included."""

    def call(*arguments: object) -> tuple[int, str, str]:
        status = in_this_process(*arguments)
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return call


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Three recordings: one readable, one missing, one too short for its text."""
    lines = lines_of(
        write_recordings(tmp_path, ["ab", "no", "ab" * 40], [0.5, 0.5, 0.3]).read_text()
    )
    lines[1]["audio_filepath"] = f"{HOSTILE}.wav"
    lines = [
        {**line, "id": f"{n}{HOSTILE}", HOSTILE: HOSTILE, "duration": 9.0, "pred_text": HOSTILE}
        for n, line in enumerate(lines)
    ]
    return write_manifest(tmp_path / "hostile.jsonl", lines)


def commands(model: Path, hostile: Path) -> Iterator[tuple[list[object], int]]:
    folder = hostile.parent
    data = ["--model", model, "--data", hostile]
    scores = folder / "scores.jsonl"
    lines = lines_of(hostile.read_text())
    numbers = {**dict.fromkeys(STRATEGIES, 1.0), "beam_mass": 0.1}
    write_manifest(scores, [{**line, **numbers} for line in lines])
    write_manifest(folder / "twice.jsonl", [lines[0], lines[0]])
    write_manifest(folder / "unknown.jsonl", [{**lines[0], "text": HOSTILE}])
    write_manifest(folder / "wrong.jsonl", [{**lines[0], "duration": HOSTILE}])
    (folder / "key.jsonl").write_text(json.dumps(lines[0]).replace('"id"', '"audio_filepath"'))
    fine = write_manifest(folder / "fine.jsonl", lines[:1])
    run_dir = folder / "run"
    training = ["--valid", fine, "--preset", "tiny", "--cell", "rnn_tanh", "--max-epochs", 1]
    yield ["transcribe", *data], 3
    yield ["transcribe", *data, "--out", folder / "t.jsonl"], 3
    yield ["evaluate", *data, "--by", HOSTILE], 3
    yield ["evaluate", *data, "--by", HOSTILE, "--json"], 3
    yield ["evaluate", *data, "--by", "\x1b[2Jnone"], 2
    yield ["score", "--model", model, "--pool", hostile, "--k", 2], 3
    yield ["score", "--model", model, "--pool", hostile, "--k", 2, "--out", folder / "s.jsonl"], 3
    yield ["select", scores, "--budget", 2, "--table"], 0
    yield ["select", scores, "--budget", 2], 0
    (folder / "elsewhere").mkdir()
    yield ["select", scores, "--budget", 3, "--out", folder / "elsewhere" / "x.jsonl"], 0
    yield ["select", scores, "--budget", "\x1b[31m9"], 2
    yield ["select", scores, "--budget", 1, "--strategy", "\x9b31m"], 2
    yield ["select", scores, "--budget", 1, "--out", folder / "\x1b[31mno" / "x.jsonl"], 2
    yield ["train", "--train", hostile, *training, "--run-dir", run_dir], 3
    for name in ("twice", "unknown", "wrong", "key"):
        path = folder / f"{name}.jsonl"
        yield ["train", "--train", path, *training, "--run-dir", folder / "none"], 2
    yield ["score", "--model", model, "--pool", folder / "\x1b[31mnone"], 2
    yield ["score", "--model", folder / "\x1b[31mnone", "--pool", fine], 2
    yield ["score", "--model", model, "--pool", fine, "--\x1b[31mfrobnicate"], 2
    yield ["\x1b[31mfrobnicate"], 2
    yield ["report", "--scores", folder / "\x9b31mnone"], 2
    yield ["simulate", "--config", folder / "\x9b31mnone", "--run-dir", run_dir], 2
    yield ["check", "--model", model, "--pool", folder / "\x9b31mnone"], 2
    yield ["bench", "--model", model, "--pool", folder / "\x9b31mnone"], 2


def test_whatever_is_printed_is_harmless(run: Run, tiny_model: Path, hostile: Path) -> None:
    for arguments, expected in commands(tiny_model, hostile):
        status, out, err = run(*arguments)
        assert status == expected, (arguments, err)
        assert "Traceback" not in err
        assert_harmless(out, err)
        if expected == 2:
            assert err.count("\n") == 1, err
    # And what was written means what the manifest said.
    errors = lines_of((hostile.parent / "t.jsonl.errors.jsonl").read_text())
    assert [entry["id"] for entry in errors] == [f"1{HOSTILE}"]
    kept = lines_of((hostile.parent / "s.jsonl").read_text())
    assert [line[HOSTILE] for line in kept] == [HOSTILE] * 2
    assert_harmless((hostile.parent / "s.jsonl").read_text())


def test_progress_notes_and_warnings_are_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Console(file=sys.stderr, force_terminal=True, width=200, highlight=False)
    monkeypatch.setattr(console, "stderr", watched)
    monkeypatch.setattr(watched, "file", console.notes)
    with console.progress_bar() as bar:
        task = bar.add_task("x", total=3, note="")
        bar.update(task, description=HOSTILE, note=HOSTILE, completed=1)
        bar.refresh()
    drawn = capsys.readouterr().err
    assert "\x9b" not in drawn
    assert "\x1b]" not in drawn
    assert "\\x1b]0;owned" in drawn
    assert "[red]" in drawn, "no markup"
    for tell in (console.say, console.warn, console.complain, console.tell):
        tell(HOSTILE)
    console.print_warnings()
    warn(HOSTILE)
    console.tell_json({HOSTILE: HOSTILE})
    found = capsys.readouterr()
    assert_harmless(found.out, found.err)
    assert len(found.out.splitlines()) == 2
    assert len(found.err.splitlines()) == 4


def test_a_log_of_progress_is_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LOG_INTERVAL_SECONDS", -1.0)
    with console.LoggedProgress() as bar:
        bar.update(bar.add_task("x", total=3, note=""), description=HOSTILE, note=HOSTILE)
    assert_harmless(capsys.readouterr().err)


@pytest.mark.parametrize(
    "text", ["größe 日本", "न\u200cम", "👩\u200d🔬", "a\u00a0b", "\\x1b", "[red]x[/red]"]
)
def test_what_is_no_control_character_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert json_text(text) == json.dumps(text, ensure_ascii=False)


def test_escaped_json_means_the_same() -> None:
    every = "".join(map(chr, (*range(0x300), *range(0x2000, 0x2100), 0xFEFF, 0xD800, 0xE0041)))
    value: Any = {every: [every, {"x": every}]}
    line = encoded_line(value)
    assert json_value(line) == value
    assert_harmless(line.decode())
    assert json_value(json_text(value, indent=2)) == value
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))
