"""``lowrank``: as many directions and probes as a tolerance asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from egl_fast import kinds
from egl_fast.methods.directions_and_probes import DirectionsAndProbes
from egl_fast.methods.method import Method, Rows

if TYPE_CHECKING:
    from torch import Tensor

    from egl_fast.ops import NbestCotangents


@dataclass(frozen=True)
class LowRank(Method):
    """An estimate of a given precision; only the search tells how many rows it takes."""

    summary = "an estimate with an error bar (egl_stderr) as small as --tolerance asks for"
    wants_output_layer = True

    tolerance: float = kinds.of_kind(
        0.01, kinds.Number(above=0, below=1), "target standard error, as a share of egl."
    )

    def likely_rows(self, k: int) -> int:
        return 1

    def compression(self, logits: Tensor) -> dict[str, Any]:
        return {"tolerance": self.tolerance}

    def rows(self, found: NbestCotangents, utterance: int) -> Rows:
        return DirectionsAndProbes.of(found, utterance)


METHOD = LowRank
