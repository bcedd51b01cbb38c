"""What a new model is to write: a file of characters."""

from __future__ import annotations

from pathlib import Path

from egl_fast.data.json_reading import decompressed, json_value, read_file, text_of
from egl_fast.errors import ManifestError, one_line

_BLANK = "<blank>"
_SPACE = "<space>"


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """The classes that a file names, after the blank, which is added at index 0.

    Args:
        path: UTF-8 text, one character per line in the order of classes, ``<space>`` being the
            space; or a JSON list of strings.

    Raises:
        ManifestError: the file cannot be read, a label is not a single character or occurs twice,
            or there is none; the message names the line.
    """
    source = f"vocabulary {path}"
    text = text_of(decompressed(read_file(path, source), source), source).removeprefix("\ufeff")
    if text.lstrip().startswith('["') or text.lstrip().startswith("[\n"):
        labels = _listed(text, source)
    else:
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        labels = [(f"line {n}", line) for n, line in enumerate(lines, start=1) if line]
    found: dict[str, str] = {}
    for where, label in labels:
        character = " " if label.strip() == _SPACE else label
        # What stands alone on a line but for spaces around it; or is a space itself.
        if len(character) > 1:
            character = character.strip()
        if len(character) != 1:
            hint = "leave the blank out, it is added" if character == _BLANK else "give one"
            raise ManifestError(f"{source}, {where}: {label!r} is not a single character; {hint}")
        if character in found:
            raise ManifestError(
                f"{source}, {where}: {character!r} is already {found[character]}; remove one"
            )
        found[character] = where
    if not found:
        raise ManifestError(f"{source}: names no character; write one per line, {_SPACE} included")
    return (_BLANK, *found)


def _listed(text: str, source: str) -> list[tuple[str, str]]:
    try:
        labels = json_value(text)
    except ValueError as error:
        raise ManifestError(f"{source}: not JSON ({one_line(error)})") from None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ManifestError(f"{source}: is not a list of strings; write one")
    return [(f"entry {number}", label) for number, label in enumerate(labels, start=1)]
