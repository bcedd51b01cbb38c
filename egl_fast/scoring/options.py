"""What to compute: the options that Python, the command line and a run's settings share.

Nothing here imports torch before it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from egl_fast.methods import METHODS, MethodName
from egl_fast.methods.lowrank import LowRank
from egl_fast.methods.method import Method
from egl_fast.methods.option import check_options, flag, integer, option
from egl_fast.methods.probe import Probe

if TYPE_CHECKING:
    import torch

_F = TypeVar("_F", bound=Callable[..., Any])


def _method(name: str, value: Any) -> Any:
    if isinstance(value, Method) or (isinstance(value, str) and value in METHODS):
        return value
    raise ValueError(f"{name}: expected one of {', '.join(METHODS)}, got {value!r}")


def _patterns(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError(
        f"{name}: expected one string of patterns separated by commas, or None, got {value!r}"
    )


def _same(kind: type[Any], name: str) -> Any:
    [own] = [own for own in fields(kind) if own.name == name]
    return field(default=own.default, metadata=own.metadata)


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """What to compute; each option's help says what it is.

    ``method`` is a name, with its options beside it, or a ``Method`` that holds its own.

    Raises:
        ValueError: a value is out of its range, or names something not available.
    """

    k: int = integer(100, "Most probable labelings that the expectation runs over.", 1, 1e6)
    beam_width: int | None = integer(
        None, "Prefixes kept while searching, at least k [default: max(10 k, 100)].", 1, 1e9
    )
    method: MethodName | Method = option(  # noqa: RUF009 (a field, as the others)
        "exact",
        "; ".join(f"{name}: {kind.summary}" for name, kind in METHODS.items()) + ".",
        _method,
    )
    tolerance: float = _same(LowRank, "tolerance")
    probes: int = _same(Probe, "probes")
    full: bool = flag("Also estimate the expectation over all labelings (egl_full).")
    full_samples: int = integer(16, "Of --full: labelings drawn from the model.", 2, 1e6)
    per_hypothesis: bool = flag("Write each labeling, its probability and squared norm.")
    params: str | None = option(
        None,
        "Only parameters with these names count, such as 'output.*' or 'convs.*,recurrent.*' "
        "[default: all].",
        _patterns,
    )
    seed: int = integer(0, "Seed of everything random.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.beam_width is not None and self.beam_width < self.k:
            raise ValueError(f"beam_width: expected at least k = {self.k}, got {self.beam_width}")

    @cached_property
    def chosen_method(self) -> Method:
        """The method, with its options."""
        if isinstance(self.method, Method):
            return self.method
        kind: Any = METHODS[self.method]
        return kind(**{f.name: getattr(self, f.name, f.default) for f in fields(kind)})  # type: ignore[no-any-return]

    def beam_width_on(self, device: torch.device) -> int:
        """The beam width that the search will use there."""
        if self.beam_width is not None:
            return self.beam_width
        from egl_fast import ops

        return ops.default_beam_width(self.k, device)

    def settings(self, device: torch.device) -> dict[str, Any]:
        """Plain values of all that decides a score; None for what has no part in it."""
        method = self.chosen_method
        kinds: list[Any] = list(METHODS.values())
        idle = dict.fromkeys(own.name for kind in kinds for own in fields(kind))
        found = {own.name: getattr(self, own.name) for own in fields(self)} | idle | vars(method)
        found |= {"beam_width": self.beam_width_on(device), "method": method.name}
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
