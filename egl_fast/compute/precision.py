"""The precision of float32 matrix products.

GPUs multiply shorter numbers many times as fast. By default, torch lets cuDNN round the operands of
convolutions; here nothing is rounded unless asked for. Sums are always float32. docs/cuda.md says
what each choice does to scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from egl_fast.compute.process_wide import SharedChange

_T = TypeVar("_T")

#: "float32"; "tf32": operands rounded to 10 bits of mantissa, on NVIDIA GPUs only; "bf16": operands
#: and results rounded to 7 bits.
Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: Final = get_args(Precision)


def check_precision(precision: str, device: torch.device) -> None:
    """Check that a device supports this precision.

    Raises:
        ValueError: the name is unknown, or it is "tf32" and the device is not an NVIDIA GPU.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision: tf32 is for NVIDIA GPUs, and the model is on {device}")


@contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Compute products of float32 tensors in this precision while the context is open.

    Torch's own settings, and a surrounding ``torch.autocast``, have no effect inside.
    """
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if device.type == "cuda":
            # Products in native operators cannot be bf16; they are TF32 instead.
            stack.enter_context(_fp32_products("ieee" if precision == "float32" else "tf32"))
        if precision == "bf16":
            stack.enter_context(RoundedProducts(Tensor.bfloat16))
        yield


def _set_fp32_products(form: str) -> Callable[[], None]:
    # torch has an old and a new way to set this, and refuses to read in the old way what was set
    # only in the new one. So both are set and restored, the old one only if it can be read.
    cudnn: Any = torch.backends.cudnn
    here: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    new_way = [*here, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in new_way]
    matmul_before = _if_told(torch.get_float32_matmul_precision)
    convolutions_before = _if_told(lambda: cudnn.allow_tf32)
    choice_before = cudnn.deterministic, cudnn.benchmark

    def put_back() -> None:
        cudnn.deterministic, cudnn.benchmark = choice_before
        if matmul_before is not None:
            torch.set_float32_matmul_precision(matmul_before)
        if convolutions_before is not None:
            cudnn.allow_tf32 = convolutions_before
        for setting, value in zip(new_way, before, strict=True):
            setting.fp32_precision = value

    if matmul_before is not None:
        torch.set_float32_matmul_precision("high" if form == "tf32" else "highest")
    if convolutions_before is not None:
        cudnn.allow_tf32 = form == "tf32"
    for setting in here:
        setting.fp32_precision = form
    # By default, cuDNN uses atomic additions in the backward pass of convolutions, and may choose
    # another algorithm in the next run: both change bits.
    cudnn.deterministic, cudnn.benchmark = True, False
    return put_back


#: "ieee" or "tf32", for the whole process.
_fp32_products = SharedChange(_set_fp32_products)


def _if_told(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except RuntimeError:  # set in the new way
        return None


class RoundedProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Rounds the float32 operands of products and convolutions; results are float32 again.

    A dispatch mode, so that it also works in backward passes and under ``torch.func.vmap``.
    """

    def __init__(self, rounded: Callable[[Tensor], Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rounded = rounded

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator."""
        if func.name() not in _PRODUCTS:
            return func(*args, **(kwargs or {}))
        result = func(*tree_map_only(Tensor, self._operand, args), **(kwargs or {}))
        wide = any(isinstance(x, Tensor) and x.dtype == torch.float32 for x in args)
        return tree_map_only(Tensor, Tensor.float, result) if wide else result

    def _operand(self, operand: Tensor) -> Tensor:
        return self._rounded(operand) if operand.dtype == torch.float32 else operand


#: Operators below autograd.
_PRODUCTS: Final = {
    "aten::mm",
    "aten::bmm",
    "aten::addmm",
    "aten::baddbmm",
    "aten::convolution",
    "aten::convolution_backward",
    "egl_fast::matrix_product",
}
