"""What to compute."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch

from egl_fast import ops

METHODS = ("exact", "lowrank", "probe")

#: Least and largest value of options that are integers. The largest are far beyond what fits into
#: memory for an utterance of any length, and what is beyond them does not fit into an operator.
_INTEGERS: dict[str, tuple[float, float]] = {
    "k": (1, 1e6),
    "beam_width": (1, 1e9),
    "probes": (2, 1e6),  # one alone has no spread, so no error bar
    "full_samples": (2, 1e6),
    "seed": (-math.inf, math.inf),
}


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """What to compute; the same keywords in Python and on the command line.

    Attributes:
        k: labelings that the expectation runs over.
        beam_width: prefixes kept while searching, at least k; None: ``ops.default_beam_width``.
        method: "exact"; "lowrank", as many combinations of the K cotangents as the tolerance
            asks for; or "probe", a fixed number of them.
        tolerance: of "lowrank", target relative standard error of ``egl``.
        probes: of "probe", cotangents pulled back, at least 2.
        full: estimate the sum over all labelings too.
        full_samples: labelings that ``full`` draws, at least 2.
        per_hypothesis: keep the hypotheses with their probabilities and squared norms, which have
            an error of their own unless the method is "exact".
        params: shell pattern of the parameters that count, several separated by commas;
            None: all that require a gradient.
        seed: of everything random.

    Raises:
        ValueError: a value is out of its range, or names something not available.
    """

    k: int = 100
    beam_width: int | None = None
    method: str = "exact"
    tolerance: float = 0.01
    probes: int = 4
    full: bool = False
    full_samples: int = 16
    per_hypothesis: bool = False
    params: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in _INTEGERS.items():
            given = getattr(self, name)
            if name == "beam_width" and given is None:
                continue
            value = _integer(name, given)
            object.__setattr__(self, name, value)  # numpy's cannot be written as JSON
            if value < least:
                raise ValueError(f"{name}: expected at least {least:g}, got {value}")
            if value > most:
                raise ValueError(f"{name}: expected at most {most:g}, got {value}")
        if self.beam_width is not None and self.beam_width < self.k:
            raise ValueError(f"beam_width: expected at least k = {self.k}, got {self.beam_width}")
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")
        tolerance: Any = self.tolerance
        if not isinstance(tolerance, Real) or not 0 < float(tolerance) < 1:
            raise ValueError(f"tolerance: expected a share between 0 and 1, got {tolerance!r}")
        object.__setattr__(self, "tolerance", float(tolerance))
        for name in ("full", "per_hypothesis"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        if self.params is not None and not (isinstance(self.params, str) and self.params.strip()):
            raise ValueError(
                "params: expected one string of patterns separated by commas, or None, got "
                f"{self.params!r}"
            )

    def beam_width_on(self, device: torch.device) -> int:
        """The beam width that the search will use there."""
        if self.beam_width is not None:
            return self.beam_width
        return ops.default_beam_width(self.k, device)


def _integer(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: expected an integer, got {value!r}") from None
