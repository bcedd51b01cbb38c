"""The factor that replaces an utterance's inputs: by QR, and by Cholesky as on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from egl_fast.gradients.contributions import Activation, _cholesky_factor


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


INPUTS: dict[str, Tensor] = {
    "of full rank": normal(1, 40, 300),
    "of rank 5": normal(1, 40, 5) @ normal(1, 5, 300),
    "one row again and again": normal(1, 1, 300).repeat(1, 40, 1),
    "with padding": torch.cat([normal(1, 25, 300), torch.zeros(1, 15, 300)], dim=1),
    "all zero": torch.zeros(1, 40, 300),
    "tiny": normal(1, 40, 300) * 1e-18,
    "huge": normal(1, 40, 300) * 1e15,
    "in groups": normal(3, 40, 300),
}


def by_qr(matrix: Tensor) -> Tensor:
    return Activation(matrix)._factor


@pytest.mark.parametrize("factor", [by_qr, _cholesky_factor], ids=["qr", "cholesky"])
@pytest.mark.parametrize("matrix", INPUTS.values(), ids=INPUTS)
def test_norms_are_those_of_the_inputs(matrix: Tensor, factor: Callable[[Tensor], Tensor]) -> None:
    """||S B|| = ||A^T B|| up to float32's rounding of P terms, in units of ||A|| ||B||."""
    columns = normal(40, 30).double()
    found = (factor(matrix).double() @ columns).square().sum(1)
    exact = matrix.double()
    expected = (exact.transpose(1, 2) @ columns).square().sum(1)
    size = exact.square().sum((1, 2))[:, None] * columns.square().sum(0)
    assert ((found - expected).abs() <= 40 * torch.finfo(torch.float32).eps * size).all()


def test_what_is_not_finite_stays_so() -> None:
    matrix = normal(1, 10, 50)
    matrix[0, 3, 7] = torch.nan
    assert not _cholesky_factor(matrix).isfinite().all()
