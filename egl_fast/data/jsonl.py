"""Results as JSON Lines: strict JSON, one object a line, complete or not there at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from egl_fast.display import json_text
from egl_fast.errors import EglError, OutputError
from egl_fast.files import atomic
from egl_fast.files.locking import sole_writer

#: Endings of names -> the format that they promise.
_OTHER_FORMATS = {
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
    """One record as one line of UTF-8.

    Raises:
        ValueError: a value has no form in JSON, such as NaN.
    """
    return f"{json_text(record)}\n".encode()


#: What runs add to the name of an output, for files that they keep beside it.
_BESIDE = (".partial", ".journal", ".lock", ".errors.jsonl", ".meta.json")
_LONGEST_BESIDE = ".errors.jsonl.partial"


def refuse_name(path: Path) -> None:
    """Refuse the name of an output that belongs to another one, or to which nothing can be added.

    Raises:
        OutputError: it does, or is too long.
    """
    suffix = next((suffix for suffix in _BESIDE if path.name.endswith(suffix)), None)
    if suffix is not None:
        raise OutputError(
            f"output {path}: names in {suffix} are for what runs keep beside their outputs; give "
            "another name"
        )
    try:
        longest = os.pathconf(path.parent, "PC_NAME_MAX") - len(_LONGEST_BESIDE)
    except OSError:  # Of a folder that is not there, others say more.
        return
    excess = len(os.fsencode(path.name)) - longest
    if excess > 0:
        raise OutputError(
            f"output {path}: its name is too long for what is kept beside it; shorten it by "
            f"{excess} bytes"
        )


def refuse_unwritable(path: Path, *, inputs: Iterable[str | None] = ()) -> None:
    """Say at once what is bound to fail at the end, or to destroy a file by mistake.

    Args:
        path: the output.
        inputs: files that the command reads, which no option lets it overwrite.

    Raises:
        OutputError: the path is a folder, a device or an input, or its folder is missing or may
            not be written to.
    """
    if path.is_dir():
        raise OutputError(f"output {path}: is a folder; name a file in it")
    if path.exists():
        # A rename would put a file in the place of /dev/null, for everybody.
        if not path.is_file():
            raise OutputError(
                f"output {path}: is a pipe or device, not a file; name a file, or leave --out out "
                "for standard output"
            )
        if any(x is not None and os.path.exists(x) and path.samefile(x) for x in inputs):
            raise OutputError(f"output {path}: is what this command reads; give another name")
    if not path.parent.is_dir():
        raise OutputError(
            f"output {path}: its folder {path.parent} does not exist; make it, or name another"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"output {path}: its folder {path.parent} may not be written to; name another"
        )


def refuse_other_formats(path: Path) -> None:
    """Say that this would write JSON Lines into a file whose name promises something else.

    Raises:
        OutputError: the name ends like that of another format.
    """
    found = _OTHER_FORMATS.get(path.suffix.lower())
    if found is not None:
        name = f"{path.stem.removesuffix('.jsonl')}.jsonl"
        raise OutputError(
            f"output {path}: is named like {found}, but what is written is JSON Lines; name it "
            f"{name}"
        )


class JsonlWriter:
    """Writes records to ``<path>.partial``, which becomes ``path`` when all has gone well.

    The constructor refuses what is bound to fail, so that a command which makes its writer
    first says so before it has computed anything. Nothing is created before the context is
    entered. Leaving it by an exception keeps the records written so far in the partial file,
    and removes one that holds none; the next run to the same output starts it over.

    Args:
        path: the file to write; None or "-" is standard output, where records go as they are.
        overwrite: replace a file that exists.
        inputs: see ``refuse_unwritable``.
        only_if_any: the file lists failures beside another output, and is named like it. Where
            there are none there is no file; what an earlier run left at ``path`` is removed.

    Raises:
        OutputError: the file exists and may not be overwritten, or its name promises another
            format; or see ``refuse_unwritable``.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "scores.jsonl")
        ...     with JsonlWriter(path) as writer:
        ...         writer.write({"id": "a", "egl": 0.5})
        ...     path.read_text()
        '{"id": "a", "egl": 0.5}\\n'
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
        refuse_other_formats(path)
        if path.exists() and not self.overwrite:
            raise OutputError(
                f"output {path}: exists already; give --overwrite to replace it, or another name"
            )

    @property
    def partial_path(self) -> Path | None:
        """Where the records are until the end; None for standard output."""
        return None if self.path is None else self.path.with_name(self.path.name + atomic.PARTIAL)

    def __enter__(self) -> JsonlWriter:
        """Create the partial file.

        Raises:
            OutputError: it cannot be created, or another run is writing the file.
        """
        with ExitStack() as stack, self._as_output_error():
            if self.path is None:
                # Bytes, because JSON Lines are UTF-8 whatever the locale says of text; flushed,
                # so that what was printed as text before does not come out after them.
                if sys.stdout is None:
                    raise OutputError("standard output is closed; give --out, a file")
                sys.stdout.flush()
                self._file = sys.stdout.buffer
            else:
                lock = self.path.with_name(f"{self.path.name}.lock")
                stack.enter_context(sole_writer(lock, of=f"output {self.path}"))
                assert self.partial_path is not None
                self._file = atomic.new_file(self.partial_path)
            self._lock = stack.pop_all()
        return self

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record as one line of UTF-8.

        Raises:
            OutputError: the disk is full or the like.
            ValueError: a value has no form in JSON, such as NaN; nothing is written.
        """
        line = encoded_line(record)
        assert self._file is not None, "write() belongs inside the writer's context"
        with self._as_output_error():
            self._file.write(line)
        self.num_records += 1

    def flush(self) -> None:
        """Hand everything written so far to the operating system.

        Raises:
            OutputError: the disk is full or the like.
        """
        assert self._file is not None, "flush() belongs inside the writer's context"
        with self._as_output_error():
            self._file.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the partial file, and after success give it its name.

        Raises:
            OutputError: that fails, or ``path`` has come into being and may not be overwritten.
        """
        try:
            with self._lock, self._as_output_error():
                self._finish(succeeded=kind is None)
        except EglError:
            # What broke the loop is the better news, and may well be the cause of this.
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
