"""What transcribing an utterance costs: so much each, per second of audio, per word heard."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from egl_fast.errors import SelectionError
from egl_fast.selection.candidates import Candidates

_TERM = re.compile(
    r"(?P<factor>[0-9]{1,18}(\.[0-9]{1,18})?)\s*(?:\*\s*(?P<unit>seconds|words))?", re.ASCII
)
_FORM = '"0.5 + 0.02*seconds + 0.01*words", or a part of it'


class Cost(NamedTuple):
    """A price list, in any currency.

    Attributes:
        each: of an utterance, whatever its length.
        per_second: of its audio.
        per_word: of the words that the model hears in it, which is what is known beforehand.
    """

    each: Fraction = Fraction(0)
    per_second: Fraction = Fraction(0)
    per_word: Fraction = Fraction(0)

    @classmethod
    def parse(cls, text: str) -> Cost:
        """Read a sum such as "0.5 + 0.02*seconds".

        Raises:
            SelectionError: it has another form, or costs nothing.

        Example:
            >>> Cost.parse("0.5 + 0.02*seconds").per_second
            Fraction(1, 50)
        """
        found: dict[str | None, Fraction] = {}
        for term in text.split("+"):
            match = _TERM.fullmatch(term.strip())
            if match is None or match["unit"] in found:
                raise SelectionError(f"cost {text!r}: expected {_FORM}")
            found[match["unit"]] = Fraction(match["factor"])
        cost = cls(*(found.get(unit, Fraction(0)) for unit in (None, "seconds", "words")))
        if not any(cost):
            raise SelectionError(f"cost {text!r}: must be above zero; give {_FORM}")
        return cost

    def of(self, candidates: Candidates, index: int) -> Fraction:
        """The cost of one utterance, to the decimal.

        Raises:
            SelectionError: its duration or its text is needed, and unknown.
        """
        cost = self.each
        if self.per_second:
            cost += self.per_second * seconds_of(candidates, index)
        if self.per_word:
            heard = candidates.value(index, "pred_text")
            if not isinstance(heard, str):
                raise SelectionError(
                    f"{candidates.name(index)} holds no pred_text, which a cost per word needs"
                )
            cost += self.per_word * len(heard.split())
        return cost


def seconds_of(candidates: Candidates, index: int) -> Fraction:
    """The duration of one utterance: the decimal that was written, not the nearest binary one.

    Raises:
        SelectionError: it is unknown.
    """
    duration = candidates.number(index, "duration")
    if duration <= 0:
        # Scores of a model's own inputs come without a duration; theirs says 0.
        raise SelectionError(
            f"{candidates.name(index)}: its duration is {duration:g}; a budget of time needs "
            "the durations, give a number of utterances or a percentage instead"
        )
    return Fraction(str(duration))
