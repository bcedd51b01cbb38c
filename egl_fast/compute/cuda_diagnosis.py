"""Whether egl_fast can compute on a GPU here; if not, why, and what to do."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from egl_fast._extension import BuildInfo

REBUILD = "`EGL_CUDA=on pip install --no-build-isolation .` in the egl-fast source folder"


@dataclass(frozen=True)
class Obstacle:
    """What keeps a GPU from being used, and what to do about it, as two phrases."""

    what: str
    remedy: str


def cuda_obstacle(build: BuildInfo, index: int | None = None) -> Obstacle | None:
    """The first thing that keeps egl_fast from computing on a GPU; None if nothing does.

    Args:
        build: how the extension was built.
        index: which GPU; None: any.
    """
    return next(_obstacles(build, index), None)


def driver_cuda_version() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver supports; None where there is no driver."""
    version = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return (version.value // 1000, version.value % 1000 // 10) if status == 0 else None


def device_names() -> list[str]:
    """The GPUs that torch sees, such as `NVIDIA H100 80GB HBM3 (sm_90)`."""
    return [
        f"{torch.cuda.get_device_name(i)} (sm_{_architecture(i)})"
        for i in range(torch.cuda.device_count())
    ]


def has_code_for(architecture: int, built_for: list[int]) -> bool:
    """Whether machine code runs on a device; newer ones of the same major version also run it."""
    return any(a // 10 == architecture // 10 and a <= architecture for a in built_for)


def _obstacles(build: BuildInfo, index: int | None) -> Iterator[Obstacle]:
    """In torch, driver, devices, and egl_fast, in this order; only the first is reliable."""
    version = f"torch {torch.__version__}"
    if torch.version.hip is not None or torch.version.cuda is None:
        kind = "a CPU build" if torch.version.hip is None else "built for ROCm"
        then = "" if build["built_with_cuda"] else f", then rebuild egl-fast: {REBUILD}"
        yield Obstacle(f"{version} is {kind}", f"install a CUDA build of torch{then}")
    driver = driver_cuda_version()
    if driver is None:
        yield Obstacle("there is no NVIDIA driver (libcuda.so.1)", "install NVIDIA's driver")
        return
    too_old = f"the driver is too old: it supports CUDA {_dotted(driver)}, and"
    needed = _version(str(torch.version.cuda))
    if driver[0] < needed[0]:
        yield Obstacle(
            f"{too_old} {version} was built with {_dotted(needed)}",
            f"update NVIDIA's driver, or install a torch built with CUDA {driver[0]}",
        )
    with warnings.catch_warnings(record=True) as caught:  # torch warns of what it did not like
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
        count = torch.cuda.device_count()
    if not usable:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            yield Obstacle(
                f"torch finds no GPU among CUDA_VISIBLE_DEVICES={visible!r}",
                "name one of those that `nvidia-smi -L` lists, or unset it",
            )
        said = "".join(f": {' '.join(str(warning.message).split())}" for warning in caught[:1])
        yield Obstacle(
            f"{version} finds no GPU{said}",
            "check that `nvidia-smi` finds one; in a container, pass it on",
        )
    if index is not None and index >= count:
        some = "1 GPU" if count == 1 else f"{count} GPUs"
        yield Obstacle(f"torch finds {some}, numbered from 0", "choose one of those")
    if not build["built_with_cuda"]:
        yield Obstacle(
            "this egl-fast was built without CUDA",
            f"install nvcc of CUDA 12 or later, then {REBUILD}",
        )
    built = _version(str(build["cuda_version"]))
    if driver[0] < built[0]:
        yield Obstacle(
            f"{too_old} egl-fast was built with {_dotted(built)}",
            f"update NVIDIA's driver, or with nvcc of CUDA {driver[0]}: {REBUILD}",
        )
    indices = range(count) if index is None else [index]
    obstacles = [_of_architecture(build, i, driver) for i in indices]
    if None not in obstacles:
        yield from filter(None, obstacles)


def _of_architecture(build: BuildInfo, index: int, driver: tuple[int, int]) -> Obstacle | None:
    architecture = _architecture(index)
    built_for = build["cuda_architectures"]
    if has_code_for(architecture, built_for):
        return None
    device = f"{torch.cuda.get_device_name(index)} is sm_{architecture}"
    rebuild = f"`EGL_CUDA_ARCHS={architecture} {REBUILD[1:]}"
    if architecture < built_for[-1]:
        listed = ", ".join(f"sm_{a}" for a in built_for)
        return Obstacle(f"{device}, and egl-fast was built for {listed}", f"rebuild: {rebuild}")
    # The driver compiles PTX if it is at least as new as the compiler that wrote it.
    built = _version(str(build["cuda_version"]))
    if driver < built:
        return Obstacle(
            f"{device}, for which the driver has to compile PTX of CUDA {_dotted(built)}, "
            f"and it supports {_dotted(driver)}",
            f"update NVIDIA's driver, or {rebuild}",
        )
    return None


def _architecture(index: int) -> int:
    major, minor = torch.cuda.get_device_capability(index)
    return major * 10 + minor


def _version(text: str) -> tuple[int, int]:
    major, minor, *_ = (*text.split("."), "0")
    return int(major), int(minor)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
