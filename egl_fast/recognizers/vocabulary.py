"""How class indices become text: each class stands for a piece, and the pieces are joined.

Tokenizers mark where words begin: SentencePiece by U+2581, WordPiece by the lack of ``##``; or
where they end, by ``</w>`` or the lack of ``@@``. Models of characters often have ``|`` between
words, and byte-level ones write each byte as a character of its own. Names such as ``<s>`` or
``[UNK]`` stand for no text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

_WORD_START = "\u2581"

#: Names of classes that are not text, without brackets and in lower case.
_SPECIAL = frozenset(
    [
        *("s", "/s", "bos", "eos", "sos", "sos/eos", "pad", "unk", "cls", "sep", "mask"),
        *("endoftext", "blank", "blk", "ctc_blank", "eps", "epsilon"),
    ]
)
_BRACKETED = re.compile(r"<\|?(?P<angle>[^<>\s]+?)\|?>|\[(?P<square>[^\[\]\s]+)\]")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACES = ("<space>", "[space]", "<SPACE>", "[SPACE]")


@dataclass(frozen=True)
class Spelling:
    """The text of each class.

    Attributes:
        pieces: of each class, UTF-8; empty for classes that are not text.
        stripped: whether spaces around the joined text are marks, not text.
    """

    pieces: tuple[bytes, ...]
    stripped: bool = False

    @classmethod
    def literal(cls, names: Sequence[str], *, blank: int) -> Spelling:
        """Use names as text, except for U+2581 and the blank's name."""
        texts = ["" if place == blank else name for place, name in enumerate(names)]
        marked = any(_WORD_START in text for text in texts)
        return cls(tuple(_utf8(text.replace(_WORD_START, " ")) for text in texts), marked)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        *,
        special: Collection[int] = (),
        delimiter: str | None = None,
    ) -> Spelling:
        """Recognize the spelling from the names.

        Args:
            names: of all classes, in index order.
            special: classes that are not text, besides those whose names show it.
            delimiter: the name of the class between words, if it is not obvious.
        """
        texts = [
            "" if name != delimiter and (place in special or is_special(name)) else name
            for place, name in enumerate(names)
        ]
        if any(_WORD_START in text for text in texts):
            return cls(tuple(_sentence_piece(text) for text in texts), stripped=True)
        if any(text.startswith("##") and len(text) > 2 for text in texts):
            return cls(tuple(_word_piece(text) for text in texts), stripped=True)
        if any(text.endswith("</w>") for text in texts):
            return cls(tuple(_utf8(text.replace("</w>", " ")) for text in texts), stripped=True)
        if any(text.endswith("@@") and len(text) > 2 for text in texts):
            return cls(tuple(_before_word_end(text) for text in texts), stripped=True)
        if any("\u0120" in text for text in texts) and all(
            set(text) <= _BYTE_OF.keys() for text in texts
        ):
            pieces = (bytes(_BYTE_OF[character] for character in text) for text in texts)
            return cls(tuple(pieces), stripped=True)
        if delimiter is None and "|" in texts and " " not in texts:
            delimiter = "|"
        between = {delimiter, *_SPACES}
        pieces = (_utf8(" " if text in between else text) for text in texts)
        return cls(tuple(pieces), stripped=delimiter is not None)

    def text(self, labels: Iterable[int]) -> str:
        """The text of a labeling.

        Example:
            >>> Spelling.of(["<pad>", "\u2581a", "b", "</s>"]).text([1, 2, 1, 3])
            'ab a'
        """
        joined = b"".join(self.pieces[label] for label in labels)
        try:
            text = joined.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # a labeling may end within a character
            text = joined.decode("utf-8", "replace")
        return text.strip() if self.stripped else text

    @cached_property
    def of_characters(self) -> dict[str, int] | None:
        """The class of each character; None if a piece is not exactly one character.

        Names in brackets, such as ``<noise>``, may stand beside the characters.
        """
        found: dict[str, int] = {}
        for label, piece in enumerate(self.pieces):
            try:
                text = piece.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                return None
            if len(text) == 1:
                found.setdefault(text, label)
            elif text and not _BRACKETED.fullmatch(text):
                return None
        return found


def is_special(name: str) -> bool:
    """Whether a class's name says that it is not text.

    Example:
        >>> [is_special(name) for name in ("<s>", "[UNK]", "<|endoftext|>", "a", "<", "<noise>")]
        [True, True, True, False, False, False]
    """
    match = _BRACKETED.fullmatch(name)
    if match is None:
        return False
    return (match["angle"] or match["square"]).lower() in _SPECIAL


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _sentence_piece(text: str) -> bytes:
    byte = _BYTE.fullmatch(text)
    return bytes.fromhex(byte[1]) if byte else _utf8(text.replace(_WORD_START, " "))


def _word_piece(text: str) -> bytes:
    if text.startswith("##") and len(text) > 2:
        return _utf8(text[2:])
    return _utf8(f" {text}") if text else b""


def _before_word_end(text: str) -> bytes:
    if text.endswith("@@") and len(text) > 2:
        return _utf8(text[:-2])
    return _utf8(f"{text} ") if text else b""


def _byte_level() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for, as GPT-2 assigns them.

    Printable bytes of Latin-1 stand for themselves, the others for the characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(0x100 + place): byte for place, byte in enumerate(others)},
    }


_BYTE_OF = _byte_level()
