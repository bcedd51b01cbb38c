"""Which device a name stands for, and whether it can be used."""

from __future__ import annotations

import warnings

import torch

from egl_fast import _extension
from egl_fast.errors import DeviceError


def usable_device(name: str | torch.device) -> torch.device:
    """The device of a name: "cpu", "cuda", "cuda:1", or "auto", a GPU where one can be used.

    Args:
        name: as above; any other device that torch knows is taken as it is.

    Raises:
        DeviceError: the name means nothing, or a GPU that cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if cuda_problem() is None else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            f"device {name!r}: is unknown; choose auto, cpu, cuda or one of several by its number, "
            "such as cuda:1"
        ) from None
    if device.type == "cuda":
        problem = cuda_problem(device.index)
        if problem is not None:
            raise DeviceError(
                f"device {name}: {problem}; `egl-fast doctor` says more, `--device cpu` does "
                "without"
            )
    return device


def cuda_problem(index: int | None = None) -> str | None:
    """What keeps egl_fast from computing on a GPU, in a few words; None: nothing.

    Args:
        index: number of the GPU; None: any.
    """
    if not _extension.build_info()["built_with_cuda"]:
        return "this egl-fast was built without CUDA"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    # torch tells of a driver that is too old, or of none, by a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not torch.cuda.is_available():
            return "torch finds no GPU that it can use"
    if index is not None and index >= torch.cuda.device_count():
        return f"torch finds {torch.cuda.device_count()} of them, numbered from 0"
    return None
