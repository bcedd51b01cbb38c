"""What came back from transcription, matched by id with what was sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Final

from egl_fast.display import shown
from egl_fast.errors import ManifestError
from egl_fast.labeling.formats import Delivered, Record
from egl_fast.records import ScoreRecord

#: What is wrong with a recording -> the words for how many there are.
PROBLEMS: Final[dict[str, str]] = {
    "missing": "without a transcript yet",
    "skipped": "skipped",
    "empty": "with an empty transcript",
    "conflict": "with different transcripts",
    "changed": "with other audio than was sent",
    "unknown": "that were not sent",
    "unwritable": "with characters that the model cannot write",
    "unaudited": "that could not be audited",
}

#: Keys that scoring, selecting, and sending add, which a training manifest has no use for.
_ADDED = {own.name for own in fields(ScoreRecord)} - {"id", "duration"} | {
    *("rank", "score", "probability", "group", "typicality", "egl_target", "egl_target_stderr"),
}
#: Seconds that the length of a recording may differ by, as tools round.
_ROUNDING = 0.05


@dataclass(frozen=True)
class Problem:
    """A recording whose transcript cannot be used, if there is one.

    Attributes:
        id: of the recording.
        kind: one of ``PROBLEMS``.
        error: what is wrong, in one line.
    """

    id: str
    kind: str
    error: str


@dataclass
class Returned:
    """What came back.

    Attributes:
        texts: transcript by id, in the order of what was sent.
        problems: all others, in that order; unknown ids last.
        num_repeated: recordings that came back more than once, with the same text.
        num_unchanged: transcripts that are what the model had heard.
        num_as_sent: transcripts that are the text that the recording was sent with.
    """

    texts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    num_repeated: int = 0
    num_unchanged: int = 0
    num_as_sent: int = 0

    @property
    def seen(self) -> set[str]:
        """Ids that need not be sent again: somebody has transcribed or declined them."""
        declined = {p.id for p in self.problems if p.kind in ("skipped", "empty")}
        return declined.union(self.texts)


def by_id(sent: Iterable[Delivered]) -> dict[str, Delivered]:
    """What was sent. Raises ``ManifestError`` if an id is there twice, or nothing is."""
    found: dict[str, Delivered] = {}
    for one in sent:
        if one.id in found:
            raise ManifestError(
                f"{one.where}: id {one.id!r} is already that of {found[one.id].where}; keep one"
            )
        found[one.id] = one
    return found


def match(
    sent: Mapping[str, Delivered],
    answers: Iterable[Delivered],
    *,
    latest: bool = False,
    keep_empty: bool = False,
) -> Returned:
    """Put every answer to what was sent.

    Args:
        sent: by id.
        answers: in their order; a recording may have several.
        latest: of different transcripts of a recording, take the last; otherwise none is taken.
        keep_empty: an empty transcript says that nothing is said; otherwise it is not taken.
    """
    answers_to: dict[str, list[Delivered]] = {}
    for answer in answers:
        answers_to.setdefault(answer.id, []).append(answer)
    returned = Returned()
    for identity, one in sent.items():
        own = answers_to.pop(identity, [])
        _take(returned, one, own, latest=latest, keep_empty=keep_empty)
    for identity, own in answers_to.items():
        returned.problems.append(
            Problem(identity, "unknown", f"{own[0].where}: nothing with this id was sent")
        )
    return returned


def _take(
    returned: Returned, sent: Delivered, answers: list[Delivered], *, latest: bool, keep_empty: bool
) -> None:
    def refuse(kind: str, error: str) -> None:
        returned.problems.append(Problem(sent.id, kind, error))

    if not answers:
        return refuse("missing", "did not come back")
    for answer in answers:
        change = _change(sent.record, answer.record)
        if change is not None:
            return refuse("changed", f"{answer.where}: {change}")
    # An empty cell is a transcript still to come, unless a person has handed it in.
    texts = [
        _spaced(answer.text) or ""
        for answer in answers
        if answer.text is not None and (answer.text.strip() or answer.is_answer or keep_empty)
    ]
    where = answers[-1].where
    if not texts:
        if any(answer.skipped for answer in answers):
            return refuse("skipped", f"{where}: skipped")
        return refuse("missing", f"{where}: has no transcript yet")
    distinct = list(dict.fromkeys(texts))
    if len(distinct) > 1 and not latest:
        return refuse(
            "conflict",
            f"{where}: has {len(distinct)} transcripts, {shown(distinct[0])} and "
            f"{shown(distinct[1])} among them",
        )
    text = texts[-1]
    if not text and not keep_empty:
        return refuse("empty", f"{where}: the transcript is empty")
    returned.texts[sent.id] = text
    returned.num_repeated += len(texts) > 1 and len(distinct) == 1
    returned.num_unchanged += text == _spaced(sent.record.get("pred_text"))
    returned.num_as_sent += text == _spaced(sent.text)
    return None


def _spaced(text: object) -> str | None:
    """A text with single spaces; None for what is none."""
    return " ".join(text.split()) if isinstance(text, str) else None


def _change(sent: Record, answer: Record) -> str | None:
    """How the audio of an answer differs from what was sent; folders may have moved."""
    was, now = sent.get("audio_filepath"), answer.get("audio_filepath")
    if isinstance(was, str) and isinstance(now, str) and PurePath(was).name != PurePath(now).name:
        return f"its audio is {shown(now)}, sent was {shown(was)}"
    for key in ("offset", "duration"):
        if key in sent and key in answer:
            before, after = float(sent[key] or 0.0), float(answer[key] or 0.0)
            if abs(before - after) > _ROUNDING:
                return f"its {key} is {after:g} s, sent were {before:g} s"
    return None


def training_line(sent: Record, text: str) -> Record:
    """A line of a training manifest: the keys of the pool's manifest, and the transcript."""
    kept = {key: value for key, value in sent.items() if key not in _ADDED}
    return {**kept, "id": sent["id"], "text": text}
