"""How a pool's scores were made, as far as the files beside them tell; nothing is guessed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from egl_fast.embeddings.file import embeddings_path
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import plain, shown_text
from egl_fast.scores import not_of_one_pool
from egl_fast.scoring.options import ScoringOptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Fact = tuple[str, str]

_HASH_DIGITS = 12
#: Options of `select` that its metadata hold.
_SELECT = (
    "budget", "strategy", "cost", "batch", "share", "per", "drop_atypical", "min_typicality",
    "keep_group",
)  # fmt: skip
#: Options that may be files, whose folders are private.
_FILES = ("strategy", "exclude")


def of_scores(pool: ScoresFile) -> tuple[list[Fact], str | None]:
    """What ``SCORES.meta.json`` says about a scores file.

    Returns:
        (what, its value) for all that is known; and a warning where the metadata are damaged,
        belong to another file, or say that this is a part of the pool.
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
    scored = said.get("num_picks", said.get("num_scored"))  # the former in a selection's
    if type(scored) is int and scored != len(pool):
        return [], (
            f"{name} belongs to other scores ({scored:,} records; this file holds {len(pool):,}), "
            "so this page does not say how the scores were made."
        )
    other = not_of_one_pool(said, len(pool))
    versions = _table(said, "versions")
    named = {"egl-fast": _text(versions, "egl_fast"), "torch": _text(versions, "torch")}
    return _known(
        ("Model", _file(said, "model")),
        ("Pool", _file(said, "manifest" if "manifest" in said else "pool")),
        *_scoring(said),
        ("Command", _command(said)),
        ("Parameters", _text(said, "params")),
        ("Seed", _number(said, "seed")),
        ("Precision", _text(said, "precision")),
        ("Device", _text(said, "gpu") or _text(said, "device")),
        ("Could not be scored", _number(said, "num_failed") if said.get("num_failed") else ""),
        ("Scored by", ", ".join(f"{name} {version}" for name, version in named.items() if version)),
    ), None if other is None else f"{name}: {shown_text(other, most=300)}."


def missing(pool: ScoresFile) -> str:
    """Which files that `score` writes beside its scores are not there, as a sentence, or ""."""
    name, absent = shown_text(pool.path.name), []
    if not pool.path.with_name(f"{pool.path.name}.meta.json").exists():
        absent.append(f"{name}.meta.json (how they were made, and where the gate cuts)")
    has_typicality = not np.isnan(pool.typicality).any()
    if has_typicality and not embeddings_path(pool.path).is_file():
        absent.append(f"{embeddings_path(name)} (which recordings are copies)")
    return f"Not beside the scores: {' and '.join(absent)}." if absent else ""


def of_run(config: str | None) -> list[Fact]:
    """What a run's ``config.toml`` says about how its pool was scored."""
    try:
        said = tomllib.loads(config or "")
    except (ValueError, RecursionError):
        return []
    sources = _table(said, "data").get("pool")
    # The last two parts of a path: manifests of corpora tend to have the same name.
    manifests = [
        "/".join(Path(_text(source, "manifest")).parts[-2:])
        for source in (sources if isinstance(sources, list) else [])
        if isinstance(source, dict)
    ]
    return _known(
        ("Starting model", Path(_text(_table(said, "model"), "init")).name),
        ("Pool", ", ".join(dict.fromkeys(filter(None, manifests)))),
        *_scoring(_table(said, "scoring")),
    )


def _command(said: Mapping[str, Any]) -> str:
    """The command that metadata tell of, without folders; "" where they don't."""
    if "looked_at" in said:
        words = ["query", "--model", _name(said, "model"), "--pool", _name(said, "manifest")]
        # What `query` is given unless asked for something else.
        given = {**dict.fromkeys(_SELECT), "k": 100, "params": None, "confidence": None}
        given |= {"effort": 10.0, "seed": 0}
    elif "num_picks" in said:
        words, given = ["select", _name(said, "scores")], dict.fromkeys(_SELECT)
        given |= {"exclude": None, "seed": 0}
    else:
        words = ["score", "--model", _name(said, "model"), "--pool", _name(said, "pool")]
        given = {own.name: own.default for own in fields(ScoringOptions)}
        said = {**said, "full": said.get("full_samples") is not None}
        k = said.get("k")
        # Filled in when nobody gave it.
        given["beam_width"] = max(10 * k, 100) if isinstance(k, int) else None
    if "" in words:
        return ""
    for name, default in given.items():
        value = said.get(name)
        if value in (None, False, default):
            continue
        for one in value if isinstance(value, list) else [value]:
            parts = one if isinstance(one, list) else [one]
            words.append(f"--{name.replace('_', '-')}")
            if name in _FILES:
                parts = [Path(str(one)).name]
            if one is not True:
                words.append("=".join(shown_text(str(part), most=200) for part in parts))
    # In a shard's metadata, the trusted recordings stand by themselves.
    trusted = _table(said, "typicality").get("trusted", said.get("trusted"))
    if words[0] != "select" and isinstance(trusted, str) and trusted:
        words += ["--typicality", shown_text(Path(trusted).name)]
    if words[0] == "score":
        for name in ("limit", "shard"):
            if said.get(name) is not None:
                words += [f"--{name}", shown_text(str(said[name]), most=40)]
    return shlex.join(["egl-fast", *words])


def in_a_line(facts: list[Fact]) -> str:
    """The facts that a reader wants first."""
    named = {"Model": "model ", "Pool": "pool ", "K": "K = ", "Method": "method "}
    parts = [f"{named[what]}{value}" for what, value in facts if what in named]
    return f"Scores: {', '.join(parts)}." if parts else ""


def command_in(facts: list[Fact]) -> str:
    """The command that made the scores, or ""."""
    return dict(facts).get("Command", "")


def _known(*facts: Fact) -> list[Fact]:
    return [(what, value) for what, value in facts if value]


def _scoring(said: Mapping[str, Any]) -> list[Fact]:
    method = _text(said, "method")
    tolerance, probes = _number(said, "tolerance"), _number(said, "probes")
    if method == "lowrank" and tolerance:
        method += f" (tolerance {tolerance})"
    if method == "probe" and probes:
        method += f" ({probes} probes)"
    is_full = said.get("full", True) is True
    return [
        ("K", _number(said, "k")),
        ("Beam width", _number(said, "beam_width")),
        ("Method", method),
        ("Labelings drawn for EGL full", _number(said, "full_samples") if is_full else ""),
    ]


def _table(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = said.get(key)
    return value if isinstance(value, dict) else {}


def _name(said: Mapping[str, Any], key: str) -> str:
    """A file's name without its folders, which are private; and of what kind a model is."""
    text = _text(said, key)
    kind = next((kind for kind in ("hf:", "nemo:") if text.startswith(kind)), "")
    return kind + Path(text.removeprefix(kind)).name


def _file(said: Mapping[str, Any], key: str) -> str:
    name = _name(said, key)
    digest = _hashed(said, "pool_sha256" if key == "manifest" else f"{key}_sha256")
    return f"{name} ({digest})" if name and digest else name or digest


def _hashed(said: Mapping[str, Any], key: str) -> str:
    digest = _text(said, key)
    return f"SHA-256 {digest[:_HASH_DIGITS]}" if digest else ""


def _text(said: Mapping[str, Any], key: str) -> str:
    return shown_text(said.get(key), most=200)


def _number(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        return ""
    return str(value) if isinstance(value, int) else plain(value)
