"""The ways of choosing that a simulation compares: all that `select` can do, and controls."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from egl_fast import kinds
from egl_fast.display import shown
from egl_fast.errors import SelectionError, one_line
from egl_fast.evaluation.simulation.filters import Filter, read_filter
from egl_fast.evaluation.simulation.toml_reading import KeyPath, Table
from egl_fast.evaluation.table_columns import CONTROLS, ON_REQUEST
from egl_fast.selection import Candidates, batches
from egl_fast.selection.gate import Gate
from egl_fast.selection.strategies import Strategy, described, split_unit, strategy_of

#: Rankings that need no model, so later rounds would give the same as the first.
_MODEL_FREE: Final = frozenset({"random", "longest", "shortest"})


@dataclass(frozen=True)
class Choice:
    """A strategy alone, or a table of [choices]; other attributes have the names used there.

    Attributes:
        name: in tables and progress lines.
        listed: what the file's ``strategies`` call it; a file's path is absolute.
        strategy: what to rank by; a file's path is absolute.
        score: its function.
        per: key -> the most utterances of each of its values.
        without: a filter whose matches are not candidates; impossible in practice.
        path: its place in the file, for errors.
    """

    name: str
    listed: str
    strategy: str
    score: Strategy = field(compare=False)
    path: KeyPath
    batch: str | None = None
    share: str | None = None
    per: tuple[tuple[str, int], ...] = ()
    drop_atypical: str | None = None
    min_typicality: float | None = None
    without: Filter = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_own(self) -> bool:
        """Whether its strategy is a function of the user's."""
        return ":" in self.strategy

    @property
    def is_gated(self) -> bool:
        """Whether recordings that are unlike the base set's speech are left out."""
        return self.drop_atypical is not None or self.min_typicality is not None

    @property
    def needs_embeddings(self) -> bool:
        """Whether it needs more than scores; a user's function might."""
        return self.is_gated or self.batch is not None or self.is_own

    @property
    def needs_oracles(self) -> bool:
        """Whether it ranks by an oracle score, which is computed only on request."""
        return self.strategy in ON_REQUEST

    @property
    def is_model_free(self) -> bool:
        """Whether its picks do not depend on the model."""
        return split_unit(self.strategy)[0] in _MODEL_FREE and not self.needs_embeddings

    @property
    def depends_on_prices(self) -> bool:
        """Whether its order depends on what a budget is spent on."""
        return self.batch is not None or self.share is not None

    @property
    def table(self) -> dict[str, Any] | None:
        """Its table in the file; None for a strategy alone."""
        if self.path[0] != "choices":
            return None
        names = ("strategy", "batch", "share", "drop_atypical", "min_typicality", "without")
        found = {name: getattr(self, name) for name in names} | {"per": dict(self.per)}
        return {name: value for name, value in found.items() if value not in (None, {})}


def read_choices(root: Table, folder: Path) -> tuple[tuple[Choice, ...], dict[str, str]]:
    """What ``strategies`` list, with the tables of [choices] and ``strategy_sha256``.

    Args:
        root: of the file.
        folder: where the file is.

    Returns:
        The choices; the user's files -> hash of their content.

    Raises:
        ConfigError: a strategy or option is unknown, or a file of the user's cannot be used; the
            message names the line.
    """
    files = _Files(root.table("strategy_sha256"), folder)
    tables = root.table("choices")
    named = {
        name: _table_choice(tables.table(name), name, files, tables) for name in tables.content
    }
    listed = root.required("strategies", kinds.list_of(kinds.text), 'list some, such as ["egl"]')
    choices: list[Choice] = []
    for number, name in enumerate(listed):
        choice = named.get(name) or _plain_choice(name, ("strategies", number), files, root)
        if any(choice.name == other.name for other in choices):
            raise root.error("strategies", f"{shown(choice.name)} is listed twice")
        choices.append(choice)
    used = {split_unit(choice.strategy)[0].rpartition(":")[0] for choice in choices}
    return tuple(choices), {path: sha for path, sha in files.hashes.items() if path in used}


class _Files:
    """The user's files: each is read once, and must be the one that an earlier run recorded."""

    def __init__(self, recorded: Table, folder: Path) -> None:
        self.hashes: dict[str, str] = {}
        self._recorded = recorded
        self._known = {
            str((folder / key).resolve()): (key, recorded.required(key, kinds.text, ""))
            for key in recorded.content
        }
        self._folder = folder

    def resolved(self, name: str) -> str:
        """FILE.py:FUNCTION with the file's absolute path; other names as they are."""
        path, colon, function = name.rpartition(":")
        return f"{(self._folder / path).resolve()}:{function}" if colon else name

    def strategy(self, name: str) -> Strategy:
        """The function of a strategy, whose name is resolved.

        Raises:
            SelectionError: as ``strategy_of``.
            ConfigError: the file is not the recorded one.
        """
        if name in CONTROLS and name not in described():
            return partial(_oracle, name)
        path = split_unit(name)[0].rpartition(":")[0]
        if path and path not in self.hashes and Path(path).is_file():
            try:
                found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            except OSError as error:
                raise SelectionError(f"strategy {name!r}: {one_line(error)}") from None
            key, expected = self._known.get(path, (path, found))
            if expected != found:
                raise self._recorded.error(
                    key, "has changed since then; remove this line to run with the current version"
                )
            self.hashes[path] = found
        return strategy_of(name)


def _oracle(name: str, candidates: Candidates) -> list[float]:
    return candidates.numbers(name)


def _plain_choice(name: str, path: KeyPath, files: _Files, root: Table) -> Choice:
    strategy = files.resolved(name)
    try:
        score = files.strategy(strategy)
    except SelectionError as error:
        if ":" in name or split_unit(name)[0] in described():
            raise root.error("strategies", str(error)) from None
        known = ", ".join([*described(), *(c for c in CONTROLS if c not in described())])
        raise root.error(
            "strategies",
            f"expected one of {known}, NAME/second, a name of [choices] or FILE.py:FUNCTION, got "
            f"{shown(name)}",
        ) from None
    return Choice(_called(strategy), strategy, strategy, score, path)


def _called(strategy: str) -> str:
    """A file goes by its name, without its folder."""
    plain, unit = split_unit(strategy)
    path, colon, function = plain.rpartition(":")
    name = f"{Path(path).name}:{function}" if colon else plain
    return f"{name}/{unit}" if unit else name


def _table_choice(table: Table, name: str, files: _Files, tables: Table) -> Choice:
    if not name or ":" in name or split_unit(name)[0] in {*described(), *CONTROLS}:
        raise tables.error(name, "is a strategy's name, or looks like one; give the table another")
    strategy = files.resolved(table.required("strategy", kinds.text, "name what to rank by"))
    try:
        score = files.strategy(strategy)
    except SelectionError as error:
        raise table.error("strategy", str(error)) from None
    limits = table.table("per")
    choice = Choice(
        name,
        name,
        strategy,
        score,
        table.path,
        batch=table.get("batch", kinds.OneOf(*batches.described()), None),
        share=table.get("share", kinds.text, None),
        per=tuple((key, limits.required(key, kinds.Integer(1), "")) for key in limits.content),
        drop_atypical=table.get("drop_atypical", _least_typical, None),
        min_typicality=table.get("min_typicality", kinds.Number(), None),
        without=read_filter(table.table("without")),
    )
    table.finish()
    for one, other in (("batch", "share"), ("drop_atypical", "min_typicality")):
        if None not in (getattr(choice, one), getattr(choice, other)):
            raise table.error(other, f"{one} is given already; remove one of them")
    return choice


def _least_typical(value: Any) -> str:
    found = kinds.text(value)
    try:
        if found != "auto":
            Gate.of(found, None)
    except SelectionError:
        raise ValueError(
            f'expected a percentage below 100, such as "10%", or "auto", got {shown(found)}'
        ) from None
    return found


def plain_choices(choices: tuple[Choice, ...], files: Mapping[str, str]) -> dict[str, Any]:
    """What ``read_choices`` read, as TOML values."""
    tables = {choice.name: choice.table for choice in choices if choice.table is not None}
    return {
        "strategies": [choice.listed for choice in choices],
        "choices": tables or None,
        "strategy_sha256": dict(files) or None,
    }
