"""The machine's ceiling: the rate of a large matrix product."""

from __future__ import annotations

import torch

from egl_fast.benchmarking.interleaved import CPU, Timings, Work
from egl_fast.compute.precision import matmul_precision
from egl_fast.compute.products import matrix_product

#: Order of the square matrices: large enough for either library's best rate, and 0.1 s or so.
ORDER = 2048

#: The same on a GPU, which would finish the smaller product before it is fully busy.
CUDA_ORDER = 8192


class LargeProduct:
    """A product of square matrices, by each library that torch can use for it.

    Args:
        device: where.
        precision: of products of float32 numbers, see ``precision``.

    Attributes:
        multiply_adds: of one product.
        works: on the CPU, a product as torch does it by default (MKL, in its x86 builds), and
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
        self.works: dict[str, Work] = {"torch's product": by_torch}
        if device.type == "cpu":
            self.works["oneDNN's product"] = by_onednn

    def rates(self, timings: Timings) -> list[float]:
        """Multiply-adds per second of the faster product, round by round."""
        rounds = zip(*(timings[name] for name in self.works), strict=True)
        return [self.multiply_adds / min(seconds) for seconds in rounds]
