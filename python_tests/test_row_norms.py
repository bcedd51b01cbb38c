"""Squared norms of rows against sums in float64."""

from __future__ import annotations

import pytest
import torch

from egl_fast.ops import row_sq_norms

#: How a tensor [A, R, B] may lie in memory, outermost dimension first.
LAYOUTS = {"ARB": (0, 1, 2), "RAB": (1, 0, 2), "RBA": (1, 2, 0), "BAR": (2, 0, 1)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 3, 1), (3, 4, 70), (40, 2, 300), (1, 2, 20000), (2, 0, 5)])
def test_equals_the_sum_of_squares(
    layout: str, dtype: torch.dtype, shape: tuple[int, int, int]
) -> None:
    generator = torch.Generator().manual_seed(sum(shape))
    order = LAYOUTS[layout]
    memory = torch.randn([shape[d] for d in order], generator=generator).to(dtype)
    rows = memory.permute([order.index(d) for d in range(3)])
    assert rows.shape == shape
    expected = rows.double().square().sum((0, 2))
    # Nothing is negative, so an addition costs half a last bit of the sum at most; in the rows' own
    # precision no more than 4,096 numbers are added.
    additions = min(shape[2], 4096) * torch.finfo(dtype).eps
    tolerance = additions + shape[0] * shape[2] * torch.finfo(torch.float64).eps
    torch.testing.assert_close(row_sq_norms(rows), expected, rtol=tolerance, atol=0.0)


@pytest.mark.parametrize("number", [1e-44, 1e-30, 1e-22, 1e-19, 1e-13, 1e18, 1e20, 3e38])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_squares_that_float32_cannot_hold_count(number: float, layout: str) -> None:
    """A confident model's gradients are below 1e-22; their squared norms must not be 0."""
    shape, order = (3, 4, 5000), LAYOUTS[layout]
    memory = torch.full([shape[d] for d in order], number)
    rows = memory.permute([order.index(d) for d in range(3)])
    rows[:, 1] = 0.0
    rows[0, 2] = 1.0
    rows[0, 3, 1:] = 0.0
    expected = rows.double().square().sum((0, 2))
    tolerance = 4096 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(row_sq_norms(rows), expected, rtol=tolerance, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_stays_so(dtype: torch.dtype) -> None:
    rows = torch.ones(2, 3, 5, dtype=dtype)
    rows[1, 0, 3], rows[0, 1, 2] = torch.nan, -torch.inf
    norms = row_sq_norms(rows).tolist()
    assert norms[0] != norms[0]
    assert norms[1:] == [torch.inf, pytest.approx(10.0)]


def test_operator_is_registered_correctly() -> None:
    torch.library.opcheck(torch.ops.egl_fast.row_sq_norms.default, (torch.ones(2, 3, 4),))


@pytest.mark.parametrize("shape", [(0, 2, 3), (3, 2, 0)])
def test_nothing_has_norm_zero(shape: tuple[int, int, int]) -> None:
    assert torch.equal(row_sq_norms(torch.zeros(shape)), torch.zeros(2, dtype=torch.float64))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"^rows: expected float32 or float64 \[A, R, B\], got "):
        row_sq_norms(torch.zeros(2, 3))
    message = r"^rows: .*, got float16 \[2, 3, 4\]$"
    with pytest.raises(ValueError, match=message):
        row_sq_norms(torch.zeros(2, 3, 4, dtype=torch.float16))
