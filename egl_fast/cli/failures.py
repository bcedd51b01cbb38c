"""Recordings that a command could not use, while the others continued."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from egl_fast.cli.console import complain, say
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError, one_line

if TYPE_CHECKING:
    from typing_extensions import Self


class Failures(ExitStack):
    """Lists failed recordings in ``OUT.errors.jsonl`` or, without OUT, on standard error.

    The file exists only if a recording failed; one left by an earlier run is removed. See
    ``JsonlWriter`` for the arguments and errors.
    """

    def __init__(self, out: Path | None, *, overwrite: bool, inputs: Iterable[str | None]) -> None:
        super().__init__()
        self._writer = None
        if out is not None:
            path = out.with_name(f"{out.name}.errors.jsonl")
            self._writer = JsonlWriter(path, overwrite=overwrite, inputs=inputs, only_if_any=True)
        self.utterances: list[Utterance] = []

    def __enter__(self) -> Self:
        if self._writer is not None:
            self.enter_context(self._writer)
        return super().__enter__()

    @property
    def status(self) -> int:
        """The command's exit status."""
        return 3 if self.utterances else 0

    def add(self, utterance: Utterance, error: EglError) -> None:
        """Report one recording, and what is wrong with it."""
        self.utterances.append(utterance)
        if self._writer is None:
            complain(f"{utterance.id}: {one_line(error)}")
        else:
            self._writer.write({"id": utterance.id, "error": one_line(error)})
            self._writer.flush()

    def summarize(self, done: str) -> None:
        """Say where failures are listed, if any; ``done`` is for example "transcribed"."""
        if self.utterances and self._writer is not None:
            say(f"{len(self.utterances)} could not be {done}: see {self._writer.path}")
