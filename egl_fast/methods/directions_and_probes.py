"""A few rows: leading directions of the hypotheses' cotangents, and probes of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egl_fast.methods.method import (
    Estimate,
    Method,
    OwnRows,
    Rows,
    SingleNorms,
    has_own_rows,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from egl_fast.ops import NbestCotangents


@dataclass(frozen=True)
class DirectionsAndProbes(Rows):
    """R directions, then m probes.

    With D = [sqrt(w_k) delta_k] as columns, V the eigenvectors of D^T D and s random signs,

        sum_{r<=R} ||J^T D v_r||^2  +  E ||J^T sum_{r>R} s_r D v_r||^2

    is the sum of w_k ||g_k||^2. The output layer's share of it is known exactly at no cost, so only
    the rest is estimated.
    """

    inner_products = "for single norms"
    combinations: Tensor  # [R + m, K] float64
    num_directions: int  # R
    tail_energy: Tensor  # [K], the part of w_k ||delta_k||^2 outside the directions
    # [K], the output layer's share of the hypotheses' squared norms; None if unknown.
    output_sq_norms: Tensor | None

    @staticmethod
    def of(found: NbestCotangents, utterance: int) -> Rows:
        """The rows of one utterance of a batch, summarized on the host.

        ``OwnRows`` if there would not be fewer directions and probes than hypotheses.
        """
        weights = weights_of(found, utterance)
        count = len(weights)
        if has_own_rows(found, utterance):
            return OwnRows(weights)
        directions = int(found.num_directions[utterance])
        total = directions + int(found.num_probes[utterance])
        combinations = found.combinations[utterance, :total, :count]
        kept = found.cotangents[utterance, :directions].double().square().sum((1, 2)).cpu()
        energy = weights * found.cotangent_sq_norms[utterance, :count]
        norms = found.output_sq_norms
        return DirectionsAndProbes(
            weights=weights,
            combinations=combinations,
            num_directions=directions,
            tail_energy=(energy - kept @ combinations[:directions].square()).clamp_min(0.0),
            output_sq_norms=None if norms is None else norms[utterance, :count],
        )

    def __len__(self) -> int:
        return self.combinations.shape[0]

    def finish(self, products: Tensor, output_share: Tensor) -> tuple[Estimate, SingleNorms | None]:
        if products.dim() == 1:
            return self.estimate(products, output_share), None
        single = self.single_norms(products, output_share)
        return self.estimate(products.diagonal(), output_share.diagonal()), single

    def estimate(self, sq_norms: Tensor, output_share: Tensor) -> Estimate:
        """The estimate from squared norms [R + m], and the output layer's share of them."""
        known = 0.0
        if self.output_sq_norms is not None:
            sq_norms = sq_norms - output_share
            known = float(self.weights @ self.output_sq_norms)
        kept, probes = sq_norms[: self.num_directions], sq_norms[self.num_directions :]
        tail = float(probes.mean()) if len(probes) else 0.0
        variance = float(probes.var() / len(probes)) if len(probes) else 0.0
        return Estimate(known + float(kept.sum()) + tail, variance)

    def single_norms(self, gram: Tensor, output_share: Tensor) -> SingleNorms:
        """Squared norms of the individual hypotheses, from the rows' inner products.

        With column k of D written in the eigenvectors, w_k ||g_k||^2 has three parts. That of the
        directions is exact. For that of the rest, the probes' mean is divided among hypotheses by
        their energy there. Twice the inner product of both is left out: each probe estimates it
        without bias, but with much noise. The root mean square of these estimates, which bounds it
        in expectation, is the reported error, together with the second part.

        Args:
            gram: [R + m, R + m] inner products over all parameters. NaN if unknown: left out of
                the norms, and bounded in the error by the Cauchy-Schwarz inequality.
            output_share: likewise, the output layer's share.
        """
        if self.output_sq_norms is not None:
            gram = gram - output_share
        lengths = gram.diagonal().clamp_min(0.0).sqrt()
        missing = (gram.isnan() * lengths).T * lengths
        gram = gram.nan_to_num(0.0)
        split = self.num_directions
        parts = self.combinations[:split]  # [R, K]
        probes = self.combinations[split:]  # [m, K]
        kept = (parts * (gram[:split, :split] @ parts)).sum(0)
        tail = float(gram[split:, split:].diagonal().mean()) if len(probes) else 0.0
        share = self.tail_energy * (tail / self.tail_energy.sum().clamp_min(1e-300))
        across = 2 * probes * (gram[split:, :split] @ parts)  # [m, K]
        unknown = (parts.abs() * (missing[:split, :split] @ parts.abs())).sum(0)
        error = share.square() + unknown.square()
        if len(probes):
            error = error + across.square().mean(0)
        # A weight that underflows gets the average.
        usable = self.weights > 1e-200
        sums = [(kept + share).clamp_min(0.0), error.sqrt()]
        sq_norms, stderr = ((x / self.weights).where(usable, x.sum()) for x in sums)
        return SingleNorms(
            sq_norms + (0.0 if self.output_sq_norms is None else self.output_sq_norms), stderr
        )


class EstimatingMethod(Method):
    """A method whose rows are directions and probes."""

    wants_output_layer = True

    def rows(self, found: NbestCotangents, utterance: int) -> Rows:
        return DirectionsAndProbes.of(found, utterance)
