"""Records as Parquet: a column per key, from which the same records can be read again.

Booleans, numbers, and strings are plain columns. What Parquet has no simple type for is a column of
JSON text: lists and objects, a key whose values differ in type, integers beyond 2**53, unpaired
surrogates. Each column says in its metadata how to read it, so only ``1`` and ``1.0`` of one key
become alike, and keys take the order in which they first appear.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from egl_fast.data.json_reading import text_lines
from egl_fast.data.jsonl import encoded_line
from egl_fast.data.strict_json import json_value
from egl_fast.display import json_text
from egl_fast.errors import ManifestError, MissingExtraError, one_line
from egl_fast.files import atomic

if TYPE_CHECKING:
    import pyarrow

#: How Parquet files begin and end.
MAGIC = b"PAR1"

#: Rows that are written, and read, at a time.
_ROWS = 10_000

#: In a column's metadata: its key, as JSON, and how its cells are read.
_KEY, _FORM = b"egl_fast.key", b"egl_fast.form"
#: A missing cell is null; a missing cell is a missing key; likewise, and others are JSON text.
_NULLABLE, _OPTIONAL, _JSON = b"nullable", b"optional", b"json"

#: Beyond them, a float does not hold every integer.
_EXACT = 2**53


def to_parquet(lines: Path, num_records: int) -> None:
    """Replace a file of JSON Lines with its records as Parquet; one that is Parquet stays.

    The same lines give the same bytes. Two passes, so that no more than ``_ROWS`` records are in
    memory.
    """
    import pyarrow
    import pyarrow.parquet

    if is_parquet(lines):
        return
    with open(lines, "rb") as file:
        schema = _schema(map(json_value, file), num_records)
        file.seek(0)
        records = map(json_value, file)
        table = lines.with_name(f"{lines.name}.parquet")
        with (
            atomic.new_file(table) as out,
            pyarrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer,
        ):
            while rows := list(islice(records, _ROWS)):
                columns = [pyarrow.array(_cells(rows, of), of.type) for of in schema]
                writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            writer.close()
            atomic.sync(out)
    os.replace(table, lines)
    atomic.sync_folder(lines.parent)


def record_lines(file: IO[bytes], source: str) -> Iterator[bytes]:
    """Records as JSON Lines, whether they are Parquet or text; see ``text_lines``.

    Args:
        file: open at its start, with ``peek`` and ``seek``.
        source: what to call the file in an error.

    Raises:
        ManifestError: the file is neither, is damaged, or holds a value without JSON form (NaN).
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if file.peek(len(MAGIC)).startswith(MAGIC):  # type: ignore[attr-defined]
        return _lines_of_rows(file, source)
    return text_lines(file, source)


def _lines_of_rows(file: IO[bytes], source: str) -> Iterator[bytes]:
    for number, record in enumerate(_records(file, source), start=1):
        try:
            yield encoded_line(record)
        except (ValueError, TypeError) as error:  # of a table that something else wrote
            raise ManifestError(f"{source}, row {number}: {one_line(error)}") from None


def to_json_lines(parquet: Path, lines: Path) -> None:
    """Write the records of a Parquet file as JSON Lines; the opposite of ``to_parquet``."""
    with open(parquet, "rb") as file, atomic.new_file(lines) as out:
        out.writelines(record_lines(file, f"scores {parquet}"))
        atomic.sync(out)


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_written_here(path: Path) -> bool:
    """Whether a Parquet file is from ``to_parquet``, by its footer, without pyarrow."""
    with open(path, "rb") as file:
        # ... footer, its length in four bytes, MAGIC
        end = path.stat().st_size - 8
        file.seek(max(0, end))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, end - length))
        return _FORM in file.read()


def _schema(records: Iterable[Mapping[str, Any]], num_records: int) -> pyarrow.Schema:
    import pyarrow

    kinds: dict[str, Counter[str]] = {}
    for record in records:
        for key, value in record.items():
            kinds.setdefault(key, Counter())[_kind(value)] += 1
    types = {
        "bool": pyarrow.bool_(),
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "str": pyarrow.string(),
    }
    fields = []
    for key, of in kinds.items():
        is_optional = of.total() < num_records
        found = set(of) - {"null"}
        if found in ({"int", "float"}, set()):
            found = {"float"}
        (kind, *others) = sorted(found)
        if others or kind == "json" or (is_optional and "null" in of):
            type_, form = pyarrow.string(), _JSON
        else:
            type_, form = types[kind], _OPTIONAL if is_optional else _NULLABLE
        name = key.encode("utf-8", "backslashreplace").decode()
        metadata = {_KEY: json.dumps(key).encode(), _FORM: form}
        fields.append(pyarrow.field(name, type_, metadata=metadata))
    return pyarrow.schema(fields)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "str" if value.isascii() or _is_utf8(value) else "json"
    if isinstance(value, (bool, float)):
        return type(value).__name__
    if isinstance(value, int) and abs(value) <= _EXACT:
        return "int"
    return "json"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cells(rows: Iterable[Mapping[str, Any]], field: pyarrow.Field) -> list[Any]:
    key = json.loads(field.metadata[_KEY])
    if field.metadata[_FORM] != _JSON:
        return [row.get(key) for row in rows]
    return [_ascii_json(row[key]) if key in row else None for row in rows]


def _ascii_json(value: object) -> str:
    text = json_text(value)
    return text if _is_utf8(text) else json.dumps(value)


def _records(file: IO[bytes], source: str) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            f"{source}: is Parquet, which needs pyarrow: pip install 'egl-fast[datasets]'"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            forms = [field.metadata or {} for field in table.schema_arrow]
            names = table.schema_arrow.names
            keys = [json.loads(form.get(_KEY, json.dumps(name)))
                    for form, name in zip(forms, names, strict=True)]  # fmt: skip
            how = [form.get(_FORM, _NULLABLE) for form in forms]
            for batch in table.iter_batches(_ROWS):
                columns = [column.to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    yield {
                        key: json_value(cell) if form == _JSON else cell
                        for key, form, cell in zip(keys, how, cells, strict=True)
                        if cell is not None or form == _NULLABLE
                    }
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ManifestError(
            f"{source}: cannot be read as Parquet ({one_line(error)}); copy it again"
        ) from None
