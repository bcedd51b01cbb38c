"""Where the picks of ``select`` and ``query`` go, and in what format."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from egl_fast.cli import options
from egl_fast.cli.extras import require_packages
from egl_fast.data.jsonl import FileWriter, refuse_name, refuse_other_formats, refuse_unwritable
from egl_fast.errors import OutputError
from egl_fast.files import atomic
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
    """A file or folder of picks. Like ``FileWriter``, it first refuses what is bound to fail.

    Args:
        out: where to; None or "-": standard output.
        chosen: what ``format_options`` got.
        overwrite: replace what is there.
        inputs: files that the command reads, which it never overwrites.

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

    def _format(self, name: str | None) -> Format:
        if name is None and self.path is not None and format_of(self.path) is None:
            refuse_other_formats(self.path)
        named = None if self.path is None else format_of(self.path)
        found = FORMATS[name] if name else named or FORMATS["jsonl"]
        if self.path is None and found.needs_folder:
            raise click.UsageError(
                f"--format {found.name} needs --out, the file or folder to write"
            )
        return found

    def _writer(self) -> FileWriter:
        return FileWriter(self.path, overwrite=self._overwrite, inputs=self._inputs)

    def _refuse_folder(self, path: Path) -> None:
        refuse_name(path)
        if not path.is_dir():
            refuse_unwritable(path, inputs=self._inputs)
        if path.exists() and not self._overwrite:
            raise OutputError(
                f"output {path}: already exists; give --overwrite to replace it, or another name"
            )
        if path.exists() and not (path / "dataset_info.json").is_file():
            raise OutputError(f"output {path}: is not a dataset to replace; name another")

    def _beside(self, files: Mapping[str, bytes]) -> dict[Path, bytes]:
        path = self.path
        return {} if path is None else {path.with_name(path.name + k): v for k, v in files.items()}

    @contextmanager
    def written(
        self, picks: Sequence[Record], scores: Sequence[float], *, is_found: bool
    ) -> Iterator[None]:
        """Write all picks, most informative first; they appear under their name at the end.

        Args:
            picks: their records, with ``rank``; relative paths start from the output's folder.
            scores: what they were ranked by.
            is_found: whether that is so, or it is unknown where relative paths start.
        """
        if self.format.needs_folder and not is_found:
            raise click.UsageError(
                f"--format {self.format.name} needs to know where relative audio paths start: give "
                "the pool's manifest with --pool"
            )
        if self.format.adds_score:
            picks = [{**one, "score": score} for one, score in zip(picks, scores, strict=True)]
        folder = Path() if self.path is None else self.path.parent
        sending = replace(self._sending, folder=folder)
        if self.format.chunks is not None:
            chunks = self.format.chunks(picks, sending)
            if self.path is not None and self.path.name.lower().endswith(".gz"):
                chunks = _gzipped(chunks)
            with self._writer() as file:
                try:
                    for chunk in chunks:
                        file.write_bytes(chunk)
                    for path, content in self._beside(self.format.beside(picks, sending)).items():
                        atomic.write_bytes(path, content)
                    yield
                except BaseException:
                    file.num_records = 0  # picks are soon made again: nothing is worth keeping
                    raise
        elif self.format.save is not None and self.path is not None:
            partial = self.path.with_name(self.path.name + atomic.PARTIAL)
            with atomic.as_output_error(self.path):
                shutil.rmtree(partial, ignore_errors=True)
                try:
                    self.format.save(picks, sending, partial)
                    yield
                    self._refuse_folder(self.path)
                    if self.path.exists():
                        shutil.rmtree(self.path)
                    os.replace(partial, self.path)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)


def _joinable(url: str) -> str:
    """An address that a path can follow: ``https://host/audio`` gets its slash."""
    return url if not url or url.endswith(("/", "=")) or "?" in url else f"{url}/"


def _gzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packed = zlib.compressobj(wbits=31)
    for chunk in chunks:
        yield packed.compress(chunk)
    yield packed.flush()
