"""The machine's ceiling: the rate of a large matrix product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from egl_fast.benchmarking.turns import CPU, Work
from egl_fast.compute.precision import matmul_precision
from egl_fast.compute.products import matrix_product

#: Order of the square matrices: large enough for either library's best rate, and 0.1 s or so.
ORDER = 2048

#: The same on a GPU, where that would be over before all of it is at work.
CUDA_ORDER = 8192


class LargeProduct:
    """A product of square matrices, by each library that torch has for it.

    Args:
        device: where.
        precision: how products of float32 numbers are taken there, see ``precision``.

    Attributes:
        multiply_adds: of one product.
        contenders: on the CPU, a product as torch does it by default (MKL, in its x86 builds), and
            by oneDNN.
    """

    def __init__(self, device: torch.device = CPU, precision: str = "float32") -> None:
        order = ORDER if device.type == "cpu" else CUDA_ORDER
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(order, order, generator=generator).to(device) for _ in range(2))

        def by_torch() -> None:
            with matmul_precision(precision, device):
                a @ b

        def by_onednn() -> None:
            with matmul_precision(precision, device):
                matrix_product(a, b)

        self.multiply_adds = order**3
        self.contenders: dict[str, Work] = {"torch's product": by_torch}
        if device.type == "cpu":
            self.contenders["oneDNN's product"] = by_onednn

    def rates(self, seconds: Mapping[str, Sequence[float]]) -> list[float]:
        """Multiply-adds a second, round by round: the faster product of each.

        Args:
            seconds: of the contenders, and maybe of others, by name.
        """
        best = (
            min(of_round)
            for of_round in zip(*map(seconds.__getitem__, self.contenders), strict=True)
        )
        return [self.multiply_adds / fastest for fastest in best]
