"""Options that several commands share, so that one word means one thing everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from egl_fast import kinds
from egl_fast.cli.console import stderr

if TYPE_CHECKING:
    import torch

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class PathName(click.ParamType):  # type: ignore[type-arg]
    """The name of a file or folder, which a shell may complete; "-" is standard input or output.

    Args:
        kind: "file" or "dir".
    """

    def __init__(self, kind: str) -> None:
        self.name = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type=self.name)]


FILE = PathName("file")
FOLDER = PathName("dir")


class Amount(click.FloatRange):
    """A finite number in a range: JSON has no infinity, and NaN is in every range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """As click does, and finite."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


model: Decorator = click.option(
    "--model", "model_path", required=True, type=FILE, help="Model file that `train` wrote."
)


def _be_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    stderr.quiet = value


quiet: Decorator = click.option(
    "--quiet",
    "-q",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_be_quiet,
    help="Nothing on standard error but warnings and errors.",
)
batch_seconds: Decorator = click.option(
    "--batch-seconds",
    type=Amount(min=0, min_open=True),
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
    default=None,
    help="What gradients may take, beside model and recording; with less, fewer rows a pass "
    "[default: 2GiB; on a GPU, half of its memory].",
)


class Device(click.ParamType):  # type: ignore[type-arg]
    """A device by its name."""

    name = "device"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """``auto``, ``cpu``, ``cuda``, ``cuda:1``."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            self.fail(f"{value!r}: expected auto, cpu, cuda or, of several, cuda:1", param, ctx)
        return str(value)


device: Decorator = click.option(
    "--device",
    type=Device(),
    metavar="auto|cpu|cuda",
    default="auto",
    show_default=True,
    help="Where to compute; auto: on a GPU where one can be used. cuda:1 is the second of several.",
)
precision: Decorator = click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "bf16"]),
    default="float32",
    show_default=True,
    help="Of the model's matrix products; on a GPU tf32 and bf16 are faster, and err.",
)
threads: Decorator = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=None,
    help="CPU threads [default: all cores].",
)


def set_up_torch(device_name: str, num_threads: int | None) -> torch.device:
    """Set the number of threads and the use of memory, and resolve ``auto``.

    Raises:
        DeviceError: a GPU was asked for, and there is none that can be used.
    """
    import torch

    from egl_fast.compute.devices import usable_device
    from egl_fast.compute.memory import keep_freed_memory

    keep_freed_memory()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return usable_device(device_name)


def of_fields(config: type, *, but: Container[str] = ()) -> Decorator:
    """An option for each field of a dataclass with kinds, in their order.

    Args:
        config: the dataclass.
        but: fields that get none.
    """
    wanted = [described for described in fields(config) if described.name not in but]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for described in reversed(wanted):
            command = _of_field(described)(command)
        return command

    return decorate


def _of_field(described: Field[Any]) -> Decorator:
    name, help = f"--{described.name.replace('_', '-')}", described.metadata["help"]
    kind: Any = kinds.kind_of(described)
    if kind is kinds.boolean:
        return click.option(name, is_flag=True, help=help)
    if isinstance(kind, kinds.OneOf):
        kind = click.Choice(kind.choices)
    elif isinstance(kind, kinds.Integer):
        kind = click.IntRange(kind.at_least, kind.at_most)
    else:
        assert isinstance(kind, kinds.Number)
        low, high = kind.above, kind.below
        kind = Amount(
            kind.at_least if low is None else low,
            kind.at_most if high is None else high,
            min_open=low is not None,
            max_open=high is not None,
        )
    return click.option(name, type=kind, default=described.default, show_default=True, help=help)
