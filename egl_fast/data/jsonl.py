"""Results as JSON Lines: strict JSON, one object per line, complete or absent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from egl_fast.display import json_text
from egl_fast.errors import EglError, OutputError
from egl_fast.files import atomic
from egl_fast.files.addresses import Address
from egl_fast.files.copies import origin_of
from egl_fast.files.locking import sole_writer

if TYPE_CHECKING:
    from typing_extensions import Self

#: Endings of names -> the formats they promise.
_FORMATS = {
    ".jsonl": "JSON Lines",
    **dict.fromkeys((".csv", ".tsv", ".psv"), "a table of text"),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "a spreadsheet"),
    **dict.fromkeys((".parquet", ".pq", ".arrow", ".feather", ".avro", ".orc"), "a binary table"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz"), "a compressed file"),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".duckdb"), "a database"),
    **dict.fromkeys(
        (".txt", ".md", ".log", ".srt", ".vtt", ".ctm", ".stm", ".trn", ".scp"), "text"
    ),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".pkl", ".npy", ".npz", ".onnx"), "a model or array"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"), "a recording"),
    **dict.fromkeys((".html", ".htm", ".xml", ".pdf"), "a page"),
    **dict.fromkeys((".yaml", ".yml", ".toml", ".ini"), "a configuration"),
    ".json": "one JSON value",
}


def encoded_line(record: Mapping[str, Any]) -> bytes:
    """One record as a line of UTF-8; raises ``ValueError`` for a value without JSON form (NaN)."""
    return f"{json_text(record)}\n".encode()


#: Endings of files that runs keep beside an output.
_BESIDE = (".partial", ".journal", ".lock", ".errors.jsonl", ".meta.json")
_LONGEST_BESIDE = ".embeddings.npy.partial"


def refuse_name(path: Path) -> None:
    """Raise ``OutputError`` for a name that is too long, or used for files beside outputs."""
    suffix = next((suffix for suffix in _BESIDE if path.name.endswith(suffix)), None)
    if suffix is not None:
        raise OutputError(
            f"output {path}: names ending in {suffix} are reserved for files beside outputs; give "
            "another name"
        )
    try:
        longest = os.pathconf(path.parent, "PC_NAME_MAX") - len(_LONGEST_BESIDE)
    except OSError:  # refuse_unwritable reports a missing folder.
        return
    excess = len(os.fsencode(path.name)) - longest
    if excess > 0:
        raise OutputError(
            f"output {path}: its name is too long for the files kept beside it; shorten it by "
            f"{excess} bytes"
        )


def refuse_unwritable(path: Path, *, inputs: Iterable[str | None] = ()) -> None:
    """Report at once what would fail at the end, or destroy a file by mistake.

    Args:
        path: the output.
        inputs: files that the command reads, which no option lets it overwrite.

    Raises:
        OutputError: the path is a folder, a device, or an input, or its folder is missing or
            read-only.
    """
    if path.is_dir():
        raise OutputError(f"output {path}: is a folder; name a file in it")
    read = [x for x in inputs if x is not None]
    origin = origin_of(path)
    is_read = isinstance(origin, Address) and origin in map(origin_of, read)
    if path.exists():
        # A rename would replace /dev/null, for everyone.
        if not path.is_file():
            raise OutputError(
                f"output {path}: is a pipe or device, not a file; name a file, or omit --out for "
                "standard output"
            )
        is_read = is_read or any(os.path.exists(x) and path.samefile(x) for x in read)
    if is_read:
        raise OutputError(f"output {path}: is a file that this command reads; give another name")
    if not path.parent.is_dir():
        raise OutputError(
            f"output {path}: its folder {path.parent} does not exist; create it, or name another"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"output {path}: its folder {path.parent} is not writable; name another")


def promised_by(path: Path) -> str | None:
    """The format that the ending of a file's name promises; None where it promises none."""
    return _FORMATS.get(path.suffix.lower())


def refuse_other_formats(path: Path) -> None:
    """Raise ``OutputError`` for a file name that promises something other than JSON Lines."""
    found = promised_by(path)
    if found not in (None, "JSON Lines"):
        name = f"{path.stem.removesuffix('.jsonl')}.jsonl"
        raise OutputError(
            f"output {path}: is named like {found}, but JSON Lines are written; name it {name}"
        )


class FileWriter:
    """Writes records to ``<path>.partial``, which is renamed to ``path`` on success.

    The constructor refuses outputs that are bound to fail, so commands make their writer first,
    before they compute anything. Nothing is created before the context is entered. An exception
    that leaves the context keeps the records written so far in the partial file (a file without
    records is removed); the next run with the same output starts over.

    Args:
        path: the file to write; None or "-" is standard output, to which records go at once.
        overwrite: replace an existing file.
        inputs: see ``refuse_unwritable``.
        only_if_any: the file lists failures beside another output. Without any, there is no file,
            and one left by an earlier run is removed.

    Raises:
        OutputError: the file exists and may not be overwritten, or ``refuse_unwritable`` raises it.
            So do all methods if the system refuses to write.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        overwrite: bool = False,
        inputs: Iterable[str | None] = (),
        only_if_any: bool = False,
    ) -> None:
        self.path = None if path is None or str(path) == "-" else Path(path)
        self.overwrite = overwrite
        self.inputs = tuple(inputs)
        self.only_if_any = only_if_any
        self.num_records = 0
        self._file: BinaryIO | None = None
        self._lock = ExitStack()
        if self.path is not None:
            self._refuse(self.path)

    def _refuse(self, path: Path) -> None:
        if not self.only_if_any:
            refuse_name(path)
        refuse_unwritable(path, inputs=self.inputs)
        if path.exists() and not self.overwrite:
            raise OutputError(
                f"output {path}: already exists; give --overwrite to replace it, or another name"
            )

    @property
    def partial_path(self) -> Path | None:
        """Where the records are until the end; None for standard output."""
        return None if self.path is None else self.path.with_name(self.path.name + atomic.PARTIAL)

    def __enter__(self) -> Self:
        """Create the partial file; raises ``OutputError`` if another run is writing the same
        output.
        """
        with ExitStack() as stack, self._as_output_error():
            if self.path is None:
                # Records are UTF-8, whatever the locale, so they go to the underlying bytes;
                # text printed earlier must come out first.
                if sys.stdout is None:
                    raise OutputError("standard output is closed; give a file with --out")
                sys.stdout.flush()
                self._file = sys.stdout.buffer
            else:
                lock = self.path.with_name(f"{self.path.name}.lock")
                stack.enter_context(sole_writer(lock, of=f"output {self.path}"))
                assert self.partial_path is not None
                self._file = atomic.new_file(self.partial_path)
            self._lock = stack.pop_all()
        return self

    def write_bytes(self, record: bytes) -> None:
        """Write one record in its format."""
        assert self._file is not None, "writing belongs inside the writer's context"
        with self._as_output_error():
            self._file.write(record)
        self.num_records += 1

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        assert self._file is not None, "flush() belongs inside the writer's context"
        with self._as_output_error():
            self._file.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the partial file, and rename it after success."""
        try:
            with self._lock, self._as_output_error():
                self._finish(succeeded=kind is None)
        except EglError:
            # The exception that broke the loop matters more, and may have caused this one.
            if kind is None:
                raise

    def _finish(self, *, succeeded: bool) -> None:
        assert self._file is not None
        if self.path is None or self.partial_path is None:
            self._file.flush()
            return
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        is_wanted = self.num_records > 0 or not self.only_if_any
        if succeeded and is_wanted:
            self._refuse(self.path)
            os.replace(self.partial_path, self.path)
        elif self.num_records == 0:
            self.partial_path.unlink()
            if succeeded and self.overwrite:
                self.path.unlink(missing_ok=True)
        atomic.sync_folder(self.path.parent)

    def _as_output_error(self) -> AbstractContextManager[None]:
        return atomic.as_output_error("to standard output" if self.path is None else self.path)


class JsonlWriter(FileWriter):
    r"""Writes JSON Lines; a file name that promises another format is an ``OutputError``, too.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "scores.jsonl")
        ...     with JsonlWriter(path) as writer:
        ...         writer.write({"id": "a", "egl": 0.5})
        ...     path.read_text()
        '{"id": "a", "egl": 0.5}\n'
    """

    def _refuse(self, path: Path) -> None:
        super()._refuse(path)
        refuse_other_formats(path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record. Raises ``ValueError``, writing nothing, if a value has no JSON form
        (NaN).
        """
        self.write_bytes(encoded_line(record))
