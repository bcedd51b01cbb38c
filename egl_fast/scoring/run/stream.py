"""What a run writes for each outcome: a line of its journal, and lines of the files it is for."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egl_fast.data.jsonl import encoded_line
from egl_fast.errors import EglError, one_line
from egl_fast.files.atomic import PARTIAL
from egl_fast.records import to_json
from egl_fast.scoring.run.outcome import Outcome


@dataclass(frozen=True)
class Stream:
    """A file that grows while a pool is scored, in the manifest's order."""

    name: str  # what the journal's header calls it
    path: Path  # the file's name once the run is complete
    # The bytes for an outcome, given as ``journaled``; may be none.
    content: Callable[[Mapping[str, Any]], bytes]
    keep_empty: bool = True  # whether the file stays if nothing was written to it
    prefix: bytes = b""  # what the file starts with
    # Gets the complete file, before it is renamed, and the number of scored recordings; may be
    # called again after a crash
    complete: Callable[[Path, int], None] = lambda path, num_scored: None
    # Copies a complete file to where it grows, as it was before ``complete``
    restore: Callable[[Path, Path], object] = shutil.copyfile

    @property
    def partial(self) -> Path:
        """The file's name until the run is complete."""
        return self.path.with_name(self.path.name + PARTIAL)

    def reopen(self) -> int:
        """Copy a complete file to where it grows, for more work on it; returns its length."""
        if not self.path.exists():
            return 0
        self.restore(self.path, self.partial)
        return self.partial.stat().st_size

    def publish(self, length: int, num_scored: int) -> None:
        """Give the file, which has this length, its final name; may be repeated after a crash."""
        if length == 0 and not self.keep_empty:
            self.path.unlink(missing_ok=True)
            self.partial.unlink(missing_ok=True)
        elif self.partial.exists():
            self.complete(self.partial, num_scored)
            os.replace(self.partial, self.path)


def journaled(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the journal holds it."""
    if isinstance(outcome.result, EglError):
        error = one_line(outcome.result)
        return {"position": outcome.position, "id": outcome.utterance.id, "error": error}
    record = to_json(outcome.result, outcome.utterance.record)
    line = {"position": outcome.position, "record": record}
    if outcome.embedding is not None:
        values = outcome.embedding.numpy().astype("<f4")
        line["embedding"] = base64.b64encode(values.tobytes()).decode()
    return line


def error_line(outcome: Mapping[str, Any]) -> bytes:
    """The line in the errors file."""
    if "record" in outcome:
        return b""
    return encoded_line({"id": outcome["id"], "error": outcome["error"]})
