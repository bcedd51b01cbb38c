"""The settings that decide a run's result, compared when it is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from egl_fast.display import shortened

#: Of recordings that the pool was compared with, which costs little beside its scores.
TRUSTED = "trusted_sha256"
#: Settings that are hashes, and what of.
_FILES = {
    "model_sha256": "model",
    "pool_sha256": "manifest",
    TRUSTED: "--typicality",
    "train": "--train manifest",
    "valid": "--valid manifest",
    "init": "--init model",
    "vocabulary": "--vocabulary",
    "excluded": "--exclude",
}
#: Settings that mean nothing to a reader -> what to say where they differ.
_OTHERS = {
    "looked_at": "other recordings to look at",
    "recordings": "other recordings that could be read",
}
#: Nested settings whose entries are options.
_GROUPS = {"training"}
_OPTIONS = {"memory_bytes": "memory"}


def changed_settings(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the settings of a run that differ from the current ones.

    Args:
        recorded: plain values by name, as read from a file; keys missing in ``now`` are ignored.
        now: the current ones.

    Example:
        >>> changed_settings({"k": 50, "model_sha256": "0a"}, {"k": 100, "model_sha256": "3f"})
        ['--k 50 (now 100)', 'another model']
    """
    return list(_changes(recorded, now, options=True))


def has_other_trusted(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether both runs compare the pool with trusted recordings, but not with the same."""
    before, after = recorded.get(TRUSTED), now.get(TRUSTED)
    return before != after and None not in (before, after)


def _changes(
    recorded: Mapping[str, Any], now: Mapping[str, Any], *, options: bool
) -> Iterator[str]:
    for key, new in now.items():
        old = recorded.get(key)
        if old == new:
            continue
        if key in _OTHERS:
            yield _OTHERS[key]
        elif key in _FILES and old is None:
            yield f"no {_FILES[key]} (now one)"
        elif key in _FILES:
            yield f"{_FILES[key]} (now none)" if new is None else f"another {_FILES[key]}"
        elif isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, options=options and key in _GROUPS)
        else:
            name = f"--{_OPTIONS.get(key, key).replace('_', '-')}" if options else key
            yield f"{name} {_word(old)} (now {_word(new)})"


def _word(value: Any) -> str:
    # A file may have recorded anything.
    return "unset" if value is None else shortened(" ".join(str(value).split()), 100)
