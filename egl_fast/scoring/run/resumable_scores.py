"""A scores file that can be finished later, wherever its run was stopped.

While a run is at work, or after it was stopped, there are beside ``OUT``

    OUT.partial               records, in the manifest's order
    OUT.errors.jsonl.partial  errors, likewise, if there are any
    OUT.journal               JSON Lines: a header, then outcomes in the order of computation

The header names the settings of the run, and how much of the two files is on the disk for good: all
outcomes up to the start of a window (see ``scoring.pool``). The lines after it hold the outcomes of
this window, each on the disk before the next is computed. At a window's end the files are brought
onto the disk, and a new journal with the next header takes the old one's place. So at any moment
the journal and what it vouches for of the files is all that is known; the rest is cut off on
resumption. The last header holds the metadata, and says that only names are left to be changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from egl_fast.data.json_reading import json_value
from egl_fast.data.jsonl import (
    encoded_line,
    refuse_name,
    refuse_other_formats,
    refuse_unwritable,
)
from egl_fast.errors import EglError, OutputError, cannot_be_written, one_line
from egl_fast.files import atomic
from egl_fast.files.locking import sole_writer
from egl_fast.files.run_settings import changed_settings
from egl_fast.records import to_json
from egl_fast.scoring.run.journal import Header, Tally, damaged, read_journal
from egl_fast.scoring.run.outcome import WINDOW, Outcome


class ResumableScores:
    """Writes outcomes so that nothing finished is lost; see the module for how.

    Args:
        out: the scores file.
        resume: go on with a run that was stopped, if there is one.
        overwrite: start over, whatever there is. Until the new file is complete, the old one stays.
        inputs: files that the run reads, which it never overwrites.

    Raises:
        OutputError: the file can't be written, or there is something that neither option covers.
    """

    def __init__(
        self,
        out: str,
        *,
        resume: bool = False,
        overwrite: bool = False,
        inputs: Sequence[str] = (),
    ) -> None:
        self.out = Path(out)
        refuse_name(self.out)
        refuse_unwritable(self.out, inputs=inputs)
        refuse_other_formats(self.out)
        self.tally = Tally()
        self._resume = resume
        self._overwrite = overwrite
        #: The errors file.
        self.errors_path = self._named(".errors.jsonl")
        self._records = self._named(".partial")
        self._errors = self._named(".errors.jsonl.partial")
        self._journal = self._named(".journal")
        self._metadata = self._named(".meta.json")
        self._files: dict[Path, BinaryIO] = {}
        self._header = Header({}, overwrites=False)
        self._ahead: dict[int, dict[str, Any]] = {}
        self._position = 0
        self._num_utterances = 0
        for path in (self._records, self._errors, self._journal, self._metadata, self.errors_path):
            refuse_unwritable(path, inputs=inputs)
        if not (resume or overwrite):
            self._refuse_leftovers()

    @property
    def num_completed(self) -> int:
        """Utterances whose outcome is known."""
        return self._position + len(self._ahead)

    def metadata(self) -> Any:
        """What ``OUT.meta.json`` holds."""
        with self._as_output_error():
            return json_value(self._metadata.read_bytes())

    def __contains__(self, position: object) -> bool:
        """Whether the outcome of the utterance at a position is known."""
        assert isinstance(position, int)
        return position < self._position or position in self._ahead

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from the file. Closes what is open at the end, and changes no names.

        Raises:
            OutputError: another run is writing it.
        """
        with sole_writer(self._named(".lock"), of=f"output {self.out}"):
            try:
                yield
            finally:
                for file in self._files.values():
                    # What is buffered still is vouched for by nothing, and may not fit on the disk.
                    with suppress(OSError):
                        file.close()

    def begin(self, settings: Mapping[str, Any], num_utterances: int) -> bool:
        """Start, or go back to where a run was stopped.

        Args:
            settings: plain values that decide the scores; those of a run that goes on must equal
                these.
            num_utterances: of the pool.

        Returns:
            False where nothing is left to do.

        Raises:
            OutputError: there is a run with other settings, its files are damaged, or writing
                fails.
        """
        # As they will be read back, so that they compare equal.
        plain: dict[str, Any] = json.loads(json.dumps(settings))
        self._num_utterances = num_utterances
        with self._as_output_error():
            if self._resume and self._journal.exists():
                return self._continue(plain)
            if self._resume and self.out.exists():
                return self._find_complete(plain)
            if not self._overwrite:
                self._refuse_leftovers()
            self._write_header(Header(plain, overwrites=self._overwrite))
            self._open_files()
        return True

    def masses(self) -> list[float]:
        """The ``beam_mass`` of every record so far.

        Raises:
            OutputError: they cannot be read.
        """
        with self._as_output_error():
            for file in self._files.values():
                file.flush()
            path = self._records if self._records.exists() else self.out
            with open(path, "rb") as file:
                found = (json_value(line).get("beam_mass") for line in file)
                return [mass for mass in found if mass is not None]

    def add(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Keep outcomes; when this returns they are on the disk.

        Args:
            outcomes: any whose position is not known yet.
            seconds: what they took.

        Raises:
            OutputError: the disk is full or the like. What was kept before stays kept.
        """
        entry = {"seconds": seconds, "outcomes": [_as_line(outcome) for outcome in outcomes]}
        with self._as_output_error():
            journal = self._files[self._journal]
            journal.write(encoded_line(entry))
            atomic.sync(journal)
            self._count(entry)
            self._write_in_order()
            if self._position >= self._end_of_window(self._header):
                self._close_window()

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Give everything its name.

        Raises:
            OutputError: that fails, or ``OUT`` has come into being and may not be overwritten.
        """
        with self._as_output_error():
            tally = {key: round(value, 3) for key, value in asdict(self.tally).items()}
            self._close_window(metadata={**metadata, **tally})
            self._publish()

    def _named(self, suffix: str) -> Path:
        return self.out.with_name(self.out.name + suffix)

    def _refuse_leftovers(self) -> None:
        if self._journal.exists():
            raise OutputError(
                f"output {self.out}: a run was stopped before it was complete, or is at work; give "
                "--resume to go on with it, or --overwrite to start over"
            )
        if os.path.lexists(self.out):
            raise OutputError(
                f"output {self.out}: already exists; give --overwrite to replace it, or another "
                "name"
            )
        for path in (self._records, self._errors, self._metadata, self.errors_path):
            if os.path.lexists(path):
                raise OutputError(
                    f"output {path}: is there from another run; move it away, or give "
                    "--overwrite to lose it"
                )

    def _continue(self, settings: dict[str, Any]) -> bool:
        header, entries, length = read_journal(self._journal)
        self._refuse_differences(header.settings, settings)
        self._header = header
        self.tally = header.tally
        self._position = header.position
        if header.metadata is not None:
            self._publish()
            return False
        window = range(header.position, self._end_of_window(header))
        try:
            for entry in entries:
                if not all(line["position"] in window for line in entry["outcomes"]):
                    raise damaged(self._journal, "a position beyond its window")
                self._count(entry)
        except (KeyError, TypeError):
            raise damaged(self._journal, "an outcome of another form") from None
        with open(self._journal, "r+b") as file:
            file.truncate(length)  # a line that was being written when the run was stopped
        self._open_files()
        self._write_in_order()
        if self._position >= self._end_of_window(header):
            self._close_window()
        return True

    def _end_of_window(self, header: Header) -> int:
        return min(header.position + WINDOW, self._num_utterances)

    def _find_complete(self, settings: dict[str, Any]) -> bool:
        try:
            metadata = json_value(self._metadata.read_bytes())
            recorded = {key: metadata.get(key) for key in settings}
            self.tally = Tally(**{key: metadata[key] for key in asdict(Tally())})
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            raise OutputError(
                f"output {self.out}: already exists, and {self._metadata.name} does not say how it "
                "was made; give --overwrite to replace it, or another name"
            ) from None
        self._refuse_differences(recorded, settings)
        self._position = self._num_utterances
        return False

    def _refuse_differences(self, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        found = changed_settings(recorded, now)
        if found:
            raise OutputError(
                f"output {self.out}: was begun with {'; '.join(found)}; resume it with the same, "
                "or start over with --overwrite"
            )

    def _open_files(self) -> None:
        """Open all three at the end of what the journal vouches for."""
        vouched_for = {
            self._records: self._header.records_bytes,
            self._errors: self._header.errors_bytes,
        }
        for path, length in vouched_for.items():
            if length == 0:
                atomic.new_file(path).close()
            there = path.stat().st_size
            if there < length:
                raise damaged(path, f"{there} bytes are left of {length}")
        atomic.sync_folder(self.out.parent)  # their names, before a journal vouches for them
        for path, length in vouched_for.items():
            file = self._files[path] = open(path, "r+b")  # noqa: SIM115 (closed by locked)
            file.truncate(length)
            file.seek(length)
        self._open_journal()

    def _open_journal(self) -> None:
        if self._journal in self._files:
            self._files[self._journal].close()
        self._files[self._journal] = open(self._journal, "ab")  # noqa: SIM115 (closed by locked)

    def _write_header(self, header: Header) -> None:
        atomic.write_bytes(self._journal, encoded_line(header.to_json()))
        self._header = header

    def _count(self, entry: Mapping[str, Any]) -> None:
        """Let outcomes wait for their turn to be written."""
        lines: Sequence[dict[str, Any]] = entry["outcomes"]
        scored = [line["record"] for line in lines if "record" in line]
        self._ahead |= {line["position"]: line for line in lines}
        audio_seconds = sum(record["duration"] for record in scored)
        num_failed = len(lines) - len(scored)
        self.tally += Tally(len(scored), num_failed, audio_seconds, entry["seconds"])

    def _write_in_order(self) -> None:
        while self._position in self._ahead:
            line = self._ahead.pop(self._position)
            if "record" in line:
                self._files[self._records].write(encoded_line(line["record"]))
            else:
                error = {"id": line["id"], "error": line["error"]}
                self._files[self._errors].write(encoded_line(error))
            self._position += 1
        for file in self._files.values():
            file.flush()  # so that they can be read already

    def _close_window(self, metadata: dict[str, Any] | None = None) -> None:
        assert not self._ahead, "a window is closed when all its outcomes are known"
        for path in (self._records, self._errors):
            atomic.sync(self._files[path])
        header = replace(
            self._header,
            position=self._position,
            records_bytes=self._files[self._records].tell(),
            errors_bytes=self._files[self._errors].tell(),
            tally=self.tally,
            metadata=metadata,
        )
        self._write_header(header)
        self._open_journal()

    def _publish(self) -> None:
        """Rename all that the last header vouches for; may be repeated from any point on."""
        header = self._header
        assert header.metadata is not None
        if self._records.exists():
            if not header.overwrites:
                refuse_unwritable(self.out)
                if os.path.lexists(self.out):
                    raise OutputError(
                        f"output {self.out}: has come into being meanwhile; move it away and give "
                        "--resume, and the new scores take its place"
                    )
            atomic.write_json(self._metadata, header.metadata)
            if header.tally.num_failed == 0:
                self.errors_path.unlink(missing_ok=True)
                self._errors.unlink(missing_ok=True)
            elif self._errors.exists():
                os.replace(self._errors, self.errors_path)
            atomic.sync_folder(self.out.parent)
            os.replace(self._records, self.out)
            atomic.sync_folder(self.out.parent)
        self._journal.unlink()
        atomic.sync_folder(self.out.parent)

    @contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, OutputError) as error:
            # Of the files beside it, too: the user knows the scores file.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            kept = self._journal.exists()
            raise cannot_be_written(
                self.out, cause, remedy="--resume goes on with what is finished" if kept else ""
            ) from None


def _as_line(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a line of the journal holds it."""
    if isinstance(outcome.result, EglError):
        error = one_line(outcome.result)
        return {"position": outcome.position, "id": outcome.utterance.id, "error": error}
    line = to_json(outcome.result, outcome.utterance.record)
    return {"position": outcome.position, "record": line}
