"""Characters to class indices and back.

The classes of a CTC model are its labels and the blank. A vocabulary is the sequence of the
classes' names in index order; what stands at the blank's place is never shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from egl_fast.errors import ManifestError

#: What the shipped models write: blank, space, apostrophe, a to z.
ENGLISH_CHARACTERS: tuple[str, ...] = ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")


def encode(text: str, vocabulary: Sequence[str], *, blank: int = 0) -> list[int]:
    """The class index of every character of ``text``.

    Args:
        text: what was said, in the characters of the vocabulary.
        vocabulary: class names in index order, one character each but for the blank.
        blank: index of the blank, which no character may map to.

    Raises:
        ManifestError: a character is not in the vocabulary; the message shows it.

    Example:
        >>> encode("ab", ["<blank>", "a", "b"])
        [1, 2]
    """
    index = {name: i for i, name in enumerate(vocabulary) if i != blank}
    try:
        return [index[character] for character in text]
    except KeyError as missing:
        raise ManifestError(
            f"text {text!r}: character {missing.args[0]!r} is not in the model's vocabulary; "
            "normalise the transcript to the vocabulary's characters"
        ) from None


def decode(labels: Iterable[int], vocabulary: Sequence[str]) -> str:
    """The text of a labeling: the names of its classes, joined.

    Sentencepiece vocabularies mark the start of a word with U+2581; it becomes a space.

    Example:
        >>> decode([1, 2, 1], ["<blank>", "a", "b"])
        'aba'
    """
    text = "".join(vocabulary[label] for label in labels)
    return text.replace("\u2581", " ").strip() if "\u2581" in text else text
