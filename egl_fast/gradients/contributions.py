"""What one use of a parameter adds to its gradient, and inner products of sums of such uses.

Letters: R cotangents of one utterance, P positions (frames, or places of a convolution's
kernel), I inputs, O outputs, G groups of a convolution. A parameter that is used more than once
has one gradient: its contributions are added before the square is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from egl_fast.compute.products import matrix_product
from egl_fast.ops import row_sq_norms


class Contribution(Protocol):
    """One use of a parameter, under R cotangents."""

    def coordinates(self) -> list[Tensor]:
        """Tensors [*, R, *] that have, together, the R gradients' inner products.

        The gradients in some orthonormal basis of the space that they lie in: no larger than the
        gradients, and often smaller.
        """
        ...

    def gradient(self) -> Tensor:
        """[R, parameter's size], in the parameter's own order."""
        ...


class Activation:
    """The inputs that meet a weight at all positions, with the factor its norms need.

    Belongs to the utterance, so it and its factor are made once for all cotangents.

    Args:
        matrix: [G, P, I].
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @cached_property
    def _factor(self) -> Tensor:
        """[G, P, P] triangular S with matrix^T = Q S and Q^T Q = 1, so ||matrix^T B|| = ||S B||.

        QR, not Cholesky of the Gram matrix: inputs are often linearly dependent, and a Gram matrix
        squares their condition. A GPU, which takes twice as long for QR, makes up for that by
        double precision.
        """
        if self.matrix.is_cuda and self.matrix.dtype == torch.float32:
            return _cholesky_factor(self.matrix)
        triangle: Tensor = torch.linalg.qr(self.matrix.transpose(1, 2), mode="r").R
        return triangle

    def for_columns(self, num_columns: int) -> Tensor:
        """[G, P, I] or [G, P, P]: what cotangents [P, num_columns] are best multiplied with.

        Norms of the product are the same.
        """
        _, num_positions, num_inputs = self.matrix.shape
        if "_factor" in vars(self) or factor_pays(num_positions, num_inputs, num_columns):
            return self._factor.transpose(1, 2)
        return self.matrix


def _cholesky_factor(matrix: Tensor) -> Tensor:
    """[G, P, P] triangular S with S^T S = matrix matrix^T [G, P, P] but for roundings of float32.

    What is added to the diagonal, so that a singular Gram matrix has a factor, is P roundings of
    float64 of its trace: in S^T S a 10^-13th of it, where QR in float32 errs by 10^-7.
    """
    gram = matrix.double() @ matrix.double().transpose(1, 2)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += diagonal.sum(1, keepdim=True) * (gram.shape[1] * torch.finfo(gram.dtype).eps)
    diagonal.clamp_(min=torch.finfo(gram.dtype).tiny)  # inputs may all be zero
    factor: Tensor = torch.linalg.cholesky_ex(gram, upper=True).L
    return factor.to(matrix.dtype)


def factor_pays(num_positions: int, num_inputs: int, num_columns: int) -> bool:
    """Whether a triangular factor saves a product more than it costs to make.

    Args:
        num_positions: P.
        num_inputs: I.
        num_columns: columns of the product, cotangents times outputs.
    """
    if num_positions >= num_inputs:
        return False
    # Half of the multiplications; a QR factorisation runs at half the rate of a product.
    making = 2 * num_positions * (num_inputs - num_positions / 3)
    return making < num_columns * (num_inputs - num_positions)


@dataclass
class OuterProducts:
    """A weight's use: gradient_r = sum over positions of cotangent_r (x) input.

    Attributes:
        activation: [G, P, I].
        cotangent: [R, P, G, O], any strides.
    """

    activation: Activation
    cotangent: Tensor

    def coordinates(self) -> list[Tensor]:
        """See ``Contribution``."""
        num_cotangents, _, num_groups, num_outputs = self.cotangent.shape
        matrix = self.activation.for_columns(num_cotangents * num_outputs)
        return [_product(matrix[group], self.cotangent[:, :, group]) for group in range(num_groups)]

    def gradient(self) -> Tensor:
        """See ``Contribution``."""
        # [R, P, G, O] and [G, P, I] to [R, G, O, I]
        left = self.cotangent.permute(0, 2, 3, 1)
        return torch.matmul(left, self.activation.matrix).flatten(1)


def _product(matrix: Tensor, cotangent: Tensor) -> Tensor:
    """matrix^T cotangent_r for each r, as one large matrix product.

    Args:
        matrix: [P, I], any strides.
        cotangent: [R, P, O], any strides.

    Returns:
        [O, R, I] or [I, R, O].
    """
    num_cotangents, num_positions, num_outputs = cotangent.shape
    outputs_first = cotangent.transpose(1, 2)
    if outputs_first.is_contiguous():
        product = matrix_product(outputs_first.reshape(-1, num_positions), matrix)
        return product.view(num_cotangents, num_outputs, -1).transpose(0, 1)
    positions_first = cotangent.transpose(0, 1).reshape(num_positions, -1)
    product = matrix_product(matrix.t(), positions_first)
    return product.view(-1, num_cotangents, num_outputs)


@dataclass
class Explicit:
    """A use whose gradient is small, or comes from autograd, and is simply there.

    Attributes:
        value: [R, ...].
    """

    value: Tensor

    def coordinates(self) -> list[Tensor]:
        """See ``Contribution``."""
        return [self.gradient().unsqueeze(0)]

    def gradient(self) -> Tensor:
        """See ``Contribution``."""
        value = self.value
        if value.is_complex():  # |z|^2 is the sum of both squares
            value = torch.view_as_real(value)
        if value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        return value.reshape(value.shape[0], -1)  # a scalar parameter has R values


def combined(contributions: Sequence[Contribution]) -> Contribution:
    """The sum of all uses of one parameter, at least one."""
    if len(contributions) == 1:
        return contributions[0]
    outer = [c for c in contributions if isinstance(c, OuterProducts)]
    forms = {(c.activation.matrix.shape[0], c.activation.matrix.shape[2]) for c in outer}
    if len(outer) == len(contributions) and len(forms) == 1:
        # A sum of outer products is one product over more positions.
        return OuterProducts(
            Activation(torch.cat([c.activation.matrix for c in outer], dim=1)),
            torch.cat([c.cotangent for c in outer], dim=1),
        )
    total = contributions[0].gradient()
    for contribution in contributions[1:]:
        total = total + contribution.gradient()
    return Explicit(total)


def sq_norms(coordinates: Sequence[Tensor]) -> Tensor:
    """[R] float64, squared norms of the gradients of these coordinates."""
    norms = [row_sq_norms(c) for c in coordinates]
    return sum(norms[1:], norms[0])


def inner_products(coordinates: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """[R, R'] inner products of gradients, both in the same coordinates."""
    parts = []
    for a, b in zip(coordinates, others, strict=True):
        left = a.transpose(0, 1).flatten(1)
        right = left if a is b else b.transpose(0, 1).flatten(1)
        parts.append(left @ right.t())
    return sum(parts[1:], parts[0])
