"""``egl-fast``: finds the command, runs it, turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from contextlib import suppress

import click

from egl_fast.cli import completion
from egl_fast.cli.console import complain, discard, log_handler
from egl_fast.cli.interruption import as_keyboard_interrupt
from egl_fast.errors import EglError, one_line

#: Command name -> what ``egl-fast --help`` says of it. Each lives in a module of its name, which
#: is imported only when it is needed: torch takes seconds to load.
COMMANDS = {
    "train": "Train a CTC model on transcribed speech.",
    "evaluate": "CTC loss, character and word error rate of a model on transcribed speech.",
    "transcribe": "Write down what a model hears.",
    "score": "Say how much each recording of a pool would teach the model.",
    "select": "Pick the most informative recordings of a scores file, within a budget.",
    "simulate": "Run the whole active-learning evaluation on labeled data.",
    "report": "One HTML page about an evaluation, or about a scored pool.",
    "check": "Compare the engine's gradient norms with looped autograd on this model.",
    "bench": "This model's speed on this machine, and how long a pool would take.",
    "doctor": "Say what was built and what is usable, and run a small self-test.",
    "completion": "Print a script that lets a shell complete command lines.",
}

#: Exit status -> what it says, of every command.
EXIT_STATUSES = {
    0: "done",
    2: "wrong usage or input, or a check that failed; one line says what to do",
    3: "done, but for some recordings: the errors file names them",
    130: "interrupted; what was finished by then is kept",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"egl_fast.cli.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExit status:\n" + "\n".join(f"  {k:<4} {v}" for k, v in EXIT_STATUSES.items()),
)
@click.version_option(package_name="egl-fast", prog_name="egl-fast")
def cli() -> None:
    """Which recordings are worth transcribing, for any CTC speech recognizer.

    \b
    The usual way:
      egl-fast score --model base.pt --pool pool.jsonl --out scores.jsonl
      egl-fast select scores.jsonl --budget 20% --out to_transcribe.jsonl
    """


def program() -> None:
    """Entry point of the ``egl-fast`` command: ``main``, and the end of the process."""
    try:
        main()
    finally:
        _leave_abandoned_threads(sys.exc_info()[1])


def _leave_abandoned_threads(end: BaseException | None) -> None:
    """End the process at once if a decoder that was given up is still at work.

    When an interpreter ends, such a thread is ended in the middle of C++, which aborts the process.
    """
    prefetch = sys.modules.get("egl_fast.data.prefetch")
    if prefetch is None or not prefetch.abandoned_threads() or not isinstance(end, SystemExit):
        return
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)


def main() -> None:
    """Run the command that the arguments name; ends in ``SystemExit``."""
    _open_standard_streams()
    logging.getLogger("egl_fast").addHandler(log_handler)
    _refuse_a_removed_folder()
    if completion.VARIABLE in os.environ:
        sys.exit(completion.answer(cli, os.environ[completion.VARIABLE]))
    try:
        # Not cli.main(): it would answer a closed pipe with status 1, before we see it.
        with as_keyboard_interrupt(), cli.make_context("egl-fast", sys.argv[1:]) as context:
            status = cli.invoke(context)
    except (click.exceptions.Abort, KeyboardInterrupt):
        complain("interrupted")
        sys.exit(130)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        failed_in = getattr(error, "ctx", None)
        name = failed_in.command_path if failed_in else "egl-fast"
        message = " ".join(error.format_message().split())
        complain(f"{name}: {message} (see {name} --help)")
        sys.exit(error.exit_code)
    except EglError as error:
        complain(f"egl-fast: {error}")
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            # Full, which the line above says already: the interpreter would add its own.
            discard(1)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our standard output (say, head) has seen enough. What is still buffered
        # must go nowhere, or the interpreter would complain about it while it shuts down.
        discard(1)
        sys.exit(0)
    except OSError as error:
        # Of files, those who open them say more; what is left is a full disk under what we print.
        discard(1)
        what = "standard output cannot be written" if error.filename is None else "failed"
        complain(f"egl-fast: {what} ({one_line(error)})")
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _open_standard_streams() -> None:
    """Keep files that we open from the numbers of streams that were closed before we began.

    Else what a library prints there would get into them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error does it: what the locale cannot write comes out escaped.
        sys.stdout.reconfigure(errors="backslashreplace")


def _refuse_a_removed_folder() -> None:
    """In a folder that is gone paths mean nothing, and libraries of torch end the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        complain("egl-fast: the current folder has been removed; change to another")
        sys.exit(2)
