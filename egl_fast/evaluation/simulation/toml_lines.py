"""Where in a TOML text each key stands, which no TOML library of Python tells."""

from __future__ import annotations

import re
from typing import TypeAlias

#: Keys from the root down; the items of an array are numbered from 0.
KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every key, table header and array item.

    Args:
        text: what ``tomllib`` has read without complaint; anything else gives nonsense.

    Example:
        >>> lines = key_lines("seeds = [1]\\n[[data.pool]]\\nmanifest = 'p'")
        >>> lines[("data", "pool", 0, "manifest")]
        3
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._table: KeyPath = ()
        self._num_items: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return self.lines
            if self.text[self.at] == "[":
                self._header()
            else:
                self._pair(self._table)

    def _header(self) -> None:
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        *parents, last = self._keys()
        path: KeyPath = ()
        for key in parents:
            path = self._newest((*path, key))
            self._mark(path)
        path = (*path, last)
        if is_array:
            self._mark(path)
            number = self._num_items.get(path, 0)
            self._num_items[path] = number + 1
            path = (*path, number)
        self._mark(path)
        self._table = path
        self.at += 2 if is_array else 1

    def _newest(self, path: KeyPath) -> KeyPath:
        """Below the name of an array of tables a header means its last table."""
        return (*path, self._num_items[path] - 1) if path in self._num_items else path

    def _pair(self, table: KeyPath) -> None:
        start = self.at
        path = table
        for key in self._keys():
            path = (*path, key)
            self._mark(path, start)
        self._skip(_SPACE)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            match = _STRING.match(self.text, self.at) or _BARE.match(self.text, self.at)
            assert match is not None
            name = match.group()
            keys.append(name[1:-1] if name[0] in "\"'" else name)
            self.at = match.end()
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        opening = self.text[self.at]
        if opening == "[":
            self._items(path, "]")
        elif opening == "{":
            self._items(path, "}")
        else:
            match = _STRING.match(self.text, self.at) or _SCALAR.match(self.text, self.at)
            assert match is not None
            self.at = match.end()

    def _items(self, path: KeyPath, closing: str) -> None:
        self.at += 1
        number = 0
        while True:
            self._skip(_BLANK)
            if self.text[self.at] == closing:
                self.at += 1
                return
            if closing == "]":
                self._mark((*path, number))
                self._value((*path, number))
            else:
                self._pair(path)
            number += 1
            self._skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1

    def _mark(self, path: KeyPath, at: int | None = None) -> None:
        line = self.text.count("\n", 0, self.at if at is None else at) + 1
        self.lines.setdefault(path, line)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
