"""The command in its own process, as a user or a script runs it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from command_client import ask

from egl_fast.cli.main import main

ROOT = Path(__file__).resolve().parent.parent


def _environment() -> dict[str, str]:
    """The same environment for every command, whoever runs the tests."""
    # The first would hide errors about output that is still buffered at shutdown.
    dropped = ("PYTHONUNBUFFERED", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONPATH": str(ROOT)}


def start(
    *arguments: object, environment: Mapping[str, str] = MappingProxyType({}), **options: Any
) -> subprocess.Popen[str]:
    """The running command, in its own interpreter.

    Args:
        arguments: of the command.
        environment: additional variables.
        options: of ``Popen``.
    """
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "egl_fast", *map(str, arguments)],
        env={**_environment(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def egl_fast(
    *arguments: object,
    cwd: str | Path | None = None,
    stdin: str = os.devnull,
    given: str | None = None,
    before: str = "",
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """The finished command, run by ``command_server`` so that torch is loaded only once.

    Args:
        arguments: of the command.
        cwd: the folder it works in.
        stdin: the file it reads as standard input.
        given: what it reads there instead of that file.
        before: Python that runs first, to break things.
        environment: additional or changed variables.
    """
    return _finished(arguments, cwd, stdin, given, environment, before=before)


def script(path: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A finished script of this repository, run in the same way."""
    return _finished(arguments, None, os.devnull, None, environment, script=str(path))


def _finished(
    arguments: Sequence[object],
    cwd: str | Path | None,
    stdin: str,
    given: str | None,
    environment: dict[str, str],
    **what: str,
) -> subprocess.CompletedProcess[str]:
    words = [str(argument) for argument in arguments]
    request = {
        "arguments": words,
        "folder": os.path.abspath(cwd or "."),
        "environment": {**_environment(), **environment},
        **what,
    }
    with ExitStack() as files:
        out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        if given is None:
            read = files.enter_context(open(stdin, "rb"))
        else:
            read = files.enter_context(tempfile.TemporaryFile())
            read.write(given.encode("utf-8", "surrogatepass"))
            read.seek(0)
        status = ask(
            _server(), request, dict(enumerate(file.fileno() for file in (read, out, err)))
        )
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode("utf-8", "surrogateescape"))
    return subprocess.CompletedProcess(["egl-fast", *words], status, *said)


def for_shells(folder: Path) -> dict[str, str]:
    """The environment of a shell whose ``egl-fast`` is this repository's, run by the same server.

    Args:
        folder: where to put a program of that name.
    """
    program = folder / "egl-fast"
    client = Path(__file__).with_name("command_client.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{client}" "$@"\n')
    program.chmod(0o755)
    places = [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**_environment(), "COMMAND_SERVER": _server(), "PATH": os.pathsep.join(places)}


def bash(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A finished shell script whose `egl-fast` is this repository's."""
    (folder / "bin").mkdir(exist_ok=True)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{script}"],
        env={**for_shells(folder / "bin"), "OMP_NUM_THREADS": "1", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
    )


@functools.cache
def _server() -> str:
    """The path of the socket on which the server listens; starts it."""
    # The name of a test's folder could be too long for a socket.
    folder = tempfile.TemporaryDirectory(prefix="egl-fast-")
    path = os.path.join(folder.name, "server")
    server = subprocess.Popen(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("command_server.py")), path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"

    def end() -> None:
        server.communicate()  # the server ends with its standard input
        folder.cleanup()

    atexit.register(end)
    return path


def in_this_process(*arguments: object) -> int:
    """The exit status of the command, run here to save the seconds it takes to load torch."""
    with patch.object(sys, "argv", ["egl-fast", *map(str, arguments)]):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    raise AssertionError("the command does not end")


def refused(*arguments: object, **options: Any) -> str:
    """The one line that a refused command says; options as those of ``egl_fast``."""
    result = egl_fast(*arguments, **options)
    return the_line(result.returncode, result.stdout, result.stderr)


def the_line(status: int, out: str, err: str) -> str:
    """The one line of a command that was refused, which has left nothing on standard output."""
    assert status == 2, err
    assert out == ""
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    return err.rstrip("\n")


def wait_until(process: subprocess.Popen[str], has_begun: Callable[[], bool]) -> bool:
    """Whether it has begun; False if the process ended first."""
    while not has_begun():
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def lines_of(text: str) -> list[dict[str, Any]]:
    """The objects of JSON Lines."""
    # Only a line feed ends a line: a string may hold U+2028.
    return [json.loads(line) for line in text.split("\n") if line]


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def one_line_each(errors: list[dict[str, Any]]) -> None:
    """Check the form of the entries of an errors file."""
    assert all(list(entry) == ["id", "error"] and "\n" not in entry["error"] for entry in errors)
