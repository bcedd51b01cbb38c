"""Strict reading of a TOML file: every error names the file, the line, and what to do."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from egl_fast.errors import ConfigError, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Keys from the root down; the items of an array are numbered from 0.
KeyPath: TypeAlias = tuple[str | int, ...]

Value = TypeVar("Value")
Default = TypeVar("Default")

_ANY_LINE = re.compile(r"\(?at line (\d+), column \d+\)?")


class TomlSource:
    """A TOML file with overrides, and where each of its keys comes from.

    Args:
        path: the file.
        overrides: ``key=value`` each; the key dotted, the value in TOML or else a plain string.

    Raises:
        ConfigError: the file is missing or not TOML; an override is malformed, or leads nowhere.
    """

    def __init__(self, path: Path, overrides: Sequence[str] = ()) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"config {path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"config {path}: cannot be read ({one_line(error)})") from None
        try:
            self.root: dict[str, Any] = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # numbers too long, arrays too deep, too
            found = _ANY_LINE.search(str(error))
            line = found[1] if found else str(text.count("\n") + 1)
            message = _ANY_LINE.sub("", one_line(error)).strip()
            raise ConfigError(f"config {path}, line {line}: not TOML ({message})") from None
        self._text = text
        self._overrides: dict[KeyPath, str] = {}
        for override in overrides:
            self._override(override)

    def where(self, path: KeyPath) -> str:
        """The place of a key, or of whatever encloses it most closely in the file."""
        for end in range(len(path), 0, -1):
            # Everything below an override came with it, whatever the file says.
            if path[:end] in self._overrides:
                return self._overrides[path[:end]]
        for end in range(len(path), 0, -1):
            line = line_of(self._text, path[:end])
            if line is not None:
                return f"config {self.path}, line {line}"
            for overridden, place in self._overrides.items():
                if overridden[:end] == path[:end]:
                    return place
        return f"config {self.path}"

    def error(self, path: KeyPath, message: str) -> ConfigError:
        """The error that says where a key is and what is wrong with it."""
        return ConfigError(f"{self.where(path)}: {message}")

    def table(self) -> Table:
        """The whole file."""
        return Table(self, (), self.root)

    def _override(self, override: str) -> None:
        dotted, equals, text = override.partition("=")
        keys = dotted.strip().split(".")
        place = f"--set {override}"
        if not equals or not all(keys):
            raise ConfigError(f"{place}: expected key=value, such as seeds=[0,1]")
        at: Any = self.root
        path: KeyPath = ()
        for number, key in enumerate(keys):
            step: str | int = key
            if isinstance(at, list):
                if not re.fullmatch("[0-9]{1,9}", key) or int(key) >= len(at):
                    raise ConfigError(
                        f"{place}: {_dotted(path)} has items 0 to {len(at) - 1}, got {key!r}"
                    )
                step = int(key)
            elif not isinstance(at, dict):
                raise ConfigError(f"{place}: {_dotted(path)} is not a table")
            path = (*path, step)
            if number == len(keys) - 1:
                at[step] = _toml_value(text.strip())
            elif isinstance(at, dict):
                at = at.setdefault(step, {})
            else:
                at = at[step]
        self._overrides[path] = place


class Table:
    """One table, read strictly: a key that is never read is an error.

    Args:
        source: the file.
        path: where the table is.
        content: what it holds.
    """

    def __init__(self, source: TomlSource, path: KeyPath, content: dict[str, Any]) -> None:
        self.source = source
        self.path = path
        self.content = content
        self._known: list[str] = []

    def error(self, name: str | None, message: str) -> ConfigError:
        """The error about one of the table's keys, or about the table itself."""
        path = self.path if name is None else (*self.path, name)
        label = _dotted(path)
        return self.source.error(path, f"{label}: {message}" if label else message)

    def missing(self, name: str, advice: str) -> ConfigError:
        """The error about a key that is not there."""
        return self.source.error(self.path, f"{_dotted((*self.path, name))} is missing; {advice}")

    def get(self, name: str, kind: Callable[[Any], Value], default: Default) -> Value | Default:
        """The value of a key, or the default; ``kind`` raises ValueError for a wrong one."""
        if name not in self.content:
            self._known.append(name)
            return default
        return self.required(name, kind, "")

    def required(self, name: str, kind: Callable[[Any], Value], advice: str) -> Value:
        """The value of a key that must be there."""
        self._known.append(name)
        if name not in self.content:
            raise self.missing(name, advice)
        try:
            return kind(self.content[name])
        except ValueError as error:
            raise self.error(name, str(error)) from None

    def table(self, name: str) -> Table:
        """A table below; empty if it is not there."""
        self._known.append(name)
        content = self.content.get(name, {})
        if not isinstance(content, dict):
            raise self.error(name, f"expected a table, got {content!r}")
        return Table(self.source, (*self.path, name), content)

    def tables(self, name: str) -> Iterator[Table]:
        """The items of an array of tables; none if it is not there."""
        self._known.append(name)
        items = self.content.get(name, [])
        if not isinstance(items, list):
            raise self.error(name, f"expected an array of tables, got {items!r}")
        for number, item in enumerate(items):
            table = Table(self.source, (*self.path, name, number), item)
            if not isinstance(item, dict):
                raise table.error(None, f"expected a table, got {item!r}")
            yield table

    def finish(self) -> None:
        """Refuse the keys that were never read.

        Raises:
            ConfigError: there is one; the message names it and the key that was probably meant.
        """
        for name in self.content:
            if name not in self._known:
                close = difflib.get_close_matches(name, self._known, n=1)
                advice = (
                    f"did you mean {close[0]}?" if close else "known: " + ", ".join(self._known)
                )
                path = (*self.path, name)
                raise self.source.error(path, f"unknown key {_dotted(path)}; {advice}")


def line_of(text: str, path: KeyPath) -> int | None:
    """The line, from 1, on which the statement begins that defines a key in a TOML text.

    No TOML library for Python says. But the text up to the end of the statement is TOML that has
    the key, and the text before the statement is TOML that does not.

    Args:
        text: what ``tomllib`` has read without complaint.
        path: of a key, a table or an array's item.

    Example:
        >>> line_of("seeds = [1]\\n[[data.pool]]\\nmanifest = 'p'", ("data", "pool", 0, "manifest"))
        3
    """
    lines = text.split("\n")
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            at: Any = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:  # in the middle of a statement
            continue
        try:
            for key in path:
                at = at[key]
        except (KeyError, IndexError, TypeError):
            start = end + 1
        else:
            return start
    return None


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError, KeyError):
        return text
