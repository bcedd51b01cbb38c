"""Models that draw random numbers even in evaluation mode."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import VOCABULARY, Head, batch, encoder
from test_engine import assert_norms_equal_the_loop
from torch import Tensor

import egl_fast
from egl_fast.errors import ModelError
from egl_fast.gradients.engine import GradientEngine


class Noisy(Head):
    """Its frames are scaled by a number that it draws."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__(encoder())
        self.draw = draw
        self.fails = False

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = x * (1.0 + self.draw())
        if self.fails:
            raise RuntimeError("on purpose")
        return super().forward(x, lengths)


#: Draws from the state of the process -> that state.
SOURCES: dict[str, tuple[Callable[[], float], Callable[[], Any]]] = {
    "torch": (lambda: float(torch.rand(())), lambda: torch.get_rng_state().tolist()),
    "numpy": (np.random.random, lambda: np.random.get_state()[1:3]),  # noqa: NPY002
    "python": (random.random, random.getstate),
}


@pytest.mark.parametrize("source", SOURCES)
def test_scores_repeat_and_the_random_state_stays(source: str) -> None:
    draw, state = SOURCES[source]
    model = Noisy(draw).double()
    before = repr(state())
    scorer = egl_fast.Scorer(model, VOCABULARY)
    x, lengths = batch()
    first = scorer.score_batch(x, lengths, k=3)
    assert scorer.score_batch(x, lengths, k=3) == first
    assert repr(state()) == before
    model.fails = True
    with pytest.raises(RuntimeError, match="on purpose"):
        GradientEngine(model).run(x[:1], lengths[:1])
    assert repr(state()) == before
    draw()
    assert repr(state()) != before


@pytest.mark.parametrize(
    "draw",
    [
        np.random.default_rng(0).random,
        random.Random(0).random,
        partial(torch.rand, (), generator=torch.Generator()),
    ],
    ids=["numpy", "python", "torch"],
)
def test_a_generator_of_the_models_own_is_noticed(draw: Callable[[], float]) -> None:
    model = Noisy(draw).double()
    with pytest.raises(ModelError, match="such as a random generator of its own"):
        egl_fast.Scorer(model, VOCABULARY).score_batch(*batch(), k=3)


def test_what_is_drawn_but_not_used_does_no_harm() -> None:
    """As in the adapters of wav2vec 2.0, which draw for layer drop even in evaluation mode."""
    model = Noisy(lambda: 0.0 * np.random.random()).double()  # noqa: NPY002
    assert_norms_equal_the_loop(model, batch(), torch.float64)
