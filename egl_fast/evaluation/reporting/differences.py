"""Where one reading of a recording differs from another."""

from __future__ import annotations

import difflib
import re
from itertools import takewhile

#: (kind, text): "" is in both, "+" only in the reading shown, "-" only in the other.
Piece = tuple[str, str]

_WORDS = re.compile(r"\s+|\S+")


def marked(best: str, other: str) -> list[Piece]:
    """What is in ``other``, and what it lacks of ``best``, in the order of reading.

    Words are compared first; of a word that stands for another, only what differs is marked.

    Example:
        >>> marked("lay blue at x", "lay blew x")
        [('', 'lay bl'), ('-', 'ue at'), ('+', 'ew'), ('', ' x')]
    """
    words, others = _WORDS.findall(best), _WORDS.findall(other)
    pieces: list[Piece] = []
    matcher = difflib.SequenceMatcher(None, words, others, autojunk=False)
    for kind, low, high, other_low, other_high in matcher.get_opcodes():
        gone, come = "".join(words[low:high]), "".join(others[other_low:other_high])
        if kind == "equal":
            pieces.append(("", come))
            continue
        start = _num_common(gone, come)
        rest, other_rest = gone[start:], come[start:]
        end = _num_common(rest[::-1], other_rest[::-1])
        pieces += [
            ("", come[:start]),
            ("-", rest[: len(rest) - end]),
            ("+", other_rest[: len(other_rest) - end]),
            ("", other_rest[len(other_rest) - end :]),
        ]
    return _joined(pieces)


def _num_common(text: str, other: str) -> int:
    """How many characters they begin with in common."""
    pairs = zip(text, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Without empty ones, and neighbors of a kind as one."""
    joined: list[Piece] = []
    for kind, text in pieces:
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + text)
        elif text:
            joined.append((kind, text))
    return joined
