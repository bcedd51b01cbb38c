"""Scores of an utterance: frozen records of plain Python numbers, and their JSON form.

Nothing here imports torch: reports, mergers and the command line read scores without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from egl_fast.display import shortened
from egl_fast.hashing import hashed

_R = TypeVar("_R")

#: Scores to rank a pool by -> what each measures. Each is a field of ``ScoreRecord``; higher is
#: more informative.
STRATEGIES: dict[str, str] = {
    "egl": "expected squared gradient length over the K best labelings (the paper's Eq. 4)",
    "egl_normalized": "egl divided by the probability that the K best labelings hold",
    "egl_unsquared": "expected gradient length, not squared (Settles and Craven's form)",
    "egl_full": "expected squared gradient length over all labelings (estimated)",
    "entropy": "entropy of the model's outputs, averaged over frames",
    "pctc": "CTC loss of the best labeling, per frame",
    "tsallis": "1 - confidence in the words heard, by the frames' Tsallis entropies",
    "renyi": "1 - confidence in the words heard, by the frames' Renyi entropies",
    "mc_dropout": "distance of transcripts with dropout from the transcript without",
    "random": "chance, from the seed and the id alone",
}

#: Strategies that no record holds if the method computes no gradients.
NEED_GRADIENTS: frozenset[str] = frozenset({"egl", "egl_normalized", "egl_unsquared", "egl_full"})

#: Fields that a record's ``repr`` omits: they follow from the rest, or mean little by themselves.
_NOT_SHOWN = {"egl_normalized", "egl_unsquared", "random"}

#: Strategies that a record holds only on request -> the option that requests them.
ASKED_FOR_BY: dict[str, str] = {
    "egl_full": "full",
    "tsallis": "word_confidence",
    "renyi": "word_confidence",
    "mc_dropout": "mc_dropout",
}


@dataclass(frozen=True, repr=False)
class Hypothesis:
    """One possible labeling of an utterance.

    Attributes:
        text: the labels, spelled with the model's vocabulary.
        labels: class indices, never the blank; empty for silence.
        log_prob: exact natural logarithm of p(labels | utterance).
        sq_grad_norm: squared length of the loss gradient if this is the transcript; None if the
            method computes no gradients.
        sq_grad_norm_stderr: estimated error of ``sq_grad_norm``; 0 if exact.

    Raises:
        ValueError: a number is NaN or infinite; the message names the field.
        TypeError: a field is not a plain number.
    """

    text: str
    labels: tuple[int, ...]
    log_prob: float
    sq_grad_norm: float | None
    sq_grad_norm_stderr: float = 0.0

    def __post_init__(self) -> None:
        _check_fields(self)

    def __repr__(self) -> str:
        return (
            f"Hypothesis({shortened(repr(self.text), 60)}, log_prob={self.log_prob:.4g}, "
            f"sq_grad_norm={self.sq_grad_norm:.4g})"
        )


@dataclass(frozen=True, repr=False)
class ScoreRecord:
    """How much one utterance would teach the model, by every strategy.

    Attributes:
        id: the utterance's name in its manifest.
        duration: decoded seconds.
        num_frames: T, frames of the model's output.
        pred_text: the most probable labeling.
        num_hypotheses: K, or fewer if fewer labelings are possible.
        beam_mass: sum of p(y|x) over the hypotheses.
        egl: sum of p(y|x) times the squared gradient length, over the hypotheses; None, like its
            variants, if the method computes no gradients.
        egl_stderr: standard error of ``egl``; 0 if exact.
        egl_normalized: ``egl / beam_mass``.
        egl_unsquared: sum of p(y|x) times the gradient length; None if the lengths of individual
            hypotheses were not computed.
        egl_full: as ``egl``, over all labelings; None unless asked for.
        egl_full_stderr: standard error of ``egl_full``.
        entropy: nats, over all classes, averaged over frames.
        pctc: -log p of the best labeling, divided by ``num_frames``.
        random: ``random_score`` of the run's seed and the id.
        hypotheses: best first; empty unless asked for.
        tsallis: 1 - confidence in the words of the best path, in [0, 1], by Tsallis entropy; None
            unless asked for. So are the next two.
        renyi: likewise, by Renyi entropy.
        mc_dropout: mean edit distance of transcripts with dropout from the one without, in [0, 1].
        by_layer: what each layer of the model adds to ``egl``, by its name; None unless asked for.
        by_layer_full: likewise, to ``egl_full``.
        manifest: the keys of the utterance's line in its manifest, or of its row; empty if it has
            none. Two records with the same scores are equal whatever their manifests hold.

    Raises:
        ValueError: a number is NaN or infinite; the message names the field.
        TypeError: a field is not a plain number.
    """

    id: str
    duration: float
    num_frames: int
    pred_text: str
    num_hypotheses: int
    beam_mass: float
    egl: float | None
    egl_stderr: float | None
    egl_normalized: float | None
    egl_unsquared: float | None
    egl_full: float | None
    egl_full_stderr: float | None
    entropy: float
    pctc: float
    random: float
    hypotheses: tuple[Hypothesis, ...] = ()
    tsallis: float | None = None
    renyi: float | None = None
    mc_dropout: float | None = None
    by_layer: dict[str, float] | None = field(default=None, hash=False)
    by_layer_full: dict[str, float] | None = field(default=None, hash=False)
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        _check_fields(self)

    def __repr__(self) -> str:
        """The scores that are not None, rounded; all fields would fill a screen."""
        names = ["duration", "beam_mass", *(name for name in STRATEGIES if name not in _NOT_SHOWN)]
        known = {name: getattr(self, name) for name in names}
        shown = [f"{name}={value:.4g}" for name, value in known.items() if value is not None]
        if self.hypotheses:
            shown.append(f"hypotheses[{len(self.hypotheses)}]")
        text = shortened(repr(self.pred_text), 60)
        return f"ScoreRecord({self.id!r}, {text}, {', '.join(shown)})"


def to_json(
    record: ScoreRecord, manifest_record: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The object for a record in a scores file.

    Args:
        record: the scores.
        manifest_record: the utterance's line in the pool's manifest; None: what the record holds
            of it.

    Returns:
        The manifest's keys, then those of the record that the manifest lacks. If both have a key,
        the value is the record's. Fields with a default are there only if the record has a value:
        those that an earlier run left in a manifest are dropped, and so is its ``typicality``.

    Example:
        >>> record = ScoreRecord("a", 1.0, 50, "hi", 100, 0.5, 3.0, 0.0, 6.0, None, None, None,
        ...                      0.1, 0.02, 0.7)
        >>> line = to_json(record, {"audio_filepath": "a.wav", "speaker": "s1"})
        >>> list(line)[:4], line["egl"]
        (['audio_filepath', 'speaker', 'id', 'duration'], 3.0)
    """
    written = _written(ScoreRecord)
    of_earlier_run = {"typicality", *(f.name for f in written if f.default is not MISSING)}
    manifest = record.manifest if manifest_record is None else manifest_record
    line = {key: x for key, x in manifest.items() if key not in of_earlier_run}
    for own in written:
        value = getattr(record, own.name)
        if own.name != "hypotheses" and not (own.default is None and value is None):
            line[own.name] = value
    if record.hypotheses:
        line["hypotheses"] = [
            {"text": one.text, "labels": list(one.labels), "log_prob": one.log_prob}
            | {"sq_grad_norm": one.sq_grad_norm}
            | ({"sq_grad_norm_stderr": one.sq_grad_norm_stderr} if one.sq_grad_norm_stderr else {})
            for one in record.hypotheses
        ]
    return line


def from_json(line: Mapping[str, Any]) -> ScoreRecord:
    """The record for an object of a scores file: the inverse of ``to_json``.

    Args:
        line: the object; keys that are not fields of a record become those of ``manifest``.

    Raises:
        ValueError: a field is missing, of the wrong kind, NaN or infinite; the message names it.
    """
    hypotheses = line.get("hypotheses", ())
    if not isinstance(hypotheses, (list, tuple)):
        raise ValueError(f"hypotheses: expected a list, got {hypotheses!r}")
    own = {field.name for field in _written(ScoreRecord)}
    manifest = {key: value for key, value in line.items() if key not in own}
    try:
        read = tuple(map(_hypothesis, hypotheses))
        return _read(ScoreRecord, line, hypotheses=read, manifest=manifest)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _hypothesis(line: object) -> Hypothesis:
    if not isinstance(line, Mapping):
        raise ValueError(f"hypotheses: expected objects, got {line!r}")
    labels = line.get("labels")
    if not isinstance(labels, (list, tuple)):
        raise ValueError(f"hypotheses: labels: expected a list, got {labels!r}")
    for label in labels:
        _check("labels", "int", label)
    return _read(Hypothesis, line, labels=tuple(labels))


def _read(kind: Callable[..., _R], line: Mapping[str, Any], **known: Any) -> _R:
    for own in _written(kind):
        if own.name in line:
            known.setdefault(own.name, line[own.name])
        elif own.name not in known and own.default is MISSING:
            raise ValueError(f"{own.name}: missing")
    return kind(**known)


def random_score(seed: int, id: str) -> float:
    """A uniform number in [0, 1) that depends on the seed and the id alone.

    So the random ranking of recordings stays the same when others are added to the pool.

    Example:
        >>> random_score(0, "a.wav") == random_score(0, "a.wav") != random_score(1, "a.wav")
        True
    """
    # A float holds 53 bits: more could round up to 1.
    return (int.from_bytes(hashed(seed, id, separator=":")[:8], "big") >> 11) / 2**53


def _written(kind: Any) -> list[Field[Any]]:
    """The fields that scores files hold under their own names: all but the manifest's keys."""
    return [field for field in fields(kind) if field.compare]


def _check_fields(record: Any) -> None:
    for own in _written(record):
        _check(own.name, str(own.type), getattr(record, own.name))


def _check(name: str, kind: str, value: object) -> None:
    """Check a value against an annotation; numbers must have a form in JSON."""
    if kind == "str" and not isinstance(value, str):
        raise TypeError(f"{name}: expected a string, got {value!r}")
    if kind.startswith("dict[str, float]") and value is not None:
        if not isinstance(value, Mapping):
            raise TypeError(f"{name}: expected numbers by name, got {value!r}")
        for key, number in value.items():
            _check(name, "str", key)
            _check(f"{name}: {key}", "float", number)
    if kind not in ("int", "float", "float | None") or (value is None and "None" in kind):
        return
    # bool is an int in Python.
    if not isinstance(value, int if kind == "int" else (int, float)) or isinstance(value, bool):
        what = "an integer" if kind == "int" else "a plain number"
        raise TypeError(f"{name}: expected {what}, got {value!r}")
    if kind == "int" and value < 0:
        raise ValueError(f"{name}: expected 0 or more, got {value}")
    # Comparing, unlike math.isfinite, also takes integers too large for a float.
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name}: expected a finite number, got {value}")
