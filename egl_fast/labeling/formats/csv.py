"""A table for spreadsheets, with a column ``text`` to type into.

A spreadsheet runs a cell that starts with ``=``, ``+``, ``-``, ``@``, a tab, or a carriage return
as a formula, and transcripts and paths come from strangers. Such a text gets an apostrophe in
front, and so does one that looks as if it had got one. Reading takes it off again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from egl_fast.display import json_text
from egl_fast.errors import ManifestError, one_line
from egl_fast.labeling.formats.format import Delivered, Format, Record, Sending

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"''*[=+\-@\t\r]")
#: What must not come back as text, since manifests have it as a number.
_NUMBERS = ("duration", "offset")
_FIRST = ("rank", "id", "text", "pred_text", "audio_filepath", "duration", "score")


def chunks(records: Sequence[Record], sending: Sending) -> Iterator[bytes]:
    """A header and a line per record; the mark at the start tells spreadsheets that it is UTF-8.

    The header comes with the first line.
    """
    columns = dict.fromkeys(_FIRST)
    for record in records:
        columns.update(dict.fromkeys(record))
    columns.pop("hypotheses", None)  # a list has no place in a cell, and there is no room for it
    header = b"\xef\xbb\xbf" + _line(list(columns))
    for record in records:
        yield header + _line([record.get(column) for column in columns])
        header = b""
    if header:
        yield header


def _line(values: Sequence[Any]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(map(_cell, values))
    return line.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    return json_text(value)


def table(text: str, source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What to call each line, and its cells by column.

    Raises ``ManifestError`` if a line has more cells than the header.
    """
    first = text.partition("\n")[0]
    # Spreadsheets write semicolons where the comma is for decimals.
    separator = max(",;\t", key=first.count)
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in lines:
            where = f"{source}, line {lines.line_num}"
            if None in cells:
                raise ManifestError(f"{where}: has more cells than the header; quote its commas")
            yield where, {name: cell or "" for name, cell in cells.items()}
    except csv.Error as error:
        raise ManifestError(f"{source}: is not CSV ({one_line(error)}); export it again") from None


def delivered(cells: dict[str, str], where: str) -> Delivered:
    """A line of a table that ``chunks`` wrote, perhaps saved by a spreadsheet since."""
    cells = {name: cell[1:] if _GUARDED.match(cell) else cell for name, cell in cells.items()}
    if not cells.get("id"):
        raise ManifestError(
            f"{where}: has no 'id'; keep the columns 'id' and 'text' of the table that was sent"
        )
    if "text" not in cells:
        raise ManifestError(f"{where}: has no column 'text'; keep that of the table that was sent")
    record: Record = {name: cell for name, cell in cells.items() if cell}
    try:
        record |= {name: float(record[name]) for name in _NUMBERS if name in record}
    except ValueError as error:
        raise ManifestError(f"{where}: {one_line(error)}") from None
    return Delivered(cells["id"], cells["text"] or None, record, where)


FORMAT = Format(
    name="csv",
    description="a table for spreadsheets, safe against formulas; transcripts go into `text`",
    suffixes=(".csv",),
    chunks=chunks,
)
