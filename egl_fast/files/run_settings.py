"""What decides the result of a run, compared when it is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any

#: Settings that are no option of a command, in words.
_FILES = {
    "model_sha256": "another model",
    "pool_sha256": "another manifest",
    "train": "another --train manifest",
    "valid": "another --valid manifest",
    "init": "another --init model",
    "vocabulary": "another --vocabulary",
    "recordings": "other recordings that could be read",
}
#: Settings that hold options; what others hold is no option.
_GROUPS = {"training"}
_OPTIONS = {"memory_bytes": "memory"}


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, what a run's settings were where they are not the same now.

    Args:
        recorded: plain values by name, as a file holds them; what ``now`` lacks is left out.
        now: the same, of the run that wants to go on.

    Example:
        >>> differences({"k": 50, "model_sha256": "0a"}, {"k": 100, "model_sha256": "3f"})
        ['--k 50 (now 100)', 'another model']
    """
    return list(_differences(recorded, now, options=True))


def _differences(
    recorded: Mapping[str, Any], now: Mapping[str, Any], *, options: bool
) -> Iterator[str]:
    for key, new in now.items():
        old = recorded.get(key)
        if old == new:
            continue
        if key in _FILES:
            yield _FILES[key]
        elif isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, options=options and key in _GROUPS)
        else:
            name = f"--{_OPTIONS.get(key, key).replace('_', '-')}" if options else key
            yield f"{name} {_word(old)} (now {_word(new)})"


def _word(value: Any) -> str:
    # What a file recorded may be anything.
    return "unset" if value is None else shorten(str(value), 100, placeholder=" ...")
