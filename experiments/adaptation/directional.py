"""Derivatives of the top's logits along directions in the space of its weights, forward only.

Every layer hands on its outputs and their derivatives along all m directions, so nothing is stored
and nothing runs backward. Along one direction this costs about two forward passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from halves import Top
from torch import Tensor, nn
from torch.nn import functional as F

#: Sizes of transforms are multiples of it, so that recordings of like length share the weights'.
_SIZE_STEP = 32


@dataclass(frozen=True)
class Dual:
    """Values [C, T] and their derivatives along m directions [C, m, T]; None where all are zero."""

    value: Tensor
    along: Tensor | None

    def relu(self) -> Dual:
        """max(0, .); where the value is exactly zero, the derivative counts as zero."""
        along = None if self.along is None else self.along * (self.value > 0)[:, None]
        return Dual(F.relu(self.value), along)

    def __add__(self, other: Dual) -> Dual:
        assert self.along is not None
        assert other.along is not None
        return Dual(self.value + other.value, self.along + other.along)


class Directional:
    """The top with m directions for its weights.

    Args:
        top: whose weights they are.
        directions: parameter's name -> [m, *shape].
        dtype: of the derivatives and their matrix products, which take most of the time. With
            bfloat16 they are good to half a percent.
    """

    def __init__(
        self, top: Top, directions: dict[str, Tensor], dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.top = top
        self.dtype = dtype
        self._names = {module: name for name, module in top.named_modules()}
        # Channels first, then directions: a product with the weights is one matrix product then.
        self._directions = {
            name: value.transpose(0, 1).to(dtype).contiguous() for name, value in directions.items()
        }
        self._spectra: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [T, C] and derivatives [m, T, C] of a recording's frames [T, 512]."""
        x = Dual(frames.T.contiguous(), None)
        block: Any
        for block in self.top.blocks:
            y = x
            for place, separable in enumerate(block.convs):
                y = self._pointwise(self._depthwise(y, separable.dw), separable.pw)
                if place + 1 < len(block.convs):
                    y = y.relu()
            x = (y + self._pointwise(x, block.res)).relu()
        x = self._pointwise(self._depthwise(x, self.top.c2.dw), self.top.c2.pw).relu()
        x = self._pointwise(self._pointwise(x, self.top.c3).relu(), self.top.head)
        assert x.along is not None
        return x.value.T, x.along.permute(1, 2, 0).float()

    def _own(self, module: nn.Module, parameter: str) -> tuple[Tensor, Tensor]:
        """A parameter and its directions [channels, m, ..]."""
        value: Tensor = getattr(module, parameter)
        return value.detach(), self._directions[f"{self._names[module]}.{parameter}"]

    def _pointwise(self, x: Dual, module: nn.Module) -> Dual:
        weight, weights = self._own(module, "weight")
        bias, biases = self._own(module, "bias")
        out, num_directions, into = len(weight), weights.shape[1], weight.shape[1]
        weight = weight.view(out, into)
        along = weights.view(out * num_directions, into) @ x.value.to(self.dtype)
        along = along.view(out, -1)
        if x.along is not None:
            along.addmm_(weight.to(self.dtype), x.along.reshape(into, -1))
        along = along.view(out, num_directions, -1).add_(biases[..., None])
        return Dual(weight @ x.value + bias[:, None], along)

    def _depthwise(self, x: Dual, module: nn.Conv1d) -> Dual:
        num_frames = x.value.shape[1]
        # Half the kernel reaches beyond either end, and finds the same zeros there.
        reach = module.dilation[0] * (module.kernel_size[0] - 1)
        size = -(-max(num_frames + reach // 2, reach + 1) // _SIZE_STEP) * _SIZE_STEP
        of_weight, of_weights = self._spectrum(module, size)
        of_x = torch.fft.rfft(x.value, size)
        of_along = of_weights * of_x[:, None]
        if x.along is not None:
            of_along.addcmul_(torch.fft.rfft(x.along.float(), size), of_weight[:, None])
        value = torch.fft.irfft(of_x * of_weight, size)[..., :num_frames]
        along = torch.fft.irfft(of_along, size)[..., :num_frames]
        return Dual(value.contiguous(), along.to(self.dtype))

    def _spectrum(self, module: nn.Conv1d, size: int) -> tuple[Tensor, Tensor]:
        """Conjugate transforms [C, F] and [C, m, F] of a module's weights; kept for one size."""
        found = self._spectra.get(module)
        if found is None or found[0].shape[1] != size // 2 + 1:
            both = []
            for one in self._own(module, "weight"):
                taps = one.squeeze(-2).float()
                reach = module.dilation[0] * (taps.shape[-1] - 1)
                spread = taps.new_zeros(*taps.shape[:-1], size)
                spread[..., : reach + 1 : module.dilation[0]] = taps
                centered = spread.roll(-(reach // 2), dims=-1)
                both.append(torch.fft.rfft(centered).conj().resolve_conj())
            found = self._spectra[module] = (both[0], both[1])
        return found
