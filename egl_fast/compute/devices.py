"""Which device a name stands for, and whether it can be used."""

from __future__ import annotations

from functools import cache

import torch

from egl_fast import _extension
from egl_fast.compute.cuda_diagnosis import cuda_obstacle
from egl_fast.errors import DeviceError

#: Kinds of device that have operators.
COMPUTES_ON: tuple[str, ...] = ("cpu", "cuda")


def computes_on(device: torch.device) -> bool:
    """Whether a device's kind has operators."""
    return device.type in COMPUTES_ON


def usable_device(name: str | torch.device) -> torch.device:
    """The device with a name: "cpu", "cuda", "cuda:1", or "auto" for a GPU if one can be used.

    Raises:
        DeviceError: the name is unknown, or its device cannot be used here or by egl-fast.
    """
    if name == "auto":
        return torch.device("cuda" if cuda_obstacle(_extension.build_info(), 0) is None else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            f"device {name!r}: is unknown; choose auto, cpu, cuda, or one of several GPUs by its "
            "number, such as cuda:1"
        ) from None
    if not computes_on(device):
        raise DeviceError(
            f"device {name}: egl-fast has operators for the CPU and NVIDIA GPUs only; choose cpu, "
            "cuda or auto"
        )
    if device.type == "cuda":
        obstacle = cuda_obstacle(_extension.build_info(), device.index or 0)
        if obstacle is not None:
            raise DeviceError(
                f"device {name}: {obstacle.what}; `egl-fast doctor` says more, `--device cpu` "
                "needs no GPU"
            )
    return device


@cache
def start_backward_thread(device: torch.device) -> None:
    """Launch something from autograd's thread for a GPU; nothing on a CPU.

    Otherwise the thread has no CUDA context, and torch warns if the first thing that it runs is a
    cuBLAS product.
    """
    if device.type == "cuda":
        with torch.inference_mode(False), torch.enable_grad():
            torch.autograd.backward(torch.zeros(1, device=device, requires_grad=True).sum())
