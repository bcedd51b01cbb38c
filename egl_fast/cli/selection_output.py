"""Where the picks of ``select`` and ``query`` go, and in what format."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from click.core import ParameterSource

from egl_fast.cli import options
from egl_fast.cli.extras import require_packages
from egl_fast.data.jsonl import (
    FileWriter,
    JsonlWriter,
    refuse_name,
    refuse_other_formats,
    refuse_unwritable,
)
from egl_fast.errors import OutputError
from egl_fast.files import atomic
from egl_fast.files.copies import folder_of, origin_of
from egl_fast.labeling.formats import FORMATS, Format, Record, Sending, format_of
from egl_fast.labeling.formats.format import LOCAL_FILES

_FORMAT = click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    help="What to write: see the list below [default: by the ending of --out, else jsonl].",
)
_SENDING = (
    click.option(
        "--audio-url",
        default=LOCAL_FILES,
        show_default=True,
        metavar="PREFIX",
        help="With label-studio: what stands before the path of a recording. The default is for "
        "files on the disk of Label Studio; or https://HOST/FOLDER/, or s3://BUCKET/.",
    ),
    click.option(
        "--audio-root",
        type=options.FOLDER,
        default="/",
        show_default=True,
        help="With label-studio: the folder that --audio-url stands for; for files on its disk, "
        "its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.",
    ),
    click.option(
        "--from-name",
        default=Sending.from_name,
        show_default=True,
        metavar="NAME",
        help="With label-studio: name of the text area for the transcript.",
    ),
    click.option(
        "--to-name",
        default=Sending.to_name,
        show_default=True,
        metavar="NAME",
        help="With label-studio: name of the audio.",
    ),
)
_FOR_LABEL_STUDIO = ("audio_url", "audio_root", "from_name", "to_name")
#: Arguments of a command with ``format_options``.
FORMAT_OPTIONS = ("format_name", *_FOR_LABEL_STUDIO)


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how picks are written; see ``PicksOutput``."""
    return _FORMAT(sending_options(command))


def sending_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how Label Studio finds recordings; see ``sending_of``."""
    for option in reversed(_SENDING):
        command = option(command)
    return command


def sending_of(chosen: Mapping[str, Any], formats: Iterable[str]) -> Sending:
    """What ``sending_options`` got.

    Raises:
        click.UsageError: an option is given, but no format that needs it.
    """
    context = click.get_current_context()
    for name in _FOR_LABEL_STUDIO:
        given = context.get_parameter_source(name) is not ParameterSource.DEFAULT
        if given and "label-studio" not in formats:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} does nothing without --format label-studio")
    return Sending(
        audio_url=_joinable(chosen["audio_url"]),
        audio_root=Path(chosen["audio_root"]),
        from_name=chosen["from_name"],
        to_name=chosen["to_name"],
    )


def described() -> dict[str, str]:
    """Format -> what it is, with the endings that stand for it."""
    return {
        name: f"{', '.join(one.suffixes)}: {one.description}" if one.suffixes else one.description
        for name, one in FORMATS.items()
    }


class PicksOutput:
    """A file or folder of picks, and what is written beside it: all of it, or nothing.

    Like ``FileWriter``, it first refuses what is bound to fail.

    Args:
        out: where to; None or "-": standard output.
        chosen: what ``format_options`` got.
        overwrite: replace what is there.
        inputs: files that the command reads, which it never overwrites.
        lists: names of the further lists, each in ``OUT.NAME.jsonl`` if it has any records.

    Raises:
        OutputError: it cannot be written, or its name promises another format.
        click.UsageError: options do not fit the format.
    """

    def __init__(
        self,
        out: str | None,
        chosen: dict[str, Any],
        *,
        overwrite: bool,
        inputs: Iterable[str | None],
        lists: Iterable[str] = (),
    ) -> None:
        self.path = None if out is None or out == "-" else Path(out)
        self._overwrite, self._inputs = overwrite, tuple(inputs)
        self.format = self._format(chosen["format_name"])
        self._sending = sending_of(chosen, [self.format.name])
        if self.format.name == "hf":
            require_packages("--format hf", {"pyarrow": "pyarrow"}, extra="datasets")
        for path in self._beside(self.format.beside([], self._sending)):
            FileWriter(path, overwrite=overwrite, inputs=self._inputs)
        if self.format.chunks is not None:
            self._writer()  # refuses
        elif self.path is not None:
            self._refuse_folder(self.path)
        self._lists: dict[str, JsonlWriter] = {}
        if self.path is not None:
            refuse_unwritable(self.metadata_path, inputs=self._inputs)
            self._refuse_existing(self.metadata_path)
            self._lists = {
                name: JsonlWriter(
                    self.beside(f".{name}.jsonl"),
                    overwrite=overwrite,
                    inputs=self._inputs,
                    only_if_any=True,
                )
                for name in lists
            }

    def _format(self, name: str | None) -> Format:
        named = None if self.path is None else format_of(self.path)
        if self.path is not None and named is None and name is None:
            refuse_other_formats(self.path)
        found = FORMATS[name] if name else named or FORMATS["jsonl"]
        if self.path is None and found.needs_folder:
            raise click.UsageError(
                f"--format {found.name} needs --out, the file or folder to write"
            )
        if self.path is not None and not found.fits(self.path):
            raise OutputError(
                f"output {self.path}: ends in {self.path.suffix}, which is not what --format "
                f"{found.name} writes; give another name, or leave out --format"
            )
        return found

    def _writer(self) -> FileWriter:
        return FileWriter(self.path, overwrite=self._overwrite, inputs=self._inputs)

    def _refuse_folder(self, path: Path) -> None:
        if origin_of(path) != path:
            raise OutputError(
                f"output {path}: --format {self.format.name} writes a folder; name one on a disk"
            )
        refuse_name(path)
        if not path.is_dir():
            refuse_unwritable(path, inputs=self._inputs)
        self._refuse_existing(path)
        if path.exists() and not (path / "dataset_info.json").is_file():
            raise OutputError(f"output {path}: is not a dataset to replace; name another")

    def _refuse_existing(self, path: Path) -> None:
        if path.exists() and not self._overwrite:
            raise OutputError(
                f"output {path}: already exists; give --overwrite to replace it, or another name"
            )

    def beside(self, suffix: str) -> Path:
        """The path of a file beside the output, which is not standard output."""
        assert self.path is not None
        return self.path.with_name(self.path.name + suffix)

    @property
    def metadata_path(self) -> Path:
        """Where the metadata go."""
        return self.beside(".meta.json")

    def _beside(self, files: Mapping[str, bytes]) -> dict[Path, bytes]:
        return {} if self.path is None else {self.beside(k): v for k, v in files.items()}

    def write(
        self,
        picks: Sequence[Record],
        scores: Sequence[float],
        *,
        is_found: bool,
        lists: Mapping[str, Iterable[Record]] = MappingProxyType({}),
        metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Write all picks, most informative first, and all that belongs beside them.

        Everything is written under other names first. Then earlier picks are removed, and the new
        ones get their name last: whenever this is interrupted, picks and what is beside them are of
        one run, or there are no picks.

        Args:
            picks: their records, with ``rank``; relative paths start from the output's folder.
            scores: what they were ranked by.
            is_found: whether that is so, or it is unknown where relative paths start.
            lists: records by the names that the constructor was given.
            metadata: of the selection.
        """
        if self.format.needs_folder and not is_found:
            raise click.UsageError(
                f"--format {self.format.name} needs to know where relative audio paths start: give "
                "the pool's manifest with --pool"
            )
        if self.format.adds_score:
            picks = [{**one, "score": score} for one, score in zip(picks, scores, strict=True)]
        folder = Path() if self.path is None else folder_of(self.path)
        sending = replace(self._sending, folder=folder)
        if self.format.chunks is not None:
            chunks = self.format.chunks(picks, sending)
            if self.path is not None and self.path.name.lower().endswith(".gz"):
                chunks = _gzipped(chunks)
            with self._writer() as file:
                try:
                    for chunk in chunks:
                        file.write_bytes(chunk)
                    file.flush()
                    self._write_beside(lists, metadata, self.format.beside(picks, sending))
                except BaseException:
                    file.num_records = 0  # picks are soon made again: nothing is worth keeping
                    raise
        elif self.format.save is not None and self.path is not None:
            partial = self.beside(atomic.PARTIAL)
            with atomic.as_output_error(self.path):
                shutil.rmtree(partial, ignore_errors=True)
                try:
                    self.format.save(picks, sending, partial)
                    self._write_beside(lists, metadata, {})
                    self._refuse_folder(self.path)
                    os.replace(partial, self.path)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)

    def _write_beside(
        self,
        lists: Mapping[str, Iterable[Record]],
        metadata: Mapping[str, Any],
        files: Mapping[str, bytes],
    ) -> None:
        if self.path is None:
            return
        metadata_file = {self.metadata_path: atomic.json_bytes(metadata)}
        with ExitStack() as stack:
            for name, records in lists.items():
                writer = stack.enter_context(self._lists[name])
                for record in records:
                    writer.write(record)
                writer.flush()
            for path, content in (self._beside(files) | metadata_file).items():
                file = stack.enter_context(atomic.replacing(path))
                file.write(content)
                file.flush()
            if self.format.chunks is None and self.path.exists():
                self._refuse_folder(self.path)
                shutil.rmtree(self.path)
            elif self._overwrite:
                self.path.unlink(missing_ok=True)


def _joinable(url: str) -> str:
    """An address that a path can follow: ``https://host/audio`` gets its slash."""
    return url if not url or url.endswith(("/", "=")) or "?" in url else f"{url}/"


def _gzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packed = zlib.compressobj(wbits=31)
    for chunk in chunks:
        yield packed.compress(chunk)
    yield packed.flush()
