"""What all steps of scoring share."""

from __future__ import annotations

from dataclasses import dataclass

from egl_fast.gradients.engine import GradientEngine
from egl_fast.scoring.classes import Classes
from egl_fast.scoring.options import ScoringOptions


@dataclass(frozen=True, eq=False)
class ScoringTask:
    """How to score utterances."""

    engine: GradientEngine
    classes: Classes  # what its outputs stand for
    options: ScoringOptions  # what to compute
    embeds: bool = False  # whether to keep embeddings, too
