"""Formats that picks are written in, and read back from; one file each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from egl_fast.data.json_reading import json_lines, open_lines, text_of
from egl_fast.errors import ManifestError, one_line
from egl_fast.labeling.formats import csv, hf, jsonl, label_studio, lhotse, nemo
from egl_fast.labeling.formats.format import Delivered, Format, Record, Sending

__all__ = ["FORMATS", "Delivered", "Format", "Record", "Sending", "format_of", "read_back"]

#: By name; the first is the default.
FORMATS: Final[dict[str, Format]] = {
    module.FORMAT.name: module.FORMAT for module in (jsonl, csv, label_studio, lhotse, nemo, hf)
}

#: White space, and the bytes of a byte order mark.
_BLANK: Final = b" \t\r\n\xef\xbb\xbf"


def format_of(path: Path) -> Format | None:
    """The format that a name ends in, also with ``.gz``; the longest ending counts."""
    name = path.name.lower().removesuffix(".gz")
    found = [
        (len(end), one) for one in FORMATS.values() for end in one.suffixes if name.endswith(end)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def read_back(path: str, *, from_name: str) -> Iterator[Delivered]:
    """The recordings of a file in any of the formats, or that a tool made of one.

    What it is shows in its content: objects of JSON, on a line each or in an array, are those of a
    manifest, Lhotse cuts, or tasks or an export (JSON, JSON-MIN) of Label Studio; other text is
    CSV, ours or Label Studio's; a folder is a dataset.

    Args:
        path: the file, gzipped or not.
        from_name: Label Studio's name for the text area with the transcript.

    Raises:
        ManifestError: it is something else; the message names the line.
    """
    if os.path.isdir(path):
        yield from _told(hf.read(Path(path)), path)
        return
    with open_lines(path, path) as lines:
        start: list[bytes] = []  # as far as the first line that is not blank
        while not (start and start[-1].strip(_BLANK)) and (line := next(lines, b"")):
            start.append(line)
        lines = chain(start, lines)
        if b"".join(start).strip(_BLANK)[:1] in (b"{", b"[", b""):
            for _, where, item in json_lines(lines, path):
                yield from _told(_of_object(item, where, from_name), where)
            return
        text = text_of(b"".join(lines), path).removeprefix("\ufeff")
    for where, cells in csv.table(text, path):
        yield from _told(_of_cells(cells, where, from_name), where)


def _of_object(item: Record, where: str, from_name: str) -> Iterator[Delivered]:
    if label_studio.is_task(item):
        yield from label_studio.delivered(item, where, from_name)
    else:
        yield (lhotse if lhotse.is_cut(item) else jsonl).delivered(item, where)


def _of_cells(cells: dict[str, str], where: str, from_name: str) -> Iterator[Delivered]:
    if "utterance_id" in cells:
        yield from label_studio.delivered(cells, where, from_name)
    else:
        yield csv.delivered(cells, where)


def _told(found: Iterator[Delivered], where: str) -> Iterator[Delivered]:
    """What a reader finds; a structure that no tool of ours writes becomes a ``ManifestError``."""
    try:
        for one in found:
            one.check()
            yield one
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ManifestError(
            f"{where}: is not what its tool writes ({type(error).__name__}: {one_line(error)}); "
            "export it again"
        ) from None
