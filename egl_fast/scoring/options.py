"""What to compute, and over which classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from egl_fast import ops

METHODS = ("exact", "lowrank", "probe")


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
        if self.k < 1:
            raise ValueError(f"k: expected at least 1, got {self.k}")
        if self.beam_width is not None and self.beam_width < self.k:
            raise ValueError(f"beam_width: expected at least k = {self.k}, got {self.beam_width}")
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: expected a share between 0 and 1, got {self.tolerance}")
        for name in ("probes", "full_samples"):
            if getattr(self, name) < 2:  # one alone has no spread, so no error bar
                raise ValueError(f"{name}: expected at least 2, got {getattr(self, name)}")

    def beam_width_on(self, device: torch.device) -> int:
        """The beam width that the search will use there."""
        if self.beam_width is not None:
            return self.beam_width
        return ops.default_beam_width(self.k, device)


@dataclass(frozen=True)
class Classes:
    """What the C classes of a model mean.

    Attributes:
        vocabulary: names in index order.
        blank: index of the blank, whose name is ignored.
    """

    vocabulary: tuple[str, ...]
    blank: int
