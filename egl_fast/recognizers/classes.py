"""The classes of a model, from a vocabulary in any of its usual forms."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from egl_fast.errors import ModelError
from egl_fast.recognizers.tokenizer_file import SUFFIXES, read_tokenizer
from egl_fast.recognizers.vocabulary import Spelling, is_special
from egl_fast.warning import warn

#: What says what a model's classes are; ``Classes.of`` describes it.
Vocabulary = Sequence[str] | Mapping[str, int] | Mapping[int, str] | Path

#: Names of blanks, without brackets.
_BLANK_NAMES = ("blank", "blk", "pad", "eps", "epsilon", "ctc_blank")


@dataclass(frozen=True)
class Classes:
    """The C classes of a model."""

    vocabulary: tuple[str, ...]  # names in index order
    blank: int  # index of the blank, whose name is ignored
    spelling: Spelling = field(repr=False, compare=False)  # how labels become text
    # How text becomes labels, where single characters do not say it: a tokenizer's own way.
    encode: Callable[[str], list[int]] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        blank: int | str,
        *,
        special: Collection[int] = (),
        delimiter: str | None = None,
        encode: Callable[[str], list[int]] | None = None,
    ) -> Classes:
        """Classes from a vocabulary as tokenizers have it.

        Args:
            vocabulary: names in index order (in a string, each character is a name), or a
                dictionary from names to indices or from indices to names, or a tokenizer's file:
                see ``read_tokenizer``.
            blank: index of the blank, or its name; one past the end of a tokenizer's file, which
                knows no blank, adds it.
            special: indices of classes that are no text, besides those whose names say so.
            delimiter: the name of the class between words, if it is not obvious.
            encode: from a text to its labels, if the classes are no characters.

        Raises:
            ModelError: there is no order, or a gap, a name that is not a string, or no such blank.

        Example:
            >>> Classes.of({"b": 2, "<pad>": 0, "a": 1}, "<pad>")
            Classes(vocabulary=('<pad>', 'a', 'b'), blank=0)
        """
        path = _file_of(vocabulary)
        if path is not None:
            vocabulary, own_special, own_encode = read_tokenizer(path)
            special, encode = own_special.union(special), encode or own_encode
        names = _in_index_order(vocabulary)
        if path is not None and blank == len(names):
            names.append("<blank>")
        for index, name in enumerate(names):
            if not isinstance(name, str):
                raise ModelError(f"vocabulary: expected names, got {name!r} at index {index}")
        index = _blank_index(blank, names)
        blanks = [name for name in names if name.strip("<>[]|_").lower() in _BLANK_NAMES]
        if len(blanks) == 1 and blanks != [names[index]]:
            warn(
                f"the blank is class {index} ({names[index]!r}), but the vocabulary has "
                f"{blanks[0]!r}; if that is the blank, give blank={blanks[0]!r}"
            )
        texts = tuple(map(str, names))
        _warn_of_repeated(texts, index)
        spelling = Spelling.of(texts, special={index, *special}, delimiter=delimiter)
        return cls(texts, index, spelling, encode)

    def text(self, labels: Iterable[int]) -> str:
        """The text of a labeling."""
        return self.spelling.text(labels)

    @property
    def case(self) -> Literal["lower", "upper"] | None:
        """Of the letters in the classes' texts, if all have the same."""
        texts = b"".join(self.spelling.pieces).decode("utf-8", "ignore")
        has_lower, has_upper = texts != texts.upper(), texts != texts.lower()
        if has_lower == has_upper:
            return None
        return "lower" if has_lower else "upper"

    @property
    def can_spell(self) -> bool:
        """Whether texts can be turned into labels."""
        return self.encode is not None or self.spelling.of_characters is not None

    def labels(self, text: str) -> list[int]:
        """The labels of a text.

        Raises:
            KeyError: a character is not a class of the model.
            ValueError: not ``can_spell``.
        """
        if self.encode is not None:
            return self.encode(text)
        label_of = self.spelling.of_characters
        if label_of is None:
            raise ValueError("this model's classes are not characters, and it has no tokenizer")
        return [label_of[character] for character in text]


def _warn_of_repeated(names: Sequence[str], blank: int) -> None:
    counts = Counter(name for place, name in enumerate(names) if place != blank)
    repeated = [repr(name) for name, count in counts.items() if count > 1 and not is_special(name)]
    if repeated:
        some = ", ".join(repeated[:5]) + (", ..." if len(repeated) > 5 else "")
        verb = "is" if len(repeated) == 1 else "are each"
        warn(f"vocabulary: {some} {verb} the name of several classes; is the list right?")


def _file_of(vocabulary: Any) -> Path | None:
    if isinstance(vocabulary, str) and vocabulary.endswith(SUFFIXES):
        return Path(vocabulary)
    return vocabulary if isinstance(vocabulary, Path) else None


def _in_index_order(vocabulary: Any) -> list[Any]:
    if isinstance(vocabulary, Mapping):
        return _by_index(vocabulary)
    if isinstance(vocabulary, (bytes, bytearray, Set)) or not isinstance(vocabulary, Iterable):
        kind = "None" if vocabulary is None else f"a {type(vocabulary).__name__}"
        raise ModelError(
            f"vocabulary: expected the classes' names in index order, got {kind}; "
            "give a list, or a dictionary from names to indices"
        )
    return list(vocabulary)


def _by_index(vocabulary: Mapping[Any, Any]) -> list[Any]:
    of_names = all(isinstance(name, str) for name in vocabulary)
    found: dict[int, Any] = {}
    for key, value in vocabulary.items():
        name, given = (key, value) if of_names else (value, key)
        index = _integer(given)
        if index is None:
            raise ModelError(f"vocabulary: expected {name!r} at an index, got {given!r}")
        if index in found:
            raise ModelError(f"vocabulary: {found[index]!r} and {name!r} share index {index}")
        found[index] = name
    for index in range(len(found)):
        if index not in found:
            raise ModelError(
                f"vocabulary: {len(found)} names need the indices 0 to {len(found) - 1}, but none "
                f"has index {index}"
            )
    return [found[index] for index in range(len(found))]


def _blank_index(blank: Any, names: list[Any]) -> int:
    if isinstance(blank, str):
        if names.count(blank) != 1:
            raise ModelError(
                f"blank {blank!r}: is the name of {names.count(blank)} of the {len(names)} "
                "classes; give its index"
            )
        return names.index(blank)
    index = _integer(blank)
    if index is None:
        raise ModelError(f"blank: expected a class's index or name, got {blank!r}")
    if not 0 <= index < len(names):
        raise ModelError(f"blank {blank} is not an index of the {len(names)} classes")
    return index


def _integer(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
