"""A scores file that can be finished later, at whatever point its run was stopped.

While a run is going on, or after it was stopped, these files are beside ``OUT``:

    OUT.partial               records, in the manifest's order, as JSON Lines
    OUT.errors.jsonl.partial  errors, likewise, if there are any
    OUT.journal               JSON Lines: a header, then outcomes in the order of computation

The first two are ``Stream``s and grow in lockstep. The journal's header holds the run's settings
and how much of each stream is safely on the disk: all outcomes up to the start of a window (see
``pool``). The lines after it hold the outcomes of this window, each on the disk before the next is
computed, and those of later windows, if several are computed at a time. At the end of a window the
streams are flushed to the disk, and a new journal with the next header replaces the old one. So the
journal, with the part of the streams that its header counts, is always everything that is known;
resuming cuts off the rest. The last header holds the metadata, and means that only renaming is
left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from egl_fast.data.jsonl import encoded_line, refuse_name, refuse_unwritable
from egl_fast.data.parquet_records import record_lines
from egl_fast.data.strict_json import json_value
from egl_fast.embeddings.file import embeddings_path, refuse_other_embeddings
from egl_fast.errors import OutputError, cannot_be_written
from egl_fast.files import atomic, copies
from egl_fast.files.arrays import read_array
from egl_fast.files.locking import sole_writer
from egl_fast.files.run_settings import TRUSTED, changed_settings, has_other_trusted
from egl_fast.scoring.run.added_key import AddedKey
from egl_fast.scoring.run.embedding_stream import embedding_stream, read_rows
from egl_fast.scoring.run.journal import Header, Tally, damaged, read_journal
from egl_fast.scoring.run.outcome import WINDOW, Outcome
from egl_fast.scoring.run.record_stream import records_stream
from egl_fast.scoring.run.stream import Stream, error_line, journaled


class ResumableScores:
    """Writes outcomes so that nothing finished is lost; the module says how.

    Args:
        out: the scores file.
        resume: continue a run that was stopped, if there is one.
        overwrite: start over. The old scores stay until the new ones are complete.
        inputs: files that the run reads, which are never overwritten.
        embeddings: keep them, too, in ``OUT.embeddings.npy``; every outcome must have one.

    Raises:
        OutputError: the file cannot be written, or files exist that neither option covers.
    """

    def __init__(
        self,
        out: str,
        *,
        resume: bool = False,
        overwrite: bool = False,
        inputs: Sequence[str] = (),
        embeddings: bool = False,
    ) -> None:
        self.out = Path(out)
        refuse_name(self.out)
        refuse_unwritable(self.out, inputs=inputs)
        self.tally = Tally()
        self._resume = resume
        self._overwrite = overwrite
        #: The errors file.
        self.errors_path = self._beside(".errors.jsonl")
        self._typicality = AddedKey("typicality", self._beside(".typicality.npy"))
        self._records = records_stream(self.out, self._typicality)
        errors = Stream("errors", self.errors_path, error_line, keep_empty=False)
        #: The scores last: once they have their final name, the run is complete.
        self._streams = [errors, self._records]
        self._embeddings_path = embeddings_path(self.out)
        if embeddings:
            self._streams.insert(0, embedding_stream(self._embeddings_path))
        self._journal = self._beside(".journal")
        self._metadata = self._beside(".meta.json")
        self._files: dict[Path, BinaryIO] = {}
        self._header = Header({}, overwrites=False)
        self._ahead: dict[int, dict[str, Any]] = {}
        self._position = 0
        self._num_utterances = 0
        for path in (self._journal, *self._leftovers()):
            refuse_unwritable(path, inputs=inputs)
        if not (resume or overwrite):
            self._refuse_leftovers()

    @property
    def is_new(self) -> bool:
        """Whether there is no earlier run to continue."""
        return not (self._resume and (self._journal.exists() or self.out.exists()))

    @property
    def num_completed(self) -> int:
        """Utterances whose outcome is known."""
        return self._position + len(self._ahead)

    def metadata(self) -> Any:
        """The content of ``OUT.meta.json``."""
        with self._as_output_error():
            return json_value(self._metadata.read_bytes())

    def __contains__(self, position: object) -> bool:
        """Whether the outcome of the utterance at a position is known."""
        assert isinstance(position, int)
        return position < self._position or position in self._ahead

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out other runs. Closes all files at the end, and renames none.

        Raises:
            OutputError: another run is writing it.
        """
        with sole_writer(self._beside(".lock"), of=f"output {self.out}"):
            try:
                yield
            finally:
                for file in self._files.values():
                    with suppress(
                        OSError
                    ):  # a full disk; what is still buffered counts for nothing
                        file.close()

    def begin(self, settings: Mapping[str, Any], num_utterances: int) -> bool:
        """Start, or continue where a run was stopped; False if nothing is left to do.

        Settings are plain values that affect the scores; to resume a run, they must equal its own.
        Only the trusted recordings may differ: then typicality is computed again, and no scores.

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
            lengths = {stream.name: 0 for stream in self._streams}
            self._write_header(Header(plain, overwrites=self._overwrite, lengths=lengths))
            self._open_files()
        return True

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record so far, in order. Raises ``OutputError`` if they cannot be read."""
        with self._as_output_error():
            for file in self._files.values():
                file.flush()
            path = self._records.partial if self._records.partial.exists() else self.out
            with open(path, "rb") as file:
                yield from map(json_value, record_lines(file, f"scores {path}"))

    def column(self, key: str) -> Iterator[Any]:
        """The value of a key in every record so far, in order."""
        return (record.get(key) for record in self.records())

    def add(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Save outcomes that are not known yet; when this returns, they are on disk.

        Raises:
            OutputError: the disk is full or the like. What was kept before stays kept.
        """
        entry = {"seconds": seconds, "outcomes": [journaled(outcome) for outcome in outcomes]}
        with self._as_output_error():
            journal = self._files[self._journal]
            journal.write(encoded_line(entry))
            atomic.sync(journal)
            self._take_in(entry)
            self._write_in_order()

    def embeddings(self) -> npt.NDArray[np.float32]:
        """[n, d] of all recordings scored so far, in order, mapped into memory."""
        stream = next(stream for stream in self._streams if stream.name == "embeddings")
        self._files[stream.partial].flush()
        return read_rows(stream.partial, self.tally.num_scored)

    def finish(
        self, metadata: Mapping[str, Any], *, typicality: npt.NDArray[np.float64] | None = None
    ) -> None:
        """Rename all files to their final names.

        Args:
            metadata: of the run.
            typicality: [n] for each scored recording, in order, to be added to the records.

        Raises:
            OutputError: that fails, or ``OUT`` has appeared and may not be overwritten.
        """
        with self._as_output_error():
            if typicality is not None:
                self._typicality.keep(typicality)
            tally = {key: round(value, 3) for key, value in asdict(self.tally).items()}
            self._close_window(metadata={**metadata, **tally})
            self._publish()

    def _beside(self, suffix: str) -> Path:
        return self.out.with_name(self.out.name + suffix)

    def _leftovers(self) -> list[Path]:
        """Files other than scores and journal that another run may have left."""
        partial = [stream.partial for stream in self._streams]
        return [*partial, self._metadata, self.errors_path, self._embeddings_path]

    def _refuse_leftovers(self) -> None:
        if self._journal.exists():
            raise OutputError(
                f"output {self.out}: an earlier run was stopped before it was complete, or is "
                "still going on; give --resume to continue it, or --overwrite to start over"
            )
        if os.path.lexists(self.out):
            raise OutputError(
                f"output {self.out}: already exists; give --overwrite to replace it, or another "
                "name"
            )
        for path in self._leftovers():
            if os.path.lexists(path):
                raise OutputError(
                    f"output {path}: is left over from another run; move it away, or give "
                    "--overwrite to lose it"
                )

    def _continue(self, settings: dict[str, Any]) -> bool:
        names = [stream.name for stream in self._streams]
        header, entries, length = read_journal(self._journal, names)
        self._refuse_differences(header.settings, settings)
        self._header = replace(header, settings=settings)
        self.tally = header.tally
        self._position = header.position
        if header.metadata is not None:
            self._publish()
            return has_other_trusted(header.settings, settings) and self._find_complete(settings)
        left = range(header.position, self._num_utterances)
        try:
            for entry in entries:
                if not all(outcome["position"] in left for outcome in entry["outcomes"]):
                    raise damaged(self._journal, "a position beyond what was left")
                self._take_in(entry)
        except (KeyError, TypeError):
            raise damaged(self._journal, "an outcome of another form") from None
        with open(self._journal, "r+b") as file:
            file.truncate(length)  # a line that was being written when the run was stopped
        self._open_files()
        self._write_in_order()
        return True

    @property
    def _end_of_window(self) -> int:
        return min(self._header.position + WINDOW, self._num_utterances)

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
        if not has_other_trusted(recorded, settings):
            return False
        self._refuse_other_embeddings(metadata)
        # As if it had been stopped after scoring the last recording.
        lengths = {stream.name: stream.reopen() for stream in self._streams}
        with open(self._records.partial, "rb") as lines:
            if sum(1 for _ in lines) != self.tally.num_scored:
                raise damaged(self.out, "it was changed since")
        self._write_header(Header(settings, True, self._position, lengths, self.tally))
        self._open_files()
        return True

    def _refuse_other_embeddings(self, metadata: Mapping[str, Any]) -> None:
        try:
            rows = read_array(self._embeddings_path)
        except (OSError, ValueError):
            rows = np.zeros((0, 0), np.float32)
        if len(rows) != self.tally.num_scored:
            raise damaged(self._embeddings_path, "it is not that of these scores")
        likeness = metadata.get("typicality")
        refuse_other_embeddings(
            self._embeddings_path, rows, likeness if isinstance(likeness, dict) else {}
        )

    def _refuse_differences(self, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        if has_other_trusted(recorded, now) and (
            self._journal.exists() or self._embeddings_path.exists()
        ):
            recorded = {**recorded, TRUSTED: now[TRUSTED]}
        found = changed_settings(recorded, now)
        if found:
            raise OutputError(
                f"output {self.out}: was started with {'; '.join(found)}; resume it with the same, "
                "or start over with --overwrite"
            )

    def _open_files(self) -> None:
        """Open the streams where the header says that they end, and the journal at its end."""
        lengths = {
            s.partial: max(self._header.lengths[s.name], len(s.prefix)) for s in self._streams
        }
        for stream in self._streams:
            path, length = stream.partial, self._header.lengths[stream.name]
            if length == 0:
                with atomic.new_file(path) as file:
                    file.write(stream.prefix)
            size = path.stat().st_size
            if size < length:
                raise damaged(path, f"{size} bytes are left of {length}")
        atomic.sync_folder(self.out.parent)  # names must be on disk before a journal relies on them
        for path, length in lengths.items():
            file = self._files[path] = open(path, "r+b")  # noqa: SIM115 (closed by locked)
            file.truncate(length)
            file.seek(length)
        self._open_journal()

    def _open_journal(self) -> None:
        if self._journal in self._files:
            self._files[self._journal].close()
        self._files[self._journal] = open(self._journal, "ab")  # noqa: SIM115 (closed by locked)

    def _write_header(self, header: Header, ahead: Sequence[Mapping[str, Any]] = ()) -> None:
        content = encoded_line(header.to_json())
        if ahead:
            content += encoded_line({"seconds": 0.0, "outcomes": ahead})
        atomic.write_bytes(self._journal, content)
        self._header = header

    def _take_in(self, entry: Mapping[str, Any]) -> None:
        """Count outcomes, which wait until all before them are known."""
        outcomes: Sequence[dict[str, Any]] = entry["outcomes"]
        self._ahead |= {outcome["position"]: outcome for outcome in outcomes}
        self.tally += Tally.of(outcomes, entry["seconds"])

    def _write_in_order(self) -> None:
        while self._position in self._ahead:
            outcome = self._ahead.pop(self._position)
            for stream in self._streams:
                self._files[stream.partial].write(stream.content(outcome))
            self._position += 1
        for file in self._files.values():
            file.flush()  # so that they can be read already
        if self._position >= self._end_of_window:
            self._close_window()

    def _close_window(self, metadata: dict[str, Any] | None = None) -> None:
        ahead = list(self._ahead.values())  # of later windows, which others were computing
        for stream in self._streams:
            atomic.sync(self._files[stream.partial])
        header = replace(
            self._header,
            position=self._position,
            lengths={s.name: self._files[s.partial].tell() for s in self._streams},
            tally=self.tally - Tally.of(ahead, 0.0),
            metadata=metadata,
        )
        self._write_header(header, ahead)
        self._open_journal()

    def _publish(self) -> None:
        """Rename everything that the last header counts; may be repeated after a crash."""
        header = self._header
        assert header.metadata is not None
        if self._records.partial.exists():
            if not header.overwrites:
                refuse_unwritable(self.out)
                if os.path.lexists(self.out):
                    raise OutputError(
                        f"output {self.out}: has appeared since the run started; move it away and "
                        "give --resume, and the new scores take its place"
                    )
            atomic.write_json(self._metadata, header.metadata)
            if not any(stream.path == self._embeddings_path for stream in self._streams):
                self._embeddings_path.unlink(missing_ok=True)  # those of the old scores
            for stream in self._streams:
                stream.publish(header.lengths[stream.name], header.tally.num_scored)
                atomic.sync_folder(self.out.parent)
        copies.publish(self.out)  # while --resume still finds it here
        self._journal.unlink()
        atomic.sync_folder(self.out.parent)

    @contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, OutputError) as error:
            # Also for the files beside the scores, since users know the scores file.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            kept = self._journal.exists()
            raise cannot_be_written(
                self.out, cause, remedy="--resume continues from what is finished" if kept else ""
            ) from None
