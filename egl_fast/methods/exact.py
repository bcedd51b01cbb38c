"""``exact``: squared norms of all hypotheses, from fewer rows than hypotheses.

The best labelings of an utterance are combinations of a few local edits, and so are their
cotangents: on recorded speech, 100 of them span 15 to 70 dimensions, except for rounding. With an
orthogonal basis q_r of that span, delta_k = sum_r a_rk q_r, the gradients are g_k = sum_r a_rk
J^T q_r, and the inner products of the J^T q_r give all their squared norms. Nothing is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from egl_fast.methods.method import (
    Estimate,
    Method,
    OwnRows,
    Rows,
    SingleNorms,
    exactly,
    has_own_rows,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from egl_fast.ops import NbestCotangents

#: Part of a cotangent's length that the basis may leave out: sixteen times the rounding error of
#: float32, to which cotangents are rounded before they are pulled back. The relative error of a
#: squared norm is twice that, times how much more the model amplifies this part than the whole.
SPAN: Final = 2.0**-20


@dataclass(frozen=True)
class OrthogonalBasis(Rows):
    """Rows that span the hypotheses' cotangents."""

    inner_products = "needed"
    combinations: Tensor  # [R, K] float64: delta_k / ||delta_k|| = sum_r combinations[r, k] row_r
    cotangent_sq_norms: Tensor  # [K] float64, ||delta_k||^2

    @staticmethod
    def of(found: NbestCotangents, utterance: int) -> OrthogonalBasis:
        """The basis of one utterance of a batch searched with ``span``, summarized on the host."""
        weights = weights_of(found, utterance)
        directions = int(found.num_directions[utterance])
        combinations = found.combinations[utterance, :directions, : len(weights)]
        sq_norms = found.cotangent_sq_norms[utterance, : len(weights)]
        return OrthogonalBasis(weights, combinations, sq_norms)

    def __len__(self) -> int:
        return self.combinations.shape[0]

    def finish(self, products: Tensor, output_share: Tensor) -> tuple[Estimate, SingleNorms]:
        of_unit = (self.combinations * (products @ self.combinations)).sum(0).clamp_min(0.0)
        return exactly(self.weights, of_unit * self.cotangent_sq_norms)


@dataclass(frozen=True)
class Exact(Method):
    """All K gradients."""

    summary = "all K gradients, from as many backward passes as they have independent directions"

    def compression(self, logits: Tensor) -> dict[str, Any]:
        # A Gram matrix in float64 is not precise enough for float64 models.
        return {"span": SPAN} if logits.element_size() < 8 else {}

    def rows(self, found: NbestCotangents, utterance: int) -> Rows:
        if has_own_rows(found, utterance):
            return OwnRows(weights_of(found, utterance))
        return OrthogonalBasis.of(found, utterance)


METHOD = Exact
