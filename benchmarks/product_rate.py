"""The machine's ceiling: the rate of a large matrix product, by both of torch's libraries."""

from __future__ import annotations

import torch
from contest import Turns, Work

from egl_fast.products import matrix_product

#: Order of the square matrices: large enough for either library's best rate, and 0.1 s or so.
ORDER = 2048


def products() -> dict[str, Work]:
    """A product as torch does it by default (MKL, in its x86 builds), and by oneDNN."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(ORDER, ORDER, generator=generator) for _ in range(2))
    return {"torch's product": lambda: a @ b, "oneDNN's product": lambda: matrix_product(a, b)}


def rates(turns: Turns) -> list[float]:
    """Multiply-adds a second, round by round: the faster product of each."""
    best = (min(seconds) for seconds in zip(*(turns.peers[n] for n in products()), strict=True))
    return [ORDER**3 / seconds for seconds in best]
