"""The characters that a new model writes, read from a file."""

from __future__ import annotations

import re
from pathlib import Path

from egl_fast.data.json_reading import decompressed, read_file, text_of
from egl_fast.data.strict_json import json_value
from egl_fast.errors import ManifestError, one_line

_BLANK = "<blank>"
_SPACE = "<space>"

#: A list's start: a bracket, and a string on one line. Brackets and quotes can be characters, too.
_JSON = re.compile(r'\s*\[\s*(\]|"[^\r\n])')


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """The classes that a file lists, after the blank, which is added at index 0.

    Args:
        path: UTF-8 text with one character per line, in the order of classes, ``<space>`` standing
            for the space; or a JSON list of strings.

    Raises:
        ManifestError: the file cannot be read or is empty, or a label is a duplicate or not a
            single character; the message names the line.
    """
    source = f"vocabulary {path}"
    text = text_of(decompressed(read_file(path, source), source), source).removeprefix("\ufeff")
    if _JSON.match(text):
        labels = _listed(text, source)
    else:
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        labels = [(f"line {n}", line) for n, line in enumerate(lines, start=1) if line]
    found: dict[str, str] = {}
    for where, label in labels:
        character = " " if label.strip() == _SPACE else label
        # A character may have spaces around it, or be a space itself.
        if len(character) > 1:
            character = character.strip()
        if len(character) != 1:
            hint = "omit the blank, it is added" if character == _BLANK else "give one"
            raise ManifestError(f"{source}, {where}: {label!r} is not a single character; {hint}")
        if character in found:
            raise ManifestError(
                f"{source}, {where}: {character!r} is already {found[character]}; remove one"
            )
        found[character] = where
    if not found:
        raise ManifestError(f"{source}: lists no characters; write one per line, {_SPACE} included")
    return (_BLANK, *found)


def _listed(text: str, source: str) -> list[tuple[str, str]]:
    try:
        labels = json_value(text)
    except ValueError as error:
        raise ManifestError(f"{source}: not JSON ({one_line(error)})") from None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ManifestError(f"{source}: is not a list of strings; write one")
    return [(f"entry {number}", label) for number, label in enumerate(labels, start=1)]
