"""Estimates for an utterance's labelings from the gradients of its rows."""

from __future__ import annotations

from torch import Tensor

from egl_fast.methods.method import Estimate, SingleNorms
from egl_fast.scoring.formula.search import Searched


def estimates(
    one: Searched, products: Tensor, output_share: Tensor
) -> tuple[Estimate, SingleNorms | None, Estimate | None]:
    """Expected squared norms: of the K best, of each of them if known, and of the rest if drawn.

    The expectations are affine functions of both arguments, since estimates use the output layer's
    known norms. ``layer_scores`` relies on that.

    Args:
        one: the utterance.
        products: [rows] squared norms over some parameters, or [rows, rows] inner products, padded
            if other utterances have more rows.
        output_share: likewise, the output layer's share of them.
    """
    own = (slice(len(one.rows)),) * products.dim()
    best, single = one.rows.finish(products[own], output_share[own])
    if one.draws is None:
        return best, single, None
    norms = [x.diagonal() if x.dim() == 2 else x for x in (products, output_share)]
    energy = float(one.rows.weights @ one.energies)
    beyond = one.draws.estimate(
        *(x[len(one.rows) : one.num_rows] for x in norms),
        # Those of the K best, which do not depend on the draws.
        gain=best.value / energy if energy > 0.0 else 0.0,
    )
    return best, single, beyond
