"""One utterance's estimate: what to pull back, and what its squared norms say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egl_fast.estimation.directions import (
    Budget,
    Spectrum,
    budget_for_tolerance,
    budget_of_probes,
)
from egl_fast.estimation.signs import random_signs


@dataclass(frozen=True)
class Estimate:
    """Of sum_k w_k ||g_k||^2.

    Attributes:
        value: unbiased over the signs.
        variance: unbiased estimate of the value's variance; 0 where it is exact.
        sq_norms: [K] squared norms of the single hypotheses; not unbiased where the value is not
            exact, but adding up to it.
        samples: [m] independent estimates whose mean is the value, empty where it is exact.
    """

    value: float
    variance: float
    sq_norms: Tensor
    samples: Tensor


class Exact:
    """Every hypothesis pulled back.

    Args:
        weights: [K] float64.
        cotangents: [K, T, C].
    """

    def __init__(self, weights: Tensor, cotangents: Tensor) -> None:
        self._weights = weights
        self.cotangents = cotangents

    def finish(self, sq_norms: Tensor, of_output: Tensor) -> Estimate:
        """See ``Deflated.finish``."""
        value = float(self._weights @ sq_norms)
        return Estimate(value, 0.0, sq_norms, sq_norms.new_zeros(0))


class Deflated:
    """R directions pulled back one by one, the rest by m random combinations.

    With D = [sqrt(w_k) delta_k] as columns, Q_R the leading eigenvectors of D^T D, and random signs
    e, ||J^T D Q_R||_F^2 + E ||J^T D (1 - Q_R Q_R^T) e||^2 is the sum. Two controls of known mean
    reduce the variance: the output layer's share is exact for all K at no cost, and only the rest
    is estimated; and the probe's own energy in the cotangents, known beforehand, is taken out in
    the proportion that the R directions show.

    Args:
        weights: [K] float64, adding up to 1.
        cotangents: [K, T, C] float64.
        kernel: [T, T] float64 of the output layer, see ``output_layer_kernel``; None: unknown.
        spectrum: of D^T D, or of another Gram matrix that tells important directions.
        budget: R and m, m at least 2 or 0.
        signs: [K, m].

    Attributes:
        cotangents: [R + m, T, C] to pull back.
    """

    def __init__(
        self,
        weights: Tensor,
        cotangents: Tensor,
        *,
        kernel: Tensor | None,
        spectrum: Spectrum,
        budget: Budget,
        signs: Tensor,
    ) -> None:
        self._weights = weights
        self._budget = budget
        self._of_output = output_sq_norms(cotangents, kernel)
        self._values = spectrum.values
        self._kept = spectrum.vectors[:, : budget.directions]
        beyond = spectrum.vectors[:, budget.directions :]
        self._tail_energy = beyond.square() @ spectrum.values[budget.directions :]
        probes = signs - self._kept @ (self._kept.T @ signs)
        # ||D probe||^2 = probe^T V diag(values) V^T probe
        in_basis = spectrum.vectors.T @ probes
        self._probe_energy = in_basis.square().T @ spectrum.values
        combinations = torch.cat([self._kept, probes], dim=1).T * weights.sqrt()
        self.cotangents = torch.tensordot(combinations, cotangents, dims=1)

    def finish(self, sq_norms: Tensor, of_output: Tensor) -> Estimate:
        """What the squared norms say.

        Args:
            sq_norms: [R + m] over all parameters.
            of_output: [R + m], the output layer's share of them; ignored without a kernel.
        """
        split = self._budget.directions
        exact = 0.0
        if self._of_output is not None:
            sq_norms = sq_norms - of_output
            exact = float(self._weights @ self._of_output)
        kept = sq_norms[:split]
        tail_energy = float(self._values[split:].sum())
        kept_energy = float(self._values[:split].sum())
        slope = float(kept.sum()) / kept_energy if kept_energy > 0 else 0.0
        tails = sq_norms[split:] - slope * (self._probe_energy - tail_energy)
        tail = float(tails.mean()) if self._budget.probes else 0.0
        samples = exact + float(kept.sum()) + tails
        return Estimate(
            value=exact + float(kept.sum()) + tail,
            variance=float(tails.var() / tails.numel()) if self._budget.probes else 0.0,
            sq_norms=self._shared_out(kept, tail),
            samples=samples,
        )

    def _shared_out(self, kept: Tensor, tail: float) -> Tensor:
        """[K] squared norms: each direction's, by its parts in the hypotheses; likewise the tail's.

        Cross terms between directions, which cancel in the sum, are left out.
        """
        tail_energy = self._tail_energy
        weighted = self._kept.square() @ kept
        if float(tail_energy.sum()) > 0:
            weighted = weighted + tail_energy * (tail / tail_energy.sum())
        # A weight that underflows takes the average.
        shared = torch.where(
            self._weights > 1e-200, weighted / self._weights.clamp_min(1e-200), weighted.sum()
        )
        return shared.clamp_min(0.0) + (0.0 if self._of_output is None else self._of_output)


def output_sq_norms(cotangents: Tensor, kernel: Tensor | None) -> Tensor | None:
    """[K] squared norms of the output layer's gradient, from cotangents [K, T, C]."""
    if kernel is None:
        return None
    return (cotangents * torch.matmul(kernel, cotangents)).sum((1, 2))


def weighted_gram(weights: Tensor, cotangents: Tensor, kernel: Tensor | None = None) -> Tensor:
    """D^T kernel D [K, K] for D = [sqrt(w_k) delta_k], the kernel [T, T] acting on frames."""
    columns = cotangents * weights.sqrt()[:, None, None]
    seen = columns if kernel is None else torch.matmul(kernel, columns)
    return columns.flatten(1) @ seen.flatten(1).T


def estimator_for(
    method: str,
    *,
    weights: Tensor,
    cotangents: Tensor,
    kernel: Tensor | None,
    labelings: Sequence[Sequence[int]],
    name: str,
    seed: int,
    tolerance: float,
    probes: int,
) -> Exact | Deflated:
    """The cheapest form that keeps a method's promise.

    Args:
        method: "exact", "lowrank" or "probe".
        weights: [K] float64, adding up to 1.
        cotangents: [K, T, C] float64.
        kernel: of the output layer, or None.
        labelings: of the K hypotheses, for their signs.
        name: the utterance's id, for the signs.
        seed: for the signs.
        tolerance: of "lowrank", target relative standard error.
        probes: of "probe", cotangents pulled back.
    """
    if method == "exact":
        return Exact(weights, cotangents)
    gram = weighted_gram(weights, cotangents)
    if method == "lowrank":
        spectrum = Spectrum.of(gram)
        budget = budget_for_tolerance(spectrum, tolerance)
    else:
        if kernel is not None:
            # The first directions are better where the output layer has a say; later ones are not.
            seen = weighted_gram(weights, cotangents, kernel)
            gram = gram / gram.trace().clamp_min(1e-300) + seen / seen.trace().clamp_min(1e-300)
        spectrum = Spectrum.of(gram)
        budget = budget_of_probes(spectrum, probes)
    if budget.total >= len(labelings):
        return Exact(weights, cotangents)
    return Deflated(
        weights,
        cotangents,
        kernel=kernel,
        spectrum=spectrum,
        budget=budget,
        signs=random_signs(seed, name, labelings, budget.probes),
    )
