"""Transcripts of a manifest as labels of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Unwritable:
    """Texts that a model cannot write.

    Attributes:
        errors: what is wrong with each, see ``reference_labels``.
        characters: those that are not in the vocabulary -> the texts that hold them; empty if the
            model does not spell by characters.
    """

    errors: dict[str, ManifestError]
    characters: dict[str, list[Utterance]]

    def listed(self) -> str:
        """The characters, most frequent first, with counts and an example each."""
        most = sorted(self.characters.items(), key=lambda pair: -len(pair[1]))
        listed = ", ".join(
            f"{character!r} in {len(texts)} (such as {texts[0].id!r})"
            for character, texts in most[:_MOST_LISTED]
        )
        more = len(most) - _MOST_LISTED
        return f"{listed} and {more} other characters" if more > 0 else listed


def labels_of(
    utterances: Iterable[Utterance], classes: Classes, *, remedy: str = NORMALIZE
) -> tuple[dict[str, list[int]], Unwritable]:
    """Labels by the ids of the utterances whose texts the model can write; and the others."""
    found: dict[str, list[int]] = {}
    errors: dict[str, ManifestError] = {}
    characters: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        try:
            found[utterance.id] = reference_labels(utterance, classes, remedy=remedy)
        except ManifestError as error:
            errors[utterance.id] = error
            for character in _unknown_characters(utterance, classes):
                characters.setdefault(character, []).append(utterance)
    return found, Unwritable(errors, characters)


def all_labels(
    utterances: Sequence[Utterance], classes: Classes, *, remedy: str = NORMALIZE
) -> list[list[int]]:
    """The labels of every utterance.

    Raises ``ManifestError`` with the number of unusable texts, the first of them, and all the
    characters that it cannot write, with counts and an example each; see ``reference_labels``.
    """
    found, unwritable = labels_of(utterances, classes, remedy=remedy)
    if unwritable.errors:
        errors = list(unwritable.errors.values())
        if len(errors) == 1:
            raise errors[0]
        characters = f"; not in the vocabulary, by texts: {unwritable.listed()}"
        raise ManifestError(
            f"{len(errors)} of {len(utterances)} texts cannot be used, the first of {errors[0]}"
            + (characters if unwritable.characters else "")
        )
    return [found[utterance.id] for utterance in utterances]


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
