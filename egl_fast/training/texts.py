"""Transcripts of a manifest as labels of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from egl_fast.data.manifest import Utterance
from egl_fast.display import shortened
from egl_fast.errors import ManifestError
from egl_fast.vocabulary import encode

#: What to do about a character that the vocabulary lacks, where the vocabulary is given.
NORMALIZE = "normalize the transcript to the vocabulary's characters"
_MOST_CHARACTERS = 60


def reference_labels(
    utterance: Utterance, vocabulary: Sequence[str], *, remedy: str = NORMALIZE
) -> list[int]:
    """The class indices of an utterance's text.

    Args:
        utterance: one line of a manifest.
        vocabulary: class names in index order, the blank first.
        remedy: what to do about a character that the vocabulary lacks.

    Raises:
        ManifestError: it has no text, or a character that the vocabulary lacks; the message
            names the utterance and its line.
    """
    where = f"utterance {utterance.id!r} (line {utterance.line})"
    if utterance.text is None:
        raise ManifestError(f"{where}: has no 'text'; add its transcript, \"\" for no speech")
    try:
        return encode(utterance.text, vocabulary)
    except ManifestError:
        unknown = next(c for c in utterance.text if c not in vocabulary[1:])
        text = shortened(utterance.text, _MOST_CHARACTERS)
        raise ManifestError(
            f"{where}: text {text!r}: character {unknown!r} is not in the model's vocabulary; "
            f"{remedy}"
        ) from None


def all_labels(
    utterances: Sequence[Utterance], vocabulary: Sequence[str], *, remedy: str = NORMALIZE
) -> list[list[int]]:
    """The labels of every utterance.

    Raises:
        ManifestError: texts are missing or cannot be written with the vocabulary; the message says
            how many, and names the first; see ``reference_labels``.
    """
    found, errors = [], []
    for utterance in utterances:
        try:
            found.append(reference_labels(utterance, vocabulary, remedy=remedy))
        except ManifestError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ManifestError(
            f"{len(errors)} of {len(utterances)} texts cannot be used, the first of {errors[0]}"
        )
    return found


def frames_needed(labels: Sequence[int]) -> int:
    """The fewest frames that an alignment of a labeling takes: a blank must part a repeat."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))


def lowercased(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The same with their texts in lower case; ``record`` keeps the manifest's own."""
    return [
        replace(utterance, text=None if utterance.text is None else utterance.text.lower())
        for utterance in utterances
    ]


def num_empty(utterances: Iterable[Utterance]) -> int:
    """How many texts say nothing."""
    return sum(
        utterance.text is not None and not utterance.text.strip() for utterance in utterances
    )
