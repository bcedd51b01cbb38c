"""How a pool's scores were made, as far as the files beside them tell; nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import plain, shown_text

Fact = tuple[str, str]

_HASH_DIGITS = 12


def of_scores(pool: ScoresFile) -> tuple[list[Fact], str | None]:
    """What ``SCORES.meta.json`` says of a scores file.

    Returns:
        (what, its value) of all that is known; and a warning where the metadata are of another
        file, or damaged.
    """
    path = pool.path.with_name(f"{pool.path.name}.meta.json")
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return [], None
    except (OSError, ValueError, RecursionError):
        said = None
    name = shown_text(path.name)
    if not isinstance(said, dict):
        return [], f"{name} cannot be read, so this page does not say how the scores were made."
    scored = _integer(said, "num_scored")
    if scored is not None and scored != len(pool):
        return [], (
            f"{name} belongs to other scores ({scored:,} records; this file holds {len(pool):,}), "
            "so this page does not say how the scores were made."
        )
    facts = [
        ("Model", _hashed(said, "model_sha256")),
        ("Pool", _pool(said)),
        *_scoring(said),
        ("Parameters", _text(said, "params")),
        ("Seed", _number(said, "seed")),
        ("Precision", _text(said, "precision")),
        ("Device", _text(said, "gpu") or _text(said, "device")),
        ("Could not be scored", _number(said, "num_failed") if said.get("num_failed") else ""),
        ("Scored by", _versions(said)),
    ]
    return [(what, value) for what, value in facts if value], None


def of_run(config: str | None) -> list[Fact]:
    """What a run's ``config.toml`` says of how its pool was scored."""
    try:
        said = _toml(config or "")
    except (ValueError, RecursionError, ImportError):
        return []
    scoring, data = said.get("scoring"), said.get("data")
    sources = data.get("pool") if isinstance(data, dict) else None
    manifests = [
        _in_folder(source, "manifest") for source in (sources if isinstance(sources, list) else [])
    ]
    facts = [
        ("Starting model", _name_of(said.get("model"), "init")),
        ("Pool", ", ".join(dict.fromkeys(name for name in manifests if name))),
        *(_scoring(scoring) if isinstance(scoring, dict) else []),
    ]
    return [(what, value) for what, value in facts if value]


def in_a_line(facts: list[Fact]) -> str:
    """The facts that a reader wants first."""
    named = {"Model": "model ", "Pool": "pool ", "K": "K = ", "Method": "method "}
    parts = [f"{named[what]}{value}" for what, value in facts if what in named]
    return f"Scores: {', '.join(parts)}." if parts else ""


def _scoring(said: Mapping[str, Any]) -> list[Fact]:
    method = _text(said, "method")
    tolerance, probes = _number(said, "tolerance"), _number(said, "probes")
    if method == "lowrank" and tolerance:
        method += f" (tolerance {tolerance})"
    if method == "probe" and probes:
        method += f" ({probes} probes)"
    return [
        ("K", _number(said, "k")),
        ("Beam width", _number(said, "beam_width")),
        ("Method", method),
        (
            "Labelings drawn for EGL full",
            _number(said, "full_samples") if said.get("full", True) is True else "",
        ),
    ]


def _pool(said: Mapping[str, Any]) -> str:
    """The manifest's name without its folders, which are private, and its hash."""
    name, digest = _name_of(said, "pool"), _hashed(said, "pool_sha256")
    return f"{name} ({digest})" if name and digest else name or digest


def _versions(said: Mapping[str, Any]) -> str:
    versions = said.get("versions")
    if not isinstance(versions, dict):
        return ""
    named = (("egl-fast", _text(versions, "egl_fast")), ("torch", _text(versions, "torch")))
    return ", ".join(f"{name} {version}" for name, version in named if version)


def _name_of(said: object, key: str) -> str:
    return Path(_text(said, key)).name if isinstance(said, dict) else ""


def _in_folder(said: object, key: str) -> str:
    """The last two parts of a path: manifests of corpora tend to have one name."""
    return "/".join(Path(_text(said, key)).parts[-2:]) if isinstance(said, dict) else ""


def _hashed(said: Mapping[str, Any], key: str) -> str:
    digest = _text(said, key)
    return f"SHA-256 {digest[:_HASH_DIGITS]}" if digest else ""


def _text(said: Mapping[str, Any], key: str) -> str:
    return shown_text(said.get(key), most=200)


def _integer(said: Mapping[str, Any], key: str) -> int | None:
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        return ""
    return str(value) if isinstance(value, int) else plain(value)


def _toml(text: str) -> dict[str, Any]:
    try:
        toml = import_module("tomllib")
    except ImportError:  # Python 3.10
        toml = import_module("tomli")
    content: dict[str, Any] = toml.loads(text)
    return content
