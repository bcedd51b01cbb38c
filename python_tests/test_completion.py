"""Completion of command lines in shells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, bash

from egl_fast.cli import completion


def completions(line: str) -> list[str]:
    """What a shell would offer to complete a line: kinds and values."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from egl_fast.cli.main import main\n"
            "try: main()\n"
            "finally: assert 'torch' not in sys.modules, 'a shell will not wait for torch'",
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            completion.VARIABLE: "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("egl-fast s", ["plain,score", "plain,select", "plain,simulate"]),
        ("egl-fast score --re", ["plain,--resume", "plain,--read-timeout"]),
        ("egl-fast score --method lo", ["plain,lowrank"]),
        ("egl-fast score --device c", ["plain,cpu", "plain,cuda"]),
        ("egl-fast select --strategy egl_f", ["plain,egl_full"]),
        ("egl-fast select --batch cl", ["plain,clusters"]),
        ("egl-fast query --strategy pc", ["plain,pctc"]),
        ("egl-fast score --model exam", ["file,exam"]),
        ("egl-fast select exam", ["file,exam"]),
        ("egl-fast train --run-dir ru", ["dir,ru"]),
        ("egl-fast completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
    ],
)
def test_a_shell_is_told_what_may_come_next(line: str, offered: list[str]) -> None:
    assert completions(line) == offered


def test_bash_takes_the_script(tmp_path: Path) -> None:
    result = bash(
        'eval "$(egl-fast completion bash)"\n'
        "COMP_WORDS=(egl-fast sel) COMP_CWORD=1; _egl_fast_completion egl-fast\n"
        'echo "${COMPREPLY[@]}"; complete -p egl-fast',
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
    offered, registered = result.stdout.splitlines()
    assert offered == "select"
    assert registered.endswith("egl-fast")
