"""``lowrank``: as many directions and probes as a tolerance requires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from egl_fast import kinds
from egl_fast.methods.directions_and_probes import EstimatingMethod
from egl_fast.methods.method import DRAWS_TOLERANCE

if TYPE_CHECKING:
    from torch import Tensor

    from egl_fast.methods.budget import Budget, Eigenvalues


@dataclass(frozen=True)
class LowRank(EstimatingMethod):
    """An estimate of a given precision; only the search tells how many rows it takes."""

    summary = "an estimate with an error bar (egl_stderr) as small as --tolerance requires"

    tolerance: float = kinds.of_kind(
        0.01, kinds.Number(above=0, below=1), "target standard error, as a share of egl."
    )

    def likely_rows(self, k: int) -> int:
        return 1

    def compression(self, logits: Tensor) -> dict[str, Any]:
        return {"tolerance": self.tolerance}

    def budget_of_draws(self, eigenvalues: Eigenvalues) -> Budget:
        from egl_fast.methods.budget import budget_for_tolerance

        return budget_for_tolerance(eigenvalues, max(self.tolerance, DRAWS_TOLERANCE))


METHOD = LowRank
