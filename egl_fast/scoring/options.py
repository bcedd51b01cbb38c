"""What to compute: the options that Python, the command line and a run's settings share.

Nothing here imports torch before it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from egl_fast.methods import METHODS, MethodName
from egl_fast.methods.lowrank import LowRank
from egl_fast.methods.method import Method
from egl_fast.methods.option import (
    Flag,
    Integer,
    Option,
    Patterns,
    check_options,
    option,
    options_of,
)
from egl_fast.methods.probe import Probe

if TYPE_CHECKING:
    import torch

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class _MethodChoice(Option):
    def checked(self, name: str, value: Any) -> Any:
        if isinstance(value, Method) or (isinstance(value, str) and value in METHODS):
            return value
        raise ValueError(f"{name}: expected one of {', '.join(METHODS)}, got {value!r}")


def _of_method(kind: type[Method], name: str) -> Any:
    what, default = options_of(kind)[name]
    return option(default, what)


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """What to compute; each option's ``help`` says what it is.

    ``method`` is a name, with its options beside it, or a ``Method`` that holds its own.

    Raises:
        ValueError: a value is out of its range, or names something not available.
    """

    k: int = option(100, Integer("Most probable labelings that the expectation runs over.", 1, 1e6))
    beam_width: int | None = option(
        None,
        Integer(
            "Prefixes kept while searching, at least k [default: max(10 k, 100)].", 1, 1e9, True
        ),
    )
    method: MethodName | Method = option(  # noqa: RUF009 (a field, as the others)
        "exact",
        _MethodChoice("; ".join(f"{name}: {kind.summary}" for name, kind in METHODS.items()) + "."),
    )
    tolerance: float = _of_method(LowRank, "tolerance")
    probes: int = _of_method(Probe, "probes")
    full: bool = option(False, Flag("Also estimate the expectation over all labelings (egl_full)."))
    full_samples: int = option(16, Integer("Of --full: labelings drawn from the model.", 2, 1e6))
    per_hypothesis: bool = option(
        False, Flag("Write each labeling, its probability and squared norm.")
    )
    params: str | None = option(
        None,
        Patterns(
            "Only parameters with these names count, such as 'output.*' or 'convs.*,recurrent.*' "
            "[default: all]."
        ),
    )
    seed: int = option(0, Integer("Seed of everything random."))

    def __post_init__(self) -> None:
        check_options(self)
        if self.beam_width is not None and self.beam_width < self.k:
            raise ValueError(f"beam_width: expected at least k = {self.k}, got {self.beam_width}")

    @cached_property
    def chosen_method(self) -> Method:
        """The method, with its options."""
        if isinstance(self.method, Method):
            return self.method
        kind = METHODS[self.method]
        return kind(
            **{name: getattr(self, name, given) for name, (_, given) in options_of(kind).items()}
        )

    def beam_width_on(self, device: torch.device) -> int:
        """The beam width that the search will use there."""
        if self.beam_width is not None:
            return self.beam_width
        from egl_fast import ops

        return ops.default_beam_width(self.k, device)

    def settings(self, device: torch.device) -> dict[str, Any]:
        """Plain values of all that decides a score; None for what has no part in it."""
        method = self.chosen_method
        own = asdict(method)  # type: ignore[call-overload]
        idle = dict.fromkeys(name for kind in METHODS.values() for name in options_of(kind))
        found = {name: getattr(self, name) for name in options_of(self)}
        found |= {"beam_width": self.beam_width_on(device), "method": method.name, **idle, **own}
        if not found.pop("full"):
            found["full_samples"] = None
        return found


class ScoringKeywords(TypedDict, total=False):
    """The keywords of ``ScoringOptions``, for signatures: ``**options: Unpack[...]``."""

    k: int
    beam_width: int | None
    method: MethodName | Method
    tolerance: float
    probes: int
    full: bool
    full_samples: int
    per_hypothesis: bool
    params: str | None
    seed: int


def takes_scoring_options(function: _F) -> _F:
    """Let ``help()`` and notebooks see the keywords that stand for ``**options``."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = inspect.signature(ScoringOptions).parameters.values()
    function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return function
