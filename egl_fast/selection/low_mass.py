"""Whether ``egl`` is likely to mislead, because the K best labelings hold too little."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from egl_fast.selection.candidates import Candidates, Scored

#: Below this median mass the truncated sum was seen to follow the mass of the beam.
_LOW_MASS = 0.5


def low_mass_warning(records: Iterable[Scored] | Candidates) -> str | None:
    """One line for the user where ``egl`` is likely to mislead, or None.

    With a weak model the K best labelings hold little of the probability, and the sum over them
    grows with what they hold: it then prefers the utterances that the model is surest of.

    Args:
        records: as for ``select``; those without ``beam_mass`` are left out.

    Returns:
        None where the median ``beam_mass`` is at least 0.5, or where no record holds one.
    """
    if isinstance(records, Candidates):
        found = records.values("beam_mass")
    else:
        found = (Candidates([record]).value(0, "beam_mass") for record in records)
    masses = np.fromiter((x for x in found if isinstance(x, (int, float))), np.float64)
    if not len(masses) or (median := np.median(masses, overwrite_input=True)) >= _LOW_MASS:
        return None
    return (
        f"the K best labelings hold little of the probability (median beam_mass {median:.2g}): "
        "`egl` then follows that mass more than the gradients; consider `egl_normalized`"
    )
