"""``--help`` in groups."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from egl_fast.cli.help_groups import FEWEST, GROUPS, GroupedCommand
from egl_fast.cli.main import COMMANDS, cli


def options_of(command: click.Command) -> set[str]:
    return {
        next((name for name in param.opts if name.startswith("--")), param.opts[0])
        for param in command.get_params(click.Context(command))
        if isinstance(param, click.Option)
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_long_helps_are_in_groups_that_hold_every_option(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = options_of(command)
    if len(options) < FEWEST:
        return
    assert isinstance(command, GroupedCommand)
    grouped = {option for names in GROUPS.values() for option in names.split()}
    assert options <= grouped
    text = CliRunner().invoke(cli, [name, "--help"]).output
    assert "\nInput and output:\n" in text
    assert "\nOther:\n" in text
    assert all(f"  {option}" in text or f", {option}" in text for option in options)


def test_groups_name_only_options_that_there_are_and_each_once() -> None:
    grouped = [option for names in GROUPS.values() for option in names.split()]
    assert len(set(grouped)) == len(grouped)
    commands = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    known = {option for one in commands if one is not None for option in options_of(one)}
    assert set(grouped) <= known
