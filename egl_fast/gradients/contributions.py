"""What one use of a parameter adds to its gradient, and inner products of the gradients.

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
        """Tensors [*, R, *] that together have the same inner products as the R gradients.

        These are the gradients in an orthonormal basis of their span: no larger, and often smaller.
        """
        ...

    def gradient(self) -> Tensor:
        """[R, parameter's size], in the parameter's own order."""
        ...


class Activation:
    """The inputs [G, P, I] of a weight at all positions, and a factor that makes norms cheaper.

    The factor is computed once for all cotangents of the utterance.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @cached_property
    def _factor(self) -> Tensor:
        """[G, P, P] triangular S with matrix^T = Q S and Q^T Q = 1, so ||matrix^T B|| = ||S B||.

        By QR, as inputs are often linearly dependent, and a Gram matrix would square their
        condition. On a GPU, where QR takes twice as long, by Cholesky in double precision.
        """
        if self.matrix.is_cuda and self.matrix.dtype == torch.float32:
            return _cholesky_factor(self.matrix)
        triangle: Tensor = torch.linalg.qr(self.matrix.transpose(1, 2), mode="r").R
        return triangle

    def for_columns(self, num_columns: int) -> Tensor:
        """[G, P, I] or [G, P, P]: the cheaper factor for cotangents [P, num_columns].

        The norms of the products are the same.
        """
        _, num_positions, num_inputs = self.matrix.shape
        if "_factor" in vars(self) or factor_pays(num_positions, num_inputs, num_columns):
            return self._factor.transpose(1, 2)
        return self.matrix


def _cholesky_factor(matrix: Tensor) -> Tensor:
    """[G, P, P] triangular S with S^T S = matrix matrix^T [G, P, P], up to rounding of float32.

    So that singular Gram matrices have a factor, P float64 epsilons of the trace are added to
    the diagonal. That changes S^T S by a relative 1e-13; QR in float32 is off by 1e-7.
    """
    gram = matrix.double() @ matrix.double().transpose(1, 2)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += diagonal.sum(1, keepdim=True) * (gram.shape[1] * torch.finfo(gram.dtype).eps)
    diagonal.clamp_(min=torch.finfo(gram.dtype).tiny)  # all inputs may be zero
    factor: Tensor = torch.linalg.cholesky_ex(gram, upper=True).L
    return factor.to(matrix.dtype)


def factor_pays(num_positions: int, num_inputs: int, num_columns: int) -> bool:
    """Whether a triangular factor saves more in a product than it costs.

    The product has P positions, I inputs, and a column per cotangent and output.
    """
    if num_positions >= num_inputs:
        return False
    # Half of the multiplications: a QR factorization runs at half the speed of a product.
    making = 2 * num_positions * (num_inputs - num_positions / 3)
    return making < num_columns * (num_inputs - num_positions)


@dataclass
class OuterProducts:
    """A use of a weight: gradient_r = sum over positions of cotangent_r (x) input."""

    activation: Activation  # [G, P, I]
    cotangent: Tensor  # [R, P, G, O], any strides

    def coordinates(self) -> list[Tensor]:
        num_cotangents, _, num_groups, num_outputs = self.cotangent.shape
        matrix = self.activation.for_columns(num_cotangents * num_outputs)
        return [_product(matrix[group], self.cotangent[:, :, group]) for group in range(num_groups)]

    def gradient(self) -> Tensor:
        # [R, P, G, O] and [G, P, I] to [R, G, O, I]
        left = self.cotangent.permute(0, 2, 3, 1)
        return torch.matmul(left, self.activation.matrix).flatten(1)


def _product(matrix: Tensor, cotangent: Tensor) -> Tensor:
    """matrix^T cotangent_r for each r, as one large matrix product.

    From [P, I] and [R, P, O] of any strides to [O, R, I] or [I, R, O].
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
    """A use whose gradient is given as it is: a small one, or one from autograd."""

    value: Tensor  # [R, ...]

    def coordinates(self) -> list[Tensor]:
        return [self.gradient().unsqueeze(0)]

    def gradient(self) -> Tensor:
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
    """[R, R'] inner products of gradients in the same coordinates."""
    parts = []
    for a, b in zip(coordinates, others, strict=True):
        left = a.transpose(0, 1).flatten(1)
        right = left if a is b else b.transpose(0, 1).flatten(1)
        parts.append(_products_of_rows(left, right))
    return sum(parts[1:], parts[0])


#: Rows with more numbers than this are summed in parts, since float32 sums would be too far off;
#: numbers in a part.
_LONG, _PART = 2**19, 2**16


def _products_of_rows(left: Tensor, right: Tensor) -> Tensor:
    """left @ right^T; long rows in parts that are added in float64: MKL sums millions in float32.

    With few rows of five million numbers, such a sum was 5e-4 too small.
    """
    if left.shape[1] <= _LONG:
        return left @ right.t()
    total = left.new_zeros(len(left), len(right), dtype=torch.float64)
    for start in range(0, left.shape[1], _PART):
        part = slice(start, start + _PART)
        total += left[:, part] @ right[:, part].t()
    return total
