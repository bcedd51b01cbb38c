"""Exact squared norms of an utterance's hypotheses from fewer rows than hypotheses.

The best labelings of an utterance are combinations of a few local edits, and so are their
cotangents: on recorded speech, 100 of them span 15 to 70 dimensions, but for rounding. With an
orthonormal basis q_r of that span, delta_k = sum_r a_rk q_r, the gradients are g_k = sum_r a_rk
J^T q_r, and the inner products of the J^T q_r give all their squared norms. Nothing is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from egl_fast.estimation.estimator import Estimate, SingleNorms
from egl_fast.ops import NbestCotangents

#: Part of a cotangent's length that the basis may leave out: sixteen roundings of a float32, which
#: is what cotangents are rounded to before they are pulled back. A squared norm is off by twice
#: that, times what the model does to that part beyond what it does to the whole.
SPAN: Final = 2.0**-20


@dataclass(frozen=True)
class SpanningRows:
    """How one utterance's rows span its hypotheses' cotangents.

    Attributes:
        weights: [K] float64, p(y_k|x) over their sum.
        combinations: [R, K] float64: delta_k / ||delta_k|| = sum_r combinations[r, k] row_r.
        cotangent_sq_norms: [K] float64, ||delta_k||^2.
    """

    weights: Tensor
    combinations: Tensor
    cotangent_sq_norms: Tensor

    @staticmethod
    def of(found: NbestCotangents, utterance: int) -> SpanningRows:
        """Of one utterance of a batch that was searched with ``span``; its summary on the host."""
        count = int(found.hypotheses.counts[utterance])
        directions = int(found.num_directions[utterance])
        return SpanningRows(
            weights=found.hypotheses.log_prob[utterance, :count].softmax(dim=0),
            combinations=found.combinations[utterance, :directions, :count],
            cotangent_sq_norms=found.cotangent_sq_norms[utterance, :count],
        )

    def __len__(self) -> int:
        return self.combinations.shape[0]

    def finish(self, products: Tensor, of_output: Tensor) -> tuple[Estimate, SingleNorms]:
        """The sum, and the single norms.

        Args:
            products: [R, R] inner products of the rows' gradients over all parameters.
            of_output: not needed here.
        """
        of_unit = (self.combinations * (products @ self.combinations)).sum(0).clamp_min(0.0)
        sq_norms = of_unit * self.cotangent_sq_norms
        exact = Estimate(float(self.weights @ sq_norms), 0.0)
        return exact, SingleNorms(sq_norms, torch.zeros_like(sq_norms))
