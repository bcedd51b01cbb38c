"""How exactly matrix products of float32 numbers are taken.

GPUs multiply short numbers many times as fast. torch lets cuDNN shorten those of convolutions
unless told otherwise; here nothing is shortened unless asked for. Sums are float32 in
any case.
docs/cuda.md says what each choice does to scores.
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

#: "float32"; "tf32", operands rounded to 10 bits of mantissa, on NVIDIA GPUs alone; "bf16",
#: operands and results rounded to 7 bits.
Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: Final = get_args(Precision)


def check_precision(precision: str, device: torch.device) -> None:
    """Make sure that products can be taken so on a device.

    Raises:
        ValueError: the name is unknown, or "tf32" is asked of anything but an NVIDIA GPU.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision: tf32 is for NVIDIA GPUs, and the model is on {device}")


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Take products of float32 tensors so while the context is open, whatever torch is set to.

    A ``torch.autocast`` that surrounds the context does not reach into it. On the CPU "float32"
    leaves everything else as it is.

    Args:
        precision: one of ``PRECISIONS``.
        device: where they are taken.
    """
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if device.type == "cuda":
            # What no context can round to bf16 (a product in a native operator) is TF32 there.
            stack.enter_context(_fp32_products("ieee" if precision == "float32" else "tf32"))
        if precision == "bf16":
            stack.enter_context(BFloat16Products())  # type: ignore[no-untyped-call]
        yield


def _set_fp32_products(form: str) -> Callable[[], None]:
    # torch has an old and a new way to say it, and refuses to tell in the old way what was said in
    # the new one alone: both are set, and put back, unless it refuses already.
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
    # Left to itself, cuDNN takes the way back through a convolution by atomic additions, and may
    # choose another algorithm in the next run: other bits either way.
    cudnn.deterministic, cudnn.benchmark = True, False
    return put_back


#: "ieee" or "tf32", for the whole process.
_fp32_products = SharedChange(_set_fp32_products)


def _if_told(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except RuntimeError:  # it was set in the new way
        return None


class ReducedProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Products and convolutions of other numbers than they are given.

    A dispatch mode, so that it holds in backward passes and under ``torch.func.vmap``, too. Tensors
    that are not float32 stay as they are.
    """

    def reduced(self, operand: Tensor) -> Tensor:
        """What is multiplied in place of a float32 tensor."""
        raise NotImplementedError

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
        return self.reduced(operand) if operand.dtype == torch.float32 else operand


#: As they arrive below autograd.
_PRODUCTS: Final = {
    "aten::mm",
    "aten::bmm",
    "aten::addmm",
    "aten::baddbmm",
    "aten::convolution",
    "aten::convolution_backward",
    "egl_fast::matrix_product",
}


class BFloat16Products(ReducedProducts):  # type: ignore[no-untyped-call]
    """Operands and results rounded to bfloat16."""

    def reduced(self, operand: Tensor) -> Tensor:
        """See ``ReducedProducts``."""
        return operand.bfloat16()
