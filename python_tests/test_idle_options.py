"""Options that would do nothing are refused before anything is read."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from egl_fast.cli.main import COMMANDS, cli

#: The required arguments of each command; none of the files exists.
NEEDED = {
    "train": ["--train", "t", "--valid", "v", "--run-dir", "r"],
    "evaluate": ["--model", "m", "--data", "d"],
    "transcribe": ["--model", "m", "--data", "d"],
    "score": ["--model", "m", "--pool", "p"],
    "select": ["s", "--budget", "1"],
    "query": ["--model", "m", "--pool", "p", "--out", "o", "--budget", "1"],
    "labels": ["p", "e", "--out", "o"],
    "report": ["--scores", "s"],
    "manifest": ["s"],
    "simulate": ["--config", "c", "--run-dir", "r"],
}
OTHERS = {
    ("report", "--pool", "--scores"): ["r"],
    ("report", "--format", "--scores"): ["r"],
    ("query", "--share", "--batch"): [*NEEDED["query"], "--typicality", "t"],
}
#: Of options that refuse "3".
VALUES = {"--tolerance": "0.01", "--dropout": "0.01", "--shard": "1/3", "--device": "cpu"}


def command_of(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def given(command: click.Command, option: str) -> list[str]:
    parameter = next(p for p in command.params if option in p.opts)
    if getattr(parameter, "is_flag", False):
        return [option]
    kind = parameter.type
    value = kind.choices[-1] if isinstance(kind, click.Choice) else "3"
    # A default value counts as given too.
    return [option, VALUES.get(option, str(value))]


def pairs() -> Iterator[tuple[str, str, str, bool]]:
    for name in COMMANDS:
        rules = getattr(command_of(name).callback, "rules", None)
        if rules is not None:
            for option, needed in rules.without.items():
                yield name, option, needed, False
            for option, other in rules.beside.items():
                yield name, option, other, True


@pytest.mark.parametrize(("name", "option", "condition", "beside"), list(pairs()))
def test_an_option_that_does_nothing_is_refused(
    name: str, option: str, condition: str, beside: bool
) -> None:
    command = command_of(name)
    arguments = OTHERS.get((name, option, condition), NEEDED[name])
    there = condition.split(" ") if " " in condition else given(command, condition)

    def refusal(*more: str) -> str:
        result = CliRunner().invoke(cli, [name, *arguments, *more])
        assert result.exit_code != 0
        return result.output if isinstance(result.exception, SystemExit) else str(result.exception)

    idle = f"{option} does nothing {'beside' if beside else 'without'} {condition}"
    acting = [*given(command, option), *there]
    assert idle in refusal(*(acting if beside else given(command, option)))
    # Where the option does act, the complaint is that no file exists.
    assert "does nothing" not in refusal(*(given(command, option) if beside else acting))


def test_known_pairs_are_among_them() -> None:
    known = {(name, option) for name, option, _, _ in pairs()}
    assert known >= {
        *(
            ("score", x)
            for x in ("--tolerance", "--probes", "--full-samples", "--resume", "--json")
        ),
        *(("train", x) for x in ("--preset", "--cell", "--dropout", "--vocabulary")),
        *((name, "--overwrite") for name in ("score", "select", "transcribe", "evaluate")),
        ("select", "--seed"),
        ("report", "--audio"),
    }


@pytest.mark.parametrize("name", ["evaluate", "transcribe", "score", "select"])
def test_overwrite_without_a_file_is_refused(name: str) -> None:
    result = CliRunner().invoke(cli, [name, *NEEDED[name], "--out", "-", "--overwrite"])
    assert "--overwrite does nothing without --out" in result.output
