"""Options that several commands share, so that one word means one thing everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, cast

import click
from click.shell_completion import CompletionItem

from egl_fast.cli.console import stderr
from egl_fast.methods import METHODS
from egl_fast.scoring.options import ScoringOptions

if TYPE_CHECKING:
    import torch

    from egl_fast.scorer import Scorer

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


def _click_option(own: Field[Any], **changes: Any) -> Decorator:
    facts = own.metadata
    known: dict[str, Any] = {"help": facts["help"], "default": own.default}
    if isinstance(own.default, bool):
        known["is_flag"] = True
    elif isinstance(own.default, float):
        known["type"] = Amount(0, 1, min_open=True, max_open=True)
    elif "least" in facts:
        least = facts["least"]
        known["type"] = int if least == -math.inf else click.IntRange(min=int(least))
    elif own.name == "method":
        known["type"] = click.Choice(list(METHODS))
    elif own.name == "params":
        known["metavar"] = "GLOB"
    known |= changes
    known["show_default"] = known["default"] is not None and "is_flag" not in known
    return click.option(f"--{own.name.replace('_', '-')}", **known)


def scoring_option(name: str, **changes: Any) -> Decorator:
    """One option of ``ScoringOptions``, with changes to what ``click.option`` is given."""
    [own] = [own for own in fields(ScoringOptions) if own.name == name]
    return _click_option(own, **changes)


#: Option of a method -> the methods that have it.
METHOD_OPTIONS: dict[str, list[str]] = {}
_METHOD_FIELDS: dict[str, Field[Any]] = {}
for _name, _kind in METHODS.items():
    for _own in fields(cast(Any, _kind)):
        METHOD_OPTIONS.setdefault(_own.name, []).append(_name)
        _METHOD_FIELDS.setdefault(_own.name, _own)


def scoring(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options of ``ScoringOptions``, and all of every method; see ``chosen_scoring``."""
    decorators = []
    for own in fields(ScoringOptions):
        if own.name not in METHOD_OPTIONS:
            decorators.append(_click_option(own))
        if own.name == "method":
            for name, methods in METHOD_OPTIONS.items():
                text = _METHOD_FIELDS[name].metadata["help"]
                text = f"Of {' and '.join(methods)}: {text[0].lower()}{text[1:]}"
                decorators.append(_click_option(_METHOD_FIELDS[name], help=text))
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def chosen_scoring(values: dict[str, Any]) -> ScoringOptions:
    """What ``scoring`` made of a command line.

    Raises:
        click.UsageError: a value is out of its range.
    """
    kind: Any = METHODS[values["method"]]
    rest = {name: value for name, value in values.items() if name not in METHOD_OPTIONS}
    try:
        rest["method"] = kind(**{own.name: values[own.name] for own in fields(kind)})
        return ScoringOptions(**rest)
    except ValueError as error:
        raise click.UsageError(str(error).replace("_", "-")) from None


seed: Decorator = scoring_option("seed")


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


def load_scorer(
    path: str, device: torch.device, *, memory_bytes: int | None, precision: Any
) -> Scorer:
    """The scorer of a model file.

    Raises:
        click.UsageError: the precision cannot be had on the device.
    """
    from egl_fast.scorer import Scorer

    try:
        return Scorer.from_checkpoint(
            path, device=device, memory_bytes=memory_bytes, precision=precision
        )
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None


def set_up_torch(device_name: str, num_threads: int | None) -> torch.device:
    """Set the number of threads and the use of memory, and resolve ``auto``.

    Raises:
        DeviceError: a GPU was asked for, and there is none that can be used.
    """
    import torch

    from egl_fast.allocator import keep_freed_memory
    from egl_fast.devices import usable_device

    keep_freed_memory()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return usable_device(device_name)
