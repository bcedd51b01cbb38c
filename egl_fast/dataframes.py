"""Tables of pandas or polars: records to tables, tables to rows.

Neither package is imported before a caller passes in, or asks for, one of its tables.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard, overload

from egl_fast.errors import MissingExtraError
from egl_fast.records import ScoreRecord, to_json

if TYPE_CHECKING:
    import pandas
    import polars

#: In order of preference. Some of our extras install polars, so its presence does not show that the
#: user works with it.
_LIBRARIES = ("pandas", "polars")


class Table(Protocol):
    """The common interface of pandas' and polars' DataFrames."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    def __len__(self) -> int: ...


@overload
def to_dataframe(
    records: Iterable[ScoreRecord | Mapping[str, Any]], *, library: Literal["polars"]
) -> polars.DataFrame: ...


@overload
def to_dataframe(
    records: Iterable[ScoreRecord | Mapping[str, Any]], *, library: Literal["pandas"]
) -> pandas.DataFrame: ...


@overload
def to_dataframe(records: Iterable[ScoreRecord | Mapping[str, Any]]) -> Any: ...


def to_dataframe(
    records: Iterable[ScoreRecord | Mapping[str, Any]],
    *,
    library: Literal["pandas", "polars"] | None = None,
) -> Any:
    """A table with a row for each record, and a column for each key of a scores file.

    Args:
        records: from a ``Scorer``, or objects read from a scores file.
        library: of the table; None: pandas if it is installed, else polars.

    Returns:
        Columns as in a scores file: the manifest's keys, then the scores. In polars, a column whose
        values are not all of one simple kind is text: JSON, for what is not a string.

    Raises:
        MissingExtraError: the library is not installed.
        ValueError: another library is asked for.
    """
    if library not in (None, *_LIBRARIES):
        raise ValueError(f"library: expected one of {', '.join(_LIBRARIES)}, got {library!r}")
    wanted = _LIBRARIES if library is None else (library,)
    found = next((name for name in wanted if find_spec(name) is not None), None)
    if found is None:
        raise MissingExtraError(
            f"to_dataframe needs {' or '.join(wanted)}: pip install "
            + ("'egl-fast[notebook]'" if library is None else library)
        )
    rows = [one if isinstance(one, Mapping) else to_json(one) for one in records]
    names = dict.fromkeys(key for row in rows for key in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return _polars(columns) if found == "polars" else _pandas(columns)


def _pandas(columns: Mapping[str, Sequence[Any]]) -> pandas.DataFrame:
    import pandas

    escaped = {
        utf8(name): [utf8(x) if isinstance(x, str) else x for x in values]
        for name, values in columns.items()
    }
    return pandas.DataFrame(escaped)


def _polars(columns: Mapping[str, Sequence[Any]]) -> polars.DataFrame:
    import polars

    return polars.DataFrame(
        [
            hypotheses_column(values) if name == "hypotheses" else polars_column(name, values)
            for name, values in columns.items()
        ]
    )


def polars_column(name: str, values: Sequence[Any]) -> polars.Series:
    """Numbers or booleans, if all values are; else text, JSON for values that are not strings."""
    import polars as pl

    name = utf8(name)
    kinds = {type(value) for value in values if value is not None}
    largest = max((abs(value) for value in values if type(value) is int), default=0)
    if kinds == {int} and largest < 2**63:
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float} and largest <= 2**53:  # which floats hold exactly
        return pl.Series(name, values, dtype=pl.Float64)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    texts = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    return pl.Series(name, [text and utf8(text) for text in texts], dtype=pl.String)


def hypotheses_column(
    values: Sequence[Sequence[Mapping[str, Any]] | None], *, keys: Collection[str] | None = None
) -> polars.Series:
    """Lists of hypotheses as a scores file has them; ``keys`` are those to keep, None for all."""
    import polars as pl

    kinds = {
        "text": pl.String(),
        "labels": pl.List(pl.Int64()),
        "log_prob": pl.Float64(),
        "sq_grad_norm": pl.Float64(),
        "sq_grad_norm_stderr": pl.Float64(),
    }
    kept = {key: kind for key, kind in kinds.items() if keys is None or key in keys}
    lists = [
        None if value is None else [{**one, "text": utf8(one["text"])} for one in value]
        for value in values
    ]
    return pl.Series("hypotheses", lists, dtype=pl.List(pl.Struct(kept)))


def utf8(text: str) -> str:
    """Lone surrogates, which manifests may contain, have no UTF-8 form, only an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_table(value: object) -> TypeGuard[Table]:
    """Whether a value is a DataFrame of pandas or polars."""
    home = type(value).__module__.partition(".")[0]
    return home in _LIBRARIES and type(value).__name__ == "DataFrame"


def rows_of(table: Table) -> Iterator[dict[str, Any]]:
    """The rows of a DataFrame; keys without a value (null, NaN, NaT) are left out."""
    frame: Any = table
    rows: Iterable[dict[str, Any]] = (
        frame.iter_rows(named=True) if hasattr(frame, "iter_rows") else frame.to_dict("records")
    )
    for row in rows:
        yield {str(key): value for key, value in row.items() if not _is_missing(value)}


def _is_missing(value: object) -> bool:
    # Works without importing pandas: its NA has no truth value, NaN and NaT differ from themselves.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value
