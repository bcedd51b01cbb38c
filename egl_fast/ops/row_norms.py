"""Squared norms of many rows at once."""

from __future__ import annotations

import torch
from torch import Tensor

from egl_fast import _extension
from egl_fast.ops.arguments import check_same_device

#: Most numbers whose squares are summed in float32 on the CPU. A sum of a hundred thousand loses
#: four digits, one of thousands two or three bits.
_RUN = 4096

#: Squares below 2^-126, float32's smallest normal number, may lose all their digits. 4,096 of them
#: are less than 2^-114, too little to affect a squared norm from here on.
_LEAST = 2.0**-80


def row_sq_norms(rows: Tensor) -> Tensor:
    """Squared norms [R] float64 of rows that are not contiguous: row r is all of ``rows[:, r]``.

    On a GPU, squares are summed in float64, in an order that depends on the row's size alone.

    Args:
        rows: [A, R, B] float32 or float64, any strides.

    Raises:
        ValueError: a wrong dtype or number of dimensions.
    """
    check_same_device("rows", rows)
    norms: Tensor = _extension.operators().row_sq_norms.default(rows.detach())
    return norms


def _by_torch(rows: Tensor) -> Tensor:
    """The operator where we have no kernel: torch's norms run at the speed of memory."""
    if rows.dim() != 3 or rows.dtype not in (torch.float32, torch.float64):
        dtype = str(rows.dtype).removeprefix("torch.")
        raise ValueError(
            f"rows: expected float32 or float64 [A, R, B], got {dtype} {list(rows.shape)}"
        )
    parts = [
        torch.linalg.vector_norm(run, dim=2).double().square().sum(0)
        for run in torch.split(rows, _RUN, dim=2)
    ]
    norms = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
    if rows.dtype == torch.float32 and rows.numel() > 0:
        trusted = norms.isfinite() & (norms >= _LEAST * len(parts) * rows.shape[0])
        for r in (~trusted).nonzero().flatten().tolist():
            if bool(rows[:, r].any()):
                norms[r] = rows[:, r].double().square().sum()
    return norms


torch.library.impl("egl_fast::row_sq_norms", "CompositeExplicitAutograd", _by_torch)
torch.library.register_fake(
    "egl_fast::row_sq_norms", lambda rows: rows.new_empty(rows.shape[1], dtype=torch.float64)
)
