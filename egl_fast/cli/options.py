"""Options that several commands share, so that one word means one thing everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from egl_fast.errors import EglError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

model: Decorator = click.option(
    "--model", "model_path", required=True, metavar="FILE", help="Model file that `train` wrote."
)
batch_seconds: Decorator = click.option(
    "--batch-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=80.0,
    show_default=True,
    help="Padded audio that runs through the model at once.",
)
seed: Decorator = click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of everything random."
)


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, written with a unit."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """``512MiB``, ``2GiB``, ``4 GB``."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B?", value.strip(), re.IGNORECASE)
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r}: expected a size such as 512MiB or 2GiB", param, ctx)
        thousand = 1024 if match[3] else 1000
        return int(float(match[1]) * thousand ** ("KMGT".index(match[2].upper()) + 1))


memory: Decorator = click.option(
    "--memory",
    "memory_bytes",
    type=Size(),
    metavar="SIZE",
    default="2GiB",
    show_default=True,
    help="What gradients may take, beside model and recording; with less, fewer rows a pass.",
)
device: Decorator = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute. This version has no CUDA kernels yet: auto is the CPU.",
)
threads: Decorator = click.option(
    "--threads", type=click.IntRange(min=1), default=None, help="CPU threads [default: all cores]."
)


def set_up_torch(device_name: str, num_threads: int | None) -> str:
    """Set the number of threads and the use of memory, and resolve ``auto``.

    Raises:
        EglError: CUDA was asked for.
    """
    import torch

    from egl_fast.allocator import keep_freed_memory

    keep_freed_memory()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if device_name == "cuda":
        raise EglError(
            "--device cuda: this version of egl-fast has no CUDA kernels; use --device cpu"
        )
    return "cpu"
