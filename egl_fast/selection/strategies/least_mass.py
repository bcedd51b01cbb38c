"""Least probability held by the K best labelings first."""

from __future__ import annotations

import math

from egl_fast.selection.candidates import Candidates


def score(candidates: Candidates) -> list[float]:
    """[n] -log of the beam's mass, in nats; a mass that underflowed counts as the smallest."""
    return [-math.log(max(mass, 5e-324)) for mass in candidates.numbers("beam_mass")]
