"""The journal of a run that may be stopped. ``resumable_scores`` says what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from egl_fast.data.strict_json import json_value
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

    @classmethod
    def of(cls, outcomes: Sequence[Mapping[str, Any]], seconds: float) -> Tally:
        """Of outcomes as the journal holds them, found within some seconds."""
        scored = [outcome["record"] for outcome in outcomes if "record" in outcome]
        audio_seconds = sum(record["duration"] for record in scored)
        return cls(len(scored), len(outcomes) - len(scored), audio_seconds, seconds)

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Header:
    """The journal's first line."""

    settings: dict[str, Any]  # everything that affects the scores
    overwrites: bool  # whether the scores file may be replaced
    position: int = 0  # outcomes before this position are in the streams
    # Bytes of each stream that hold them, by the stream's name.
    lengths: dict[str, int] = field(default_factory=dict)
    tally: Tally = Tally()  # as of ``position``
    # of a run that is complete except for renaming its files; otherwise None
    metadata: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The object in the journal."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "overwrites": self.overwrites,
            "position": self.position,
            **{f"{name}_bytes": length for name, length in self.lengths.items()},
            "tally": asdict(self.tally),
            "metadata": self.metadata,
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any], streams: Sequence[str]) -> Header:
        """The header for an object in a journal of these streams.

        Raises:
            ValueError, KeyError, TypeError: it has another form.
        """
        counts = {key: line[key] for key in ("position", *(f"{name}_bytes" for name in streams))}
        for key, value in counts.items():
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{key} {value!r}")
        return cls(
            line["settings"],
            line["overwrites"],
            counts["position"],
            {name: counts[f"{name}_bytes"] for name in streams},
            Tally(**line["tally"]),
            line["metadata"],
        )


def read_journal(path: Path, streams: Sequence[str]) -> tuple[Header, list[dict[str, Any]], int]:
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
                f"{FORMAT_VERSION}; finish it with the egl-fast that started it, or start over "
                "with --overwrite"
            )
        entries = []
        for number, line in enumerate(lines[1:], start=1):
            try:
                entries.append(json_value(line))
            except ValueError:
                if number < len(lines) - 1:
                    raise
                del lines[-1]  # pages reach the disk in any order, so only the end may be there
        return Header.from_json(header, streams), entries, sum(len(line) + 1 for line in lines)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise damaged(path, one_line(error)) from None


def damaged(path: Path, what: str) -> OutputError:
    """The error for a file that is not as we wrote it."""
    return OutputError(f"output {path}: is damaged ({what}); start over with --overwrite")
