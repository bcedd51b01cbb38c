"""Options shared by several commands, so that they mean the same everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.shell_completion import CompletionItem

from egl_fast import kinds
from egl_fast.cli.console import say, stderr
from egl_fast.files import copies
from egl_fast.files.addresses import Address, disguised, place_of
from egl_fast.methods import METHODS
from egl_fast.scoring.options import ScoringOptions

if TYPE_CHECKING:
    import torch

    from egl_fast.recognizers.recognizer import Recognizer
    from egl_fast.scorer import Scorer

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class PathName(click.ParamType):  # type: ignore[type-arg]
    """The name of a "file" or "dir", which the shell can complete; "-" is a standard stream.

    Args:
        kind: of the two.
        at_url: given a URL, what the command gets in its place; None: the URL, which from then on
            keeps its credentials to itself.
    """

    def __init__(self, kind: str, at_url: Callable[[Address], Path] | None = None) -> None:
        self.name = kind
        self._at_url = at_url

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The name, or its replacement."""
        if not isinstance(value, str) or (ctx is not None and ctx.resilient_parsing):
            return value
        shown = disguised(value)
        place = place_of(shown)
        if not isinstance(place, Address):
            return str(place) if shown.startswith(("file://", "local://")) else shown
        if self.name == "dir":
            self.fail(f"{place} is a URL; name a folder on a disk", param, ctx)
        return str(place if self._at_url is None else self._at_url(place))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type=self.name)]


def _refused(address: Address) -> Path:
    raise click.BadParameter(f"{address} is a URL; name a file on a disk")


#: What is read as a whole; what `score` or `select` wrote, with the files beside it.
FILE = PathName("file", copies.fetched)
SCORES = PathName("file", partial(copies.fetched, beside=True))
#: A manifest, whose recordings are where it is.
MANIFEST = PathName("file")
#: What is written; what a later run may continue.
OUT = PathName("file", partial(copies.output, is_kept=False))
RESUMABLE_OUT = PathName("file", partial(copies.output, is_kept=True))
FOLDER = PathName("dir")
#: What grows while a command runs, or leads to other files by their paths.
ON_DISK = PathName("file", _refused)


def sources(
    name: str, *names: str, help: str, required: bool = False, default: str = ""
) -> Decorator:
    """An option for a manifest, or any source of `egl-fast manifest`, once or several times; its
    value is a tuple of paths.

    Args:
        name: the option.
        names: another name of its value.
        help: what it is for.
        required: whether it must be given.
        default: what happens without it.
    """
    more = "may be repeated, and may be anything that `manifest` reads"
    without = f" [default: {default}]" if default else ""
    return click.option(
        *(name, *names),
        multiple=True,
        required=required,
        type=MANIFEST,
        metavar="SOURCE",
        help=f"{help}; {more}{without}.",
    )


class FiniteFloat(click.FloatRange):
    """A finite number in a range: JSON lacks infinity, and NaN is in every range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


model: Decorator = click.option(
    "--model",
    "model_spec",
    required=True,
    type=FILE,
    metavar="SPEC",
    help="A file that `train` wrote, hf:DIR, nemo:FILE.nemo, or FILE.py:FACTORY or "
    "PACKAGE.MODULE:FACTORY, which run the code they name (docs/your-model.md).",
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
    help="Print only warnings and errors to standard error.",
)
batch_seconds: Decorator = click.option(
    "--batch-seconds",
    type=FiniteFloat(min=0, min_open=True),
    default=80.0,
    show_default=True,
    help="Seconds of padded audio per batch.",
)


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes with a unit: ``512MiB``, ``2GiB``, ``4 GB``."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        size = r"(\d{1,18}(?:\.\d{1,18})?) ?([KMGT])(i?)B?"
        match = re.fullmatch(size, value.strip(), re.IGNORECASE)
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
    help="Memory for gradients, beyond model and recording; less means more backward passes "
    "[default: a quarter of the machine's, at most 4GiB; on a GPU, half of its memory].",
)


def completed_from(names: Iterable[str]) -> Callable[..., list[CompletionItem]]:
    """What a shell is offered for a value that may also be another."""

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names if name.startswith(typed)]

    return complete


class Device(click.ParamType):  # type: ignore[type-arg]
    """A device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``."""

    name = "device"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            self.fail(
                f"{value!r}: expected auto, cpu, cuda, or cuda:N for one of several", param, ctx
            )
        return str(value)


device: Decorator = click.option(
    "--device",
    type=Device(),
    metavar="auto|cpu|cuda",
    shell_complete=completed_from(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Where to compute; auto: on a GPU if one is usable. cuda:1 is the second GPU.",
)
precision: Decorator = click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "bf16"]),
    default="float32",
    show_default=True,
    help="Precision of matrix products; tf32 and bf16 are faster on a GPU, but less exact.",
)
threads: Decorator = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=None,
    help="CPU threads [default: all cores].",
)


scored_seconds: Decorator = click.option(
    "--batch-seconds",
    type=FiniteFloat(min=0, min_open=True),
    help="Seconds of padded audio per forward pass [default: 8; on a GPU, 160].",
)
max_duration: Decorator = click.option(
    "--max-duration",
    type=FiniteFloat(min=0, min_open=True),
    metavar="SECONDS",
    help="Refuse longer recordings (listed in the errors file).",
)
read_timeout: Decorator = click.option(
    "--read-timeout",
    type=FiniteFloat(min=0, min_open=True),
    metavar="SECONDS",
    default=120.0,
    show_default=True,
    help="Give up on recordings that take longer to read (listed in the errors file).",
)


def limit(help: str) -> Decorator:
    """``--limit``; ``help`` says what it does, such as "Score only the first N recordings"."""
    return click.option("--limit", type=click.IntRange(min=1), metavar="N", help=help)


class ReportTarget(click.ParamType):  # type: ignore[type-arg]
    """A target of ``--report-to``."""

    name = "target"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from egl_fast.tracking.reports import Target

        return value if isinstance(value, Target) else Target.parse(value)


report_to: Decorator = click.option(
    "--report-to",
    "report_to",
    type=ReportTarget(),
    multiple=True,
    metavar="TOOL:PLACE",
    help="Also send results there as they come: tensorboard:DIR, wandb:PROJECT, or mlflow:URI; "
    "repeatable.",
)


def load_scorer(
    spec: str,
    device: torch.device,
    *,
    params: str | None = None,
    memory_bytes: int | None,
    precision: Any,
) -> Scorer:
    """A model's scorer. Raises ``click.UsageError`` if the device lacks the precision."""
    from egl_fast.scorer import Scorer

    try:
        scorer = Scorer.from_pretrained(
            spec, device=device, params=params, memory_bytes=memory_bytes, precision=precision
        )
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    if params is None:
        say_what_counts(scorer.recognizer)
    return scorer


def say_what_counts(recognizer: Recognizer) -> None:
    """A note if not all of a model's parameters count by default."""
    if recognizer.params is not None:
        say_counting(recognizer.params, recognizer.pattern(None))


def say_counting(params: str, pattern: str | None) -> None:
    """A note on the parameters that count by default, by name and as a pattern."""
    say(
        f"parameters that count: {params} ({pattern}), those that fine-tuning usually trains; "
        "`score --params all` counts every one"
    )


def set_up_torch(device_name: str, num_threads: int | None) -> torch.device:
    """Set the number of threads, configure memory, and resolve ``auto``. Raises ``DeviceError``."""
    import torch

    from egl_fast.compute.devices import usable_device
    from egl_fast.compute.memory import keep_freed_memory

    keep_freed_memory()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return usable_device(device_name)


def of_fields(config: type, *, but: Container[str] = ()) -> Decorator:
    """One option per field of a dataclass with kinds, in order, except for fields in ``but``."""
    wanted = [described for described in fields(config) if described.name not in but]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for described in reversed(wanted):
            command = _of_field(described)(command)
        return command

    return decorate


def _of_field(described: Field[Any], **changes: Any) -> Decorator:
    kind: Any = kinds.kind_of(described)
    facts: dict[str, Any] = {"help": described.metadata["help"]}
    if isinstance(kind, kinds.Optional):
        kind = kind.kind
    else:
        facts |= {"default": described.default, "show_default": True}
    if kind is kinds.boolean:
        facts |= {"is_flag": True, "show_default": False}
    elif isinstance(kind, kinds.OneOf):
        facts["type"] = click.Choice(kind.choices)
    elif isinstance(kind, kinds.Integer):
        bounds = (kind.at_least, kind.at_most)
        facts["type"] = int if bounds == (None, None) else click.IntRange(*bounds)
    elif isinstance(kind, kinds.Number):
        low, high = kind.above, kind.below
        facts["type"] = FiniteFloat(
            kind.at_least if low is None else low,
            kind.at_most if high is None else high,
            min_open=low is not None,
            max_open=high is not None,
        )
    else:
        facts["metavar"] = getattr(kind, "metavar", None)
    return click.option(f"--{described.name.replace('_', '-')}", **facts | changes)


#: Option of a method -> the methods that have it.
METHOD_OPTIONS: dict[str, list[str]] = {}
for _name, _kind in METHODS.items():
    for _own in fields(cast(Any, _kind)):
        METHOD_OPTIONS.setdefault(_own.name, []).append(_name)

#: For ``refuse_idle_options``: what each of them needs to have an effect.
NEEDED_METHODS = {
    f"--{name.replace('_', '-')}": f"--method {'|'.join(methods)}"
    for name, methods in METHOD_OPTIONS.items()
}


def scoring_option(name: str, **changes: Any) -> Decorator:
    """One option of ``ScoringOptions``, with changes to the arguments of ``click.option``."""
    return _of_field(next(f for f in fields(ScoringOptions) if f.name == name), **changes)


def scoring(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options of ``ScoringOptions`` and of every method; see ``chosen_scoring``."""
    common = [own.name for own in fields(ScoringOptions)]
    for name, methods in METHOD_OPTIONS.items():
        if name not in common:
            own = next(f for f in fields(cast(Any, METHODS[methods[0]])) if f.name == name)
            help = f"With {' or '.join(methods)}: {own.metadata['help']}"
            command = _of_field(own, help=help)(command)
    return of_fields(ScoringOptions)(command)


def checked_scoring(**values: Any) -> ScoringOptions:
    """``ScoringOptions``. Raises ``click.UsageError`` for a value out of range."""
    try:
        return ScoringOptions(**values)
    except ValueError as error:
        raise click.UsageError(str(error).replace("_", "-")) from None


def chosen_scoring(values: dict[str, Any]) -> ScoringOptions:
    """The result of ``scoring``. Raises ``click.UsageError`` for a value out of range."""
    kind: Any = METHODS[values["method"]]
    rest = {name: value for name, value in values.items() if name not in METHOD_OPTIONS}
    try:
        rest["method"] = kind(**{own.name: values[own.name] for own in fields(kind)})
        return ScoringOptions(**rest)
    except ValueError as error:
        raise click.UsageError(str(error).replace("_", "-")) from None


seed = scoring_option("seed")
