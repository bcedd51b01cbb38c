"""``egl-fast``: finds the command, runs it, and turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

from egl_fast.cli import completion
from egl_fast.cli.console import complain, discard, print_warnings
from egl_fast.cli.interruption import as_keyboard_interrupt
from egl_fast.errors import EglError, one_line
from egl_fast.files import copies
from egl_fast.naming import as_options

#: Command name -> its line in ``egl-fast --help``. Each is in a module of that name, imported only
#: when needed: torch takes seconds to load.
COMMANDS = {
    "manifest": "Make a manifest from folders of recordings, or other toolkits' files.",
    "train": "Train a CTC model on transcribed speech.",
    "evaluate": "Measure a model's CTC loss, character and word error rates.",
    "transcribe": "Transcribe recordings with a model.",
    "score": "Score how much each recording of a pool would teach the model.",
    "merge": "Put together the scores of shards that were scored side by side.",
    "select": "Pick the most informative recordings of a scores file, within a budget.",
    "query": "Pick the most informative recordings of a pool, scoring only as closely as needed.",
    "labels": "Make a training manifest of the transcripts that came back.",
    "simulate": "Run the whole active-learning evaluation on labeled data.",
    "report": "Make an HTML page about an evaluation or a scored pool.",
    "check": "Compare the engine's gradient norms with looped autograd on a model.",
    "bench": "Measure a model's speed on this machine, and estimate the time for a pool.",
    "doctor": "Report what was built and what is usable, and run a small self-test.",
    "completion": "Print a script with which a shell completes command lines.",
}

#: Exit status -> its meaning, for every command.
EXIT_STATUSES = {
    0: "done",
    2: "wrong usage or input, or a failed check; one line says what to do",
    3: "done, except for some recordings, which the errors file lists",
    130: "interrupted; everything finished so far is kept",
}


#: Statuses with which a command has written all that it should.
_DONE = (None, 0, 3)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and put what it wrote for stores there if it succeeds."""
        with copies.copies_of_a_command():
            status = super().invoke(ctx)
            if status in _DONE:
                copies.publish_all()
            return status

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; None if there is none with that name."""
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
    Typical use:
      egl-fast score --model m.pt --pool pool.jsonl --typicality --out scores.jsonl
      egl-fast select scores.jsonl --budget 20% --out to_transcribe.jsonl

    Files may also be URLs, such as s3://bucket/pool.jsonl (docs/stores.md).
    """


def program() -> None:
    """Entry point of the ``egl-fast`` command: ``main``, then the end of the process."""
    try:
        main()
    finally:
        _leave_abandoned_threads(sys.exc_info()[1])


def _leave_abandoned_threads(end: BaseException | None) -> None:
    """End the process at once if an abandoned decoder is still running.

    At interpreter exit, such a thread would be ended in the middle of C++, which aborts the
    process.
    """
    reading = sys.modules.get("egl_fast.data.reading")
    if reading is None or not reading.abandoned_threads() or not isinstance(end, SystemExit):
        return
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)


def main() -> None:
    """Run the command named by the arguments; ends in ``SystemExit``."""
    _open_standard_streams()
    print_warnings()
    _refuse_a_removed_folder()
    if completion.VARIABLE in os.environ:
        sys.exit(completion.answer(cli, os.environ[completion.VARIABLE]))
    try:
        # Not cli.main(): it would handle a closed pipe itself, with status 1.
        with (
            as_options(),
            as_keyboard_interrupt(),
            cli.make_context("egl-fast", sys.argv[1:]) as context,
        ):
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
            # A full disk, as already reported; the interpreter would add its own message.
            discard(1)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our standard output (head, say) has seen enough. What is still buffered must
        # be discarded, or the interpreter would complain at exit.
        discard(1)
        sys.exit(0)
    except OSError as error:
        # Code that opens files handles their errors; what remains is a full disk under our output.
        discard(1)
        what = "standard output cannot be written" if error.filename is None else "failed"
        complain(f"egl-fast: {what} ({one_line(error)})")
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _open_standard_streams() -> None:
    """Keep files we open from getting the descriptors of standard streams that were closed.

    Otherwise, what a library prints there would end up in them.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As for standard error: what the locale cannot represent is escaped.
        sys.stdout.reconfigure(errors="backslashreplace")


def _refuse_a_removed_folder() -> None:
    """Refuse a deleted working folder: paths mean nothing there, and torch's libraries abort."""
    try:
        os.getcwd()
    except FileNotFoundError:
        complain("egl-fast: the current folder has been removed; change to another one")
        sys.exit(2)
