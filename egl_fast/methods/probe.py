"""``probe``: a fixed number of directions and probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from egl_fast import kinds
from egl_fast.methods.directions_and_probes import EstimatingMethod

if TYPE_CHECKING:
    from torch import Tensor

    from egl_fast.methods.budget import Budget, Eigenvalues


@dataclass(frozen=True)
class Probe(EstimatingMethod):
    """An estimate from a fixed number of rows: at least two, for an error bar."""

    summary = "an estimate with an error bar, from --probes backward passes"

    probes: int = kinds.of_kind(4, kinds.Integer(2, 10**6), "backward passes per recording.")

    def most_rows(self, k: int) -> int:
        return self.probes

    def compression(self, logits: Tensor) -> dict[str, Any]:
        return {"probes": self.probes}

    def budget_of_draws(self, eigenvalues: Eigenvalues) -> Budget:
        from egl_fast.methods.budget import budget_of_probes

        return budget_of_probes(eigenvalues, self.probes)


METHOD = Probe
