"""``none``: no gradients at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egl_fast.methods.method import Method

if TYPE_CHECKING:
    from egl_fast.ops import NbestCotangents


@dataclass(frozen=True)
class NoGradients(Method):
    """Only scores that follow from the model's outputs."""

    summary = (
        "no gradients, so egl and its variants are null; pctc, entropy and typicality for an "
        "inference pass and the search"
    )
    pulls_back = False

    def most_rows(self, k: int) -> int:
        return 1

    def rows(self, found: NbestCotangents, utterance: int) -> None:
        return None


METHOD = NoGradients
