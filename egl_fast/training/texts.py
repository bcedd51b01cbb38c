"""Transcripts of a manifest as labels of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from egl_fast.data.manifest import Utterance
from egl_fast.display import shortened
from egl_fast.errors import ManifestError
from egl_fast.recognizers.classes import Classes

#: What to do about a character that a fixed vocabulary lacks.
NORMALIZE = "normalize the transcript to the vocabulary's characters"
_MOST_CHARACTERS = 60
#: Characters that a message lists.
_MOST_LISTED = 20


def reference_labels(
    utterance: Utterance, classes: Classes, *, remedy: str = NORMALIZE
) -> list[int]:
    """The class indices of an utterance's text.

    Raises ``ManifestError``, naming the utterance and its line, if it has no text, or a character
    that is not in the vocabulary; ``remedy`` says what to do about that.
    """
    text = required_text(utterance)
    try:
        return classes.labels(text)
    except KeyError as unknown:
        text = shortened(text, _MOST_CHARACTERS)
        raise ManifestError(
            f"{_name(utterance)}: text {text!r}: character {unknown.args[0]!r} is not in the "
            f"model's vocabulary; {remedy}"
        ) from None


def required_text(utterance: Utterance) -> str:
    """An utterance's text. Raises ``ManifestError``, naming the utterance, if it has none."""
    if utterance.text is None:
        raise ManifestError(
            f"{_name(utterance)}: has no 'text'; add its transcript (\"\" for no speech)"
        )
    return utterance.text


def _name(utterance: Utterance) -> str:
    return f"utterance {utterance.id!r} (line {utterance.line})"


def all_labels(
    utterances: Sequence[Utterance], classes: Classes, *, remedy: str = NORMALIZE
) -> list[list[int]]:
    """The labels of every utterance.

    Raises ``ManifestError`` with the number of unusable texts, the first of them, and all the
    characters that it cannot write, with counts and an example each; see ``reference_labels``.
    """
    found, errors = [], []
    unusable = Counter[str]()  # texts by each character that they should not have
    first: dict[str, Utterance] = {}
    for utterance in utterances:
        try:
            found.append(reference_labels(utterance, classes, remedy=remedy))
        except ManifestError as error:
            errors.append(error)
            for character in _unknown_characters(utterance, classes):
                unusable[character] += 1
                first.setdefault(character, utterance)
    if len(errors) == 1:
        raise errors[0]
    if errors and not unusable:
        raise ManifestError(
            f"{len(errors)} of {len(utterances)} texts cannot be used, the first of {errors[0]}"
        )
    if errors:
        listed = ", ".join(
            f"{character!r} in {count} (such as {first[character].id!r})"
            for character, count in unusable.most_common(_MOST_LISTED)
        )
        more = len(unusable) - _MOST_LISTED
        others = f" and {more} other characters" if more > 0 else ""
        raise ManifestError(
            f"{len(errors)} of {len(utterances)} texts cannot be used, the first of {errors[0]}; "
            f"not in the vocabulary, by texts: {listed}{others}"
        )
    return found


def _unknown_characters(utterance: Utterance, classes: Classes) -> list[str]:
    """The characters of a text that are no classes, each once."""
    label_of = classes.spelling.of_characters
    if classes.encode is not None or label_of is None:
        return []
    return [one for one in dict.fromkeys(utterance.text or "") if one not in label_of]


def frames_needed(labels: Sequence[int]) -> int:
    """The fewest frames of any alignment: a blank must separate repeated labels."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))


def lowercased(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The same with texts in lower case; ``record`` keeps the manifest's own."""
    return _changed(utterances, str.lower)


def uppercased(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The same with texts in upper case; ``record`` keeps the manifest's own."""
    return _changed(utterances, str.upper)


def _changed(utterances: Iterable[Utterance], change: Callable[[str], str]) -> list[Utterance]:
    return [
        replace(utterance, text=None if utterance.text is None else change(utterance.text))
        for utterance in utterances
    ]


def num_empty(utterances: Iterable[Utterance]) -> int:
    """How many texts are empty."""
    return sum(
        utterance.text is not None and not utterance.text.strip() for utterance in utterances
    )
