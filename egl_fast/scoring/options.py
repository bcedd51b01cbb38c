"""What to compute: the options that Python, the command line and a run's settings share.

Nothing here imports torch before it is used.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from egl_fast import kinds
from egl_fast.kinds import Integer, Optional, boolean, check_fields, kind_of, of_kind
from egl_fast.methods import METHODS, MethodName
from egl_fast.methods.lowrank import LowRank
from egl_fast.methods.method import Method
from egl_fast.methods.probe import Probe
from egl_fast.naming import named

if TYPE_CHECKING:
    import torch

_F = TypeVar("_F", bound=Callable[..., Any])


class _MethodKind(kinds.OneOf):
    def __call__(self, value: Any) -> Any:
        return value if isinstance(value, Method) else super().__call__(value)


class _Patterns:
    metavar = "GLOB"

    def __call__(self, value: Any) -> str:
        if isinstance(value, str) and value.strip():
            return value
        raise ValueError(f"expected one string of patterns separated by commas, got {value!r}")


def _of_method(method: type[Method], name: str) -> Any:
    own: Any = next(own for own in fields(cast(Any, method)) if own.name == name)
    return of_kind(own.default, kind_of(own), f"Of {method.name}: {own.metadata['help']}")


#: Far more than fits into memory; yet larger numbers do not fit into an operator's arguments.
_MANY = 10**6


#: Peak memory of a method that compares all labelings with each other, for each pair of them:
#: measured at K = 1,000 and 2,000 (88 to 130), on a recording of 2 s.
_BYTES_OF_PAIR = 96


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """What to compute; see the help of each option.

    ``method`` is a name, whose options are other fields, or a ``Method`` with its own.

    Raises:
        ValueError: a value is out of its range, or names something not available.
    """

    k: int = of_kind(
        100, Integer(1, _MANY), "Most probable labelings that the expectation runs over."
    )
    beam_width: int | None = of_kind(
        None,
        Optional(Integer(1, 10**9)),
        "Prefixes kept while searching, at least k [default: max(10 k, 100)].",
    )
    method: MethodName | Method = of_kind(  # noqa: RUF009 (a field, as the others)
        "exact",
        _MethodKind(*METHODS),
        "; ".join(f"{name}: {kind.summary}" for name, kind in METHODS.items()) + ".",
    )
    tolerance: float = _of_method(LowRank, "tolerance")
    probes: int = _of_method(Probe, "probes")
    full: bool = of_kind(
        False, boolean, "Also estimate the expectation over all labelings (egl_full)."
    )
    full_samples: int = of_kind(
        200, Integer(2, _MANY), "Of --full: labelings drawn from the model."
    )
    per_hypothesis: bool = of_kind(
        False, boolean, "Write each labeling, its probability and squared norm."
    )
    word_confidence: bool = of_kind(
        False, boolean, "Add how unsure the model is of words (tsallis, renyi), at next to no cost."
    )
    mc_dropout: int = of_kind(
        0,
        Integer(0, _MANY),
        "Add how much transcripts change under dropout (mc_dropout), in so many more inference "
        "passes; 0: none.",
    )
    by_layer: bool = of_kind(
        False,
        boolean,
        "Add what each layer of the model contributes to egl (by_layer), at next to no cost, and "
        "a table of the pool's averages.",
    )
    params: str | None = of_kind(
        None,
        Optional(_Patterns()),
        "Only parameters with these names count, such as 'output.*' or 'convs.*,recurrent.*'; or "
        "a preset of hf: models: all, encoder (without the feature encoder, their default), head, "
        "adapters [default: all].",
    )
    seed: int = of_kind(0, Integer(), "Seed of everything random.")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.beam_width is not None and self.beam_width < self.k:
            raise ValueError(f"beam_width: expected at least k = {self.k}, got {self.beam_width}")
        for name in ("full", "by_layer"):
            if getattr(self, name) and not self.chosen_method.pulls_back:
                raise ValueError(
                    f"{name}: needs gradients, and method {self.chosen_method.name} has none"
                )

    def refuse_more_than_fits(self, dtype: torch.dtype) -> None:
        """Refuse a k whose inner products take more than half of this machine's memory.

        Raises:
            ModelError: it does; the message says how much.
        """
        import torch

        if not self.chosen_method.compression(torch.empty(0, dtype=dtype)):
            return
        from egl_fast.compute.memory import machine_memory_bytes
        from egl_fast.errors import ModelError

        memory = machine_memory_bytes()
        most = math.isqrt(memory // 2 // _BYTES_OF_PAIR)
        if self.k > most:
            needed, gib = _BYTES_OF_PAIR * self.k**2, 2**30
            raise ModelError(
                f"{named('k', self.k)}: the inner products of so many gradients take "
                f"{needed / gib:.1f} GiB, and this machine has {memory / gib:.1f} GiB; "
                f"at most {most} are possible here"
            )

    @cached_property
    def chosen_method(self) -> Method:
        """The method, with its options."""
        if isinstance(self.method, Method):
            return self.method
        kind: Any = METHODS[self.method]
        return kind(**{f.name: getattr(self, f.name, f.default) for f in fields(kind)})  # type: ignore[no-any-return]

    def beam_width_on(self, device: torch.device) -> int:
        """The beam width of the search on a device."""
        if self.beam_width is not None:
            return self.beam_width
        from egl_fast import ops

        return ops.default_beam_width(self.k, device)

    def settings(self, device: torch.device) -> dict[str, Any]:
        """Plain values of everything that affects scores; None for options that do not apply."""
        method: Any = self.chosen_method
        found = {own.name: getattr(self, own.name) for own in fields(self)}
        found |= {"tolerance": None, "probes": None, "method": method.name}
        found |= {own.name: getattr(method, own.name) for own in fields(method)}
        found["beam_width"] = self.beam_width_on(device)
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
    word_confidence: bool
    mc_dropout: int
    by_layer: bool
    params: str | None
    seed: int


def split_keywords(given: dict[str, Any]) -> tuple[ScoringOptions, dict[str, Any]]:
    """Options, and what is none of them.

    Raises:
        ValueError: an option is out of its range.
    """
    names = {own.name for own in fields(ScoringOptions)}
    options = ScoringOptions(**{name: value for name, value in given.items() if name in names})
    return options, {name: value for name, value in given.items() if name not in names}


def takes_scoring_options(function: _F) -> _F:
    """Show ``help()`` and notebooks the keywords behind ``**options``."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    # After the options, where a function takes any other keyword, too.
    rest = [p for p in signature.parameters.values() if p.annotation == "Any" and p not in own]
    options = inspect.signature(ScoringOptions).parameters.values()
    function.__signature__ = signature.replace(parameters=[*own, *options, *rest])  # type: ignore[attr-defined]
    return function
