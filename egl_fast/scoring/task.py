"""The task that all steps of scoring share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.tape import Tape
from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.scoring.formula.plausibility import Plausibility
from egl_fast.scoring.options import ScoringOptions


@dataclass(frozen=True, eq=False)
class ScoringTask:
    """How to score utterances."""

    engine: GradientEngine
    recognizer: Recognizer  # whose model the engine runs
    options: ScoringOptions  # what to compute
    embeds: bool = False  # whether recordings get embeddings, too
    plausibility: Plausibility | None = None  # what watches the model's first outputs

    def run(self, *inputs: Any, **named: Any) -> Tape:
        """A forward pass that keeps what the method's backward passes need."""
        whole = self.options.chosen_method.pulls_back
        run = self.engine.run if whole else self.engine.run_output_layer
        return run(*inputs, **named)

    @property
    def classes(self) -> Classes:
        """The meaning of the model's outputs."""
        return self.recognizer.classes
