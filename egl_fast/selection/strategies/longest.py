"""Most seconds of audio first."""

from __future__ import annotations

from egl_fast.selection.candidates import Candidates


def score(candidates: Candidates) -> list[float]:
    """[n] seconds."""
    return candidates.numbers("duration")
