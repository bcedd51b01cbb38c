"""A problem small enough to take every expectation by enumeration."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from egl_fast.methods.directions_and_probes import DirectionsAndProbes
from egl_fast.methods.method import Estimate
from egl_fast.reference.compression import combine, eigen, weighted_gram

# Sums of a few hundred products of numbers near 1 in float64.
EXACTLY = {"rel": 1e-10, "abs": 1e-12}


class LinearProblem:
    """K cotangents of 3 frames and 2 classes through a known J.

    Its first rows are those of an output layer: delta^T A for inputs A [3, 2].
    """

    def __init__(self, num_hypotheses: int) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.weights = normal(num_hypotheses).softmax(0)
        # A few strong directions plus noise, like the hypotheses of a beam.
        self.cotangents = (
            (normal(num_hypotheses, 2) @ normal(2, 6)) + 0.3 * normal(num_hypotheses, 6)
        ).view(-1, 3, 2)
        self.inputs = normal(3, 2)
        self.frame_gram = self.inputs @ self.inputs.T
        self.rest = normal(5, 6)

    def of_output(self, cotangents: Tensor) -> Tensor:
        return torch.einsum("rtc,ti->rci", cotangents, self.inputs).square().sum((1, 2))

    def sq_norms(self, cotangents: Tensor) -> Tensor:
        return self.of_output(cotangents) + (cotangents.flatten(1) @ self.rest.T).square().sum(1)

    @property
    def truth(self) -> float:
        return float(self.weights @ self.sq_norms(self.cotangents))

    def rows(
        self, signs: Tensor, directions: int, *, output_known: bool = True
    ) -> tuple[DirectionsAndProbes, Tensor]:
        """The rows, with signs [K - R, m] along the eigenvectors beyond the R directions."""
        values, vectors = eigen(
            weighted_gram(self.weights, self.cotangents), torch.zeros(len(self.weights)).double()
        )
        normals = vectors[:, directions:] @ signs
        combinations = combine(vectors, (directions, signs.shape[1]), normals)
        cotangents = torch.tensordot(combinations * self.weights.sqrt(), self.cotangents, dims=1)
        rows = DirectionsAndProbes(
            weights=self.weights,
            combinations=combinations,
            num_directions=directions,
            tail_energy=vectors[:, directions:].square() @ values[directions:],
            output_sq_norms=self.of_output(self.cotangents) if output_known else None,
        )
        return rows, cotangents

    def estimate(self, signs: Tensor, directions: int, *, output_known: bool = True) -> Estimate:
        """See ``rows``."""
        rows, cotangents = self.rows(signs, directions, output_known=output_known)
        return rows.estimate(self.sq_norms(cotangents), self.of_output(cotangents))

    def single_norms(self, signs: Tensor, directions: int) -> tuple[Tensor, Tensor]:
        """Estimated squared norms of the hypotheses, and their error."""
        rows, cotangents = self.rows(signs, directions)
        own = cotangents.flatten(1) @ self.rest.T
        output = torch.einsum("rtc,ti->rci", cotangents, self.inputs).flatten(1)
        found = rows.single_norms(own @ own.T + output @ output.T, output @ output.T)
        return found.sq_norms, found.stderr

    def estimates(self, directions: int, *, output_known: bool = True) -> list[Estimate]:
        """Estimates from two probes, under all signs."""
        rest = len(self.weights) - directions
        return [
            self.estimate(
                torch.tensor(pair, dtype=torch.float64).T, directions, output_known=output_known
            )
            for pair in itertools.product(itertools.product([1.0, -1.0], repeat=rest), repeat=2)
        ]
