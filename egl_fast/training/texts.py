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
    that is not in the vocabulary; ``remedy`` says what to do about that, if it is not "".
    """
    text = required_text(utterance)
    try:
        return classes.labels(text)
    except KeyError as unknown:
        text = shortened(text, _MOST_CHARACTERS)
        raise ManifestError(
            f"{utterance.name}: text {text!r}: character {unknown.args[0]!r} is not in the "
            f"model's vocabulary" + (f"; {remedy}" if remedy else "")
        ) from None


def required_text(utterance: Utterance) -> str:
    """An utterance's text. Raises ``ManifestError``, naming the utterance, if it has none."""
    if utterance.text is None:
        raise ManifestError(
            f"{utterance.name}: has no 'text'; add its transcript (\"\" for no speech)"
        )
    return utterance.text


@dataclass(frozen=True)
class Unwritable:
    """Texts that a model cannot write.

    Attributes:
        errors: what is wrong with each, see ``reference_labels``.
        characters: those that are not in the vocabulary -> the texts that hold them; empty if the
            model does not spell by characters.
        all_missing: whether there is nothing but utterances without a text.
    """

    errors: dict[str, ManifestError]
    characters: dict[str, list[Utterance]]
    all_missing: bool

    def listed(self) -> str:
        """The characters, most frequent first, with counts and an example each."""
        most = sorted(self.characters.items(), key=lambda pair: -len(pair[1]))
        listed = ", ".join(
            f"{character!r} in {len(texts)} (such as {texts[0].id!r}, {texts[0].where})"
            for character, texts in most[:_MOST_LISTED]
        )
        more = len(most) - _MOST_LISTED
        return f"{listed} and {more} other characters" if more > 0 else listed

    def as_one_error(self, num_texts: int, remedy: str) -> ManifestError:
        """All of them in one message.

        Args:
            num_texts: how many texts there are.
            remedy: what to do about characters that the model cannot write.
        """
        said = [str(next(iter(self.errors.values())))]
        if len(self.errors) > 1:
            count = f"{len(self.errors)} of {num_texts}"
            said = [f"{count} texts cannot be used, the first of {said[0]}"]
        if max(len(self.errors), len(self.characters)) > 1 and self.characters:
            said.append(f"not in the vocabulary, by texts: {self.listed()}")
        if not self.all_missing:
            said.append(remedy)
        return ManifestError("; ".join(said))


def labels_of(
    utterances: Iterable[Utterance], classes: Classes, *, remedy: str = NORMALIZE
) -> tuple[dict[str, list[int]], Unwritable]:
    """Labels by the ids of the utterances whose texts the model can write; and the others."""
    found: dict[str, list[int]] = {}
    errors: dict[str, ManifestError] = {}
    characters: dict[str, list[Utterance]] = {}
    all_missing = True
    for utterance in utterances:
        try:
            found[utterance.id] = reference_labels(utterance, classes, remedy=remedy)
        except ManifestError as error:
            errors[utterance.id] = error
            all_missing = all_missing and utterance.text is None
            for character in _unknown_characters(utterance, classes):
                characters.setdefault(character, []).append(utterance)
    return found, Unwritable(errors, characters, all_missing)


def all_labels(
    utterances: Sequence[Utterance], classes: Classes, *, remedy: str = NORMALIZE
) -> list[list[int]]:
    """The labels of every utterance.

    Raises ``ManifestError`` with the number of unusable texts, the first of them, and all the
    characters that it cannot write, with counts and an example each; see ``reference_labels``.
    """
    found, unwritable = labels_of(utterances, classes, remedy="")
    if unwritable.errors:
        raise unwritable.as_one_error(len(utterances), remedy)
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
