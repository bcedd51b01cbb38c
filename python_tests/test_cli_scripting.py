"""Commands in scripts: pipes, --quiet, --json, completion of command lines."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import bash
from recordings import write_recordings

from egl_fast.cli.console import progress_bar, stderr
from egl_fast.cli.interruption import as_keyboard_interrupt, interruption_after
from egl_fast.cli.main import COMMANDS, cli


def bash_alone(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same, but each command runs in its own interpreter, shutdown included."""
    function = f'egl-fast() {{ "{sys.executable}" -W error -m egl_fast "$@"; }}\n'
    return bash(function + script, folder)


def test_scores_flow_into_select_and_jq(tiny_model: Path, tmp_path: Path) -> None:
    write_recordings(tmp_path, ["ab", "no", "ab"], [0.5, 0.6, 0.4])
    jq = shutil.which("jq")
    last = "jq --raw-output .id" if jq else "cat"
    result = bash(
        f"egl-fast score --model {tiny_model} --pool all.jsonl --k 2 --quiet"
        f" | egl-fast select - --budget 2 --strategy entropy --quiet | {last}",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    names = lines if jq else [json.loads(line)["id"] for line in lines]
    assert set(names) < {"rec0.wav", "rec1.wav", "rec2.wav"}
    # Quiet except for warnings: a model with random weights puts little mass on the beam.
    assert all(line.startswith("warning: ") for line in result.stderr.splitlines())


def test_json_prints_metadata_on_standard_output(tiny_model: Path, tmp_path: Path) -> None:
    write_recordings(tmp_path, ["ab"], [0.5])
    command = f"egl-fast score --model {tiny_model} --pool all.jsonl --k 2 --out s.jsonl"
    result = bash(f"{command} --json && {command} --json --resume", tmp_path)
    assert result.returncode == 0, result.stderr
    first, again = [json.loads(line) for line in result.stdout.splitlines()]
    assert first["num_scored"] == 1
    assert first == again == json.loads((tmp_path / "s.jsonl.meta.json").read_text())
    assert "s.jsonl: already complete" in result.stderr


@pytest.mark.parametrize("command", ["--version", "score --json --out s.jsonl", "score"])
def test_what_standard_output_does_not_take_is_one_line(
    tiny_model: Path, tmp_path: Path, command: str
) -> None:
    write_recordings(tmp_path, ["ab"], [0.5])
    if "score" in command:
        command += f" --model {tiny_model} --pool all.jsonl --k 2 --quiet"
    result = bash_alone(f"egl-fast {command} > /dev/full", tmp_path)
    assert result.returncode == 2, result.stderr
    *warnings, line = result.stderr.splitlines()
    assert "standard output" in line
    assert "No space left" in line
    assert all(warning.startswith("warning: ") for warning in warnings)


def test_a_manifest_from_a_pipe_is_told_from_another(tiny_model: Path, tmp_path: Path) -> None:
    pool = write_recordings(tmp_path, ["ab", "no"], [0.5, 0.6])
    pool.write_text(pool.read_text().replace('"rec', f'"{tmp_path}/rec'))
    command = f"egl-fast score --model {tiny_model} --k 2 --out s.jsonl --resume --quiet"
    piped = [f"{command} --pool <({how} {pool})" for how in ("cat", "cat", "tac")]
    same = bash(" && ".join(piped[:2]), tmp_path)
    assert same.returncode == 0, same.stderr
    other = bash(piped[2], tmp_path)
    assert other.returncode == 2
    assert "was started with another manifest" in other.stderr.splitlines()[-1]


def test_closed_standard_input_holds_nothing(tmp_path: Path) -> None:
    result = bash_alone("egl-fast select - --budget 1 <&-", tmp_path)
    assert result.returncode == 2
    assert "contains no records" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """Signals as for a command in the foreground; where the tests run, they may be ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard_signals")
def test_a_second_signal_does_not_interrupt_cleanup() -> None:
    left = False
    with as_keyboard_interrupt():
        with pytest.raises(KeyboardInterrupt), interruption_after("a step") as stop:
            try:
                signal.raise_signal(signal.SIGTERM)
                assert stop.is_set()
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                left = True
        signal.raise_signal(signal.SIGHUP)
    assert left


def test_closed_standard_output_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    write_recordings(tmp_path, ["ab"], [0.5])
    result = bash_alone(f"egl-fast score --model {tiny_model} --pool all.jsonl >&-", tmp_path)
    assert result.returncode == 2
    assert result.stderr == "egl-fast: standard output is closed; give a file with --out\n"


@pytest.mark.parametrize("lost", ["2> /dev/full", "2>&-", "<&- >&- 2>&-", "2> >(true)"])
def test_a_run_outlives_standard_error(tiny_model: Path, tmp_path: Path, lost: str) -> None:
    write_recordings(tmp_path, ["ab", "no"], [0.5, 0.6])
    command = f"score --model {tiny_model} --pool all.jsonl --k 2 --out s.jsonl {lost}"
    result = bash_alone(f"egl-fast {command}", tmp_path)
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 2


def test_quiet_ends_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    command = cli.get_command(cli.make_context("egl-fast", ["select"]), "select")
    assert command is not None
    with command.make_context("select", ["x", "--budget", "1", "--quiet"]):
        assert stderr.quiet
        assert progress_bar().disable
    with command.make_context("select", ["x", "--budget", "1"]):
        assert not stderr.quiet


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name not in ("doctor", "completion")]
)
def test_every_command_that_works_for_long_can_be_quiet(name: str) -> None:
    command = cli.get_command(cli.make_context("egl-fast", [name, "--help"]), name)
    assert command is not None
    assert any("--quiet" in parameter.opts for parameter in command.params)
