"""The journal of a run that may be stopped: its header, its tally, and how it is read back.

What it is for, and what stands in it when: ``resumable_scores``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from egl_fast.data.json_reading import json_value
from egl_fast.errors import OutputError, one_line

FORMAT = "egl-fast scoring journal"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Tally:
    """What a run has done so far, over all its resumptions."""

    num_scored: int = 0
    num_failed: int = 0
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Header:
    """The journal's first line.

    Attributes:
        settings: all that decides the scores.
        overwrites: whether ``OUT`` may be replaced.
        position: outcomes before it are in the files.
        records_bytes: length of ``OUT.partial`` that holds them.
        errors_bytes: the same of ``OUT.errors.jsonl.partial``.
        tally: as of ``position``.
        metadata: of the finished run, or None.
    """

    settings: dict[str, Any]
    overwrites: bool
    position: int = 0
    records_bytes: int = 0
    errors_bytes: int = 0
    tally: Tally = Tally()
    metadata: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that stands in the journal."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Header:
        """The header that an object stands for.

        Raises:
            ValueError, KeyError, TypeError: it has another form.
        """
        values = {key: line[key] for key in cls.__dataclass_fields__}
        for key in ("position", "records_bytes", "errors_bytes"):
            if not isinstance(values[key], int) or values[key] < 0:
                raise ValueError(f"{key} {values[key]!r}")
        return cls(**{**values, "tally": Tally(**values["tally"])})


def read_journal(path: Path) -> tuple[Header, list[dict[str, Any]], int]:
    """The header, the outcomes after it, and the length of both in bytes.

    Raises:
        OutputError: it is damaged, or has another format version.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        header = json_value(lines[0])
        version = header["format_version"]
        if header["format"] == FORMAT and version != FORMAT_VERSION:
            raise OutputError(
                f"output {path}: has format version {version}, this egl-fast reads "
                f"{FORMAT_VERSION}; finish it with the egl-fast that began it, or start over "
                "with --overwrite"
            )
        entries = []
        for number, line in enumerate(lines[1:], start=1):
            try:
                entries.append(json_value(line))
            except ValueError:
                if number < len(lines) - 1:
                    raise
                del lines[-1]  # pages reach a disk in any order, so its end may be there alone
        return Header.from_json(header), entries, sum(len(line) + 1 for line in lines)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise damaged(path, one_line(error)) from None


def damaged(path: Path, what: str) -> OutputError:
    """What to raise where a file is not as we have written it."""
    return OutputError(f"output {path}: is damaged ({what}); start over with --overwrite")
