"""How closely a recording can be looked at, and what that costs.

A *look* is one estimate of a recording's score, from a number of rows that are pulled back
(``methods.probe``). Every round draws new random signs, so if a recording is looked at again
because its estimate was near the cut-off, the new estimate is independent of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from egl_fast.hashing import hashed

#: Rows of the first look, which all recordings get, and of closer ones.
ROWS: Final = (4, 16, 32)

#: Cost of a look in inference passes: of a forward pass that keeps its activations plus the
#: search, and of each row. From docs/performance.md, shipped model: a look of 4 rows
#: took 3.7 passes, one of 10.6 on average 5.9, one of 34 14.9.
_EACH_PASSES: Final = 2.0
_ROW_PASSES: Final = 0.45


@dataclass(frozen=True)
class Levels:
    """How closely a recording can be looked at, from coarse to fine.

    Attributes:
        rows: of a look.
        passes: what a look costs, in inference passes over the same recording.
    """

    rows: tuple[int, ...]
    passes: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.rows)


#: Estimates from gradients.
GRADIENTS: Final = Levels(ROWS, tuple(_EACH_PASSES + _ROW_PASSES * rows for rows in ROWS))
#: The same for labelings beyond the beam, which are sampled: as many rows again, two more for the
#: error bar, and a quarter of all that for the draws themselves.
FULL: Final = Levels(
    ROWS, tuple(_EACH_PASSES + _ROW_PASSES * 1.25 * (2 * rows + 2) for rows in ROWS)
)
#: Scores that need no gradients are exact at the first look, whose cost includes the search.
OUTPUTS: Final = Levels((0,), (1.5,))


def seed_of(seed: int, number: int) -> int:
    """The seed of a round; the first round has the user's own."""
    if number == 1:
        return seed
    return int.from_bytes(hashed("round", seed, number)[:4], "big")
