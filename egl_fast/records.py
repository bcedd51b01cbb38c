"""What a scored utterance is: frozen records of plain Python numbers, and their JSON form.

Nothing here imports torch: reports, mergers and the command line read scores without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar, cast

_R = TypeVar("_R")

#: What a pool can be ranked by -> what it measures. Each is a field of ``ScoreRecord``; higher is
#: more informative.
STRATEGIES: dict[str, str] = {
    "egl": "expected squared gradient length over the K best labelings (the paper's Eq. 4)",
    "egl_normalized": "egl divided by the probability that the K best labelings hold",
    "egl_unsquared": "expected gradient length, not squared (Settles and Craven's form)",
    "egl_full": "expected squared gradient length over all labelings (estimated)",
    "entropy": "entropy of the model's outputs, averaged over frames",
    "pctc": "CTC loss of the best labeling, per frame",
    "random": "chance, from the seed and the id alone",
}


@dataclass(frozen=True)
class Hypothesis:
    """One labeling that the model holds possible for an utterance.

    Attributes:
        text: the labels, spelled with the model's vocabulary.
        labels: class indices, never the blank's; empty for silence.
        log_prob: exact natural logarithm of p(labels | utterance).
        sq_grad_norm: squared length of the loss gradient, were this the transcript.
        sq_grad_norm_stderr: about how far it may be off; 0 when exact.

    Raises:
        ValueError: a number is NaN or infinite; the message names the field.
        TypeError: a field is not a plain number.
    """

    text: str
    labels: tuple[int, ...]
    log_prob: float
    sq_grad_norm: float
    sq_grad_norm_stderr: float = 0.0

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class ScoreRecord:
    """How much one utterance would teach the model, by every strategy.

    Attributes:
        id: the utterance's name in its manifest.
        duration: decoded seconds.
        num_frames: T, frames the model puts out.
        pred_text: the most probable labeling.
        num_hypotheses: K, or fewer where fewer labelings are possible.
        beam_mass: sum of p(y|x) over the hypotheses.
        egl: sum of p(y|x) times the squared gradient length, over the hypotheses.
        egl_stderr: standard error of ``egl``; 0 when exact.
        egl_normalized: ``egl / beam_mass``.
        egl_unsquared: sum of p(y|x) times the gradient length; None when the lengths of single
            hypotheses were not computed.
        egl_full: as ``egl``, over all labelings; None unless asked for.
        egl_full_stderr: standard error of ``egl_full``.
        entropy: nats, over all classes, averaged over frames.
        pctc: -log p of the best labeling, divided by ``num_frames``.
        random: ``random_score`` of the run's seed and the id.
        hypotheses: best first; empty unless asked for.

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
    egl: float
    egl_stderr: float
    egl_normalized: float
    egl_unsquared: float | None
    egl_full: float | None
    egl_full_stderr: float | None
    entropy: float
    pctc: float
    random: float
    hypotheses: tuple[Hypothesis, ...] = ()

    def __post_init__(self) -> None:
        _check_fields(self)


def to_json(
    record: ScoreRecord, manifest_record: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The object that stands for a record in a scores file.

    Args:
        record: the scores.
        manifest_record: the utterance's line in the pool's manifest, carried through.

    Returns:
        The manifest's keys, then those of the record that the manifest lacks; where both have a
        key the record's value holds. ``hypotheses`` is there only if the record has any: those of
        an earlier run, carried along in a manifest, are dropped.

    Example:
        >>> record = ScoreRecord("a", 1.0, 50, "hi", 100, 0.5, 3.0, 0.0, 6.0, None, None, None,
        ...                      0.1, 0.02, 0.7)
        >>> line = to_json(record, {"audio_filepath": "a.wav", "speaker": "s1"})
        >>> list(line)[:4], line["egl"]
        (['audio_filepath', 'speaker', 'id', 'duration'], 3.0)
    """
    line = dict(manifest_record or {})
    line.update((field.name, getattr(record, field.name)) for field in fields(record))
    del line["hypotheses"]
    if record.hypotheses:
        line["hypotheses"] = [
            {"text": one.text, "labels": list(one.labels), "log_prob": one.log_prob}
            | {"sq_grad_norm": one.sq_grad_norm}
            | ({"sq_grad_norm_stderr": one.sq_grad_norm_stderr} if one.sq_grad_norm_stderr else {})
            for one in record.hypotheses
        ]
    return line


def from_json(line: Mapping[str, Any]) -> ScoreRecord:
    """The record that an object of a scores file stands for.

    Args:
        line: as ``to_json`` makes it, or its JSON read back; keys that are not ours are ignored.

    Returns:
        A record equal to the one the line was made from.

    Raises:
        ValueError: a field is missing, of the wrong kind, NaN or infinite; the message names it.
    """
    hypotheses = line.get("hypotheses", ())
    if not isinstance(hypotheses, (list, tuple)):
        raise ValueError(f"hypotheses: expected a list, got {hypotheses!r}")
    try:
        return _read(ScoreRecord, line, hypotheses=tuple(map(_hypothesis, hypotheses)))
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
    for field in fields(cast(Any, kind)):
        if field.name in line:
            known.setdefault(field.name, line[field.name])
        elif field.name not in known and field.default is MISSING:
            raise ValueError(f"{field.name}: missing")
    return kind(**known)


def random_score(seed: int, id: str) -> float:
    """A uniform number in [0, 1) that depends on the seed and the id alone.

    Not on the order or the size of the pool: a recording keeps its place in the random ranking
    when others join it.

    Example:
        >>> random_score(0, "a.wav") == random_score(0, "a.wav") != random_score(1, "a.wav")
        True
    """
    # JSON can name lone surrogates, which have no UTF-8 of their own.
    digest = hashlib.sha256(f"{seed}:{id}".encode("utf-8", "surrogatepass")).digest()
    # 53 bits are what a float holds: more could round up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _check_fields(record: Any) -> None:
    for field in fields(record):
        _check(field.name, str(field.type), getattr(record, field.name))


def _check(name: str, kind: str, value: object) -> None:
    """Hold a value to an annotation, as a plain number that JSON can hold."""
    if kind == "str" and not isinstance(value, str):
        raise TypeError(f"{name}: expected a string, got {value!r}")
    if kind not in ("int", "float", "float | None") or (value is None and "None" in kind):
        return
    # bool is an int to Python.
    if not isinstance(value, int if kind == "int" else (int, float)) or isinstance(value, bool):
        what = "an integer" if kind == "int" else "a plain number"
        raise TypeError(f"{name}: expected {what}, got {value!r}")
    if kind == "int" and value < 0:
        raise ValueError(f"{name}: expected 0 or more, got {value}")
    # Comparing, unlike math.isfinite, also takes integers too large for a float.
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name}: expected a finite number, got {value}")
