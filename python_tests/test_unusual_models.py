"""Unusual code in models, which is scored like any other."""

from __future__ import annotations

import types
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES, VOCABULARY, batch
from sandwich import Between, Sandwich, gru_sandwich
from test_engine import assert_norms_equal_the_loop, spectrograms
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import ModelError
from egl_fast.gradients.engine import GradientEngine
from egl_fast.model import DeepSpeech2, preset


def _in_place(change: Callable[[Tensor], object]) -> Between:
    def between(model: Sandwich, x: Tensor) -> Tensor:
        y = model.mid(x)
        change(y)
        return y

    return between


def _hooked(model: Sandwich, x: Tensor) -> Tensor:
    y = model.mid(x)
    if y.requires_grad:
        y.register_hook(lambda cotangent: 0.1 * cotangent)
    return y


def _computed_weight(model: Sandwich, x: Tensor) -> Tensor:
    weights = {"weight": model.mid.weight * model.scale}
    return torch.func.functional_call(model.mid, weights, (x,))


def _failing_once(model: Sandwich, x: Tensor) -> Tensor:
    with pytest.raises(RuntimeError):
        model.mid(x[..., :3])
    return model.mid(x)


STRANGE: dict[str, Between] = {
    "relu in place on a view": _in_place(torch.relu_),
    "adding in place to a view": _in_place(lambda y: y.add_(1.0)),
    "writing into a slice": _in_place(lambda y: y[:, 1].zero_()),
    "a tensor hook that scales": _hooked,
    "a weight computed from others": _computed_weight,
    "a call that fails and is caught": _failing_once,
    "unbatched calls": lambda m, x: torch.stack([m.mid(row) for row in x[0]])[None],
    "keyword calls": lambda m, x: m.mid(input=x),
}


@pytest.mark.parametrize("name", STRANGE)
def test_norms_beside_unusual_code_equal_the_loop(name: str) -> None:
    model = Sandwich(STRANGE[name]).double()
    assert_norms_equal_the_loop(model, batch(), torch.float64)
    assert all(isinstance(p, nn.Parameter) for p in model.mid._parameters.values())


def test_a_forward_of_the_instance_is_used_and_kept() -> None:
    def doubled(self: nn.Linear, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 2, self.bias)

    model = Sandwich(lambda m, x: m.mid(x))
    model.mid.forward = types.MethodType(doubled, model.mid)  # type: ignore[method-assign]
    assert_norms_equal_the_loop(model.double(), batch(), torch.float64)

    def reversed_in_time(self: nn.GRU, input: Tensor) -> tuple[Tensor, Tensor]:
        return nn.GRU.forward(self, input.flip(1))

    recurrent = gru_sandwich()
    own = types.MethodType(reversed_in_time, recurrent.mid)
    recurrent.mid.forward = own  # type: ignore[method-assign]
    assert_norms_equal_the_loop(recurrent, batch(), torch.float64)
    assert recurrent.mid.forward is own


def test_batch_norm_that_insists_on_training_mode_is_refused() -> None:
    class Insisting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(NUM_BINS)
            self.output = nn.Linear(NUM_BINS, NUM_CLASSES)

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            self.norm.train()
            return self.output(self.norm(x.transpose(1, 2)).transpose(1, 2)), lengths

    model = Insisting().double()
    with pytest.raises(ModelError, match=r"norm\.weight runs in training mode"):
        GradientEngine(model).run(*batch())


def test_changed_parameters_are_noticed() -> None:
    model = Sandwich(lambda m, x: m.mid(x)).double()
    scorer = egl_fast.Scorer(model, VOCABULARY)
    x, lengths = batch()

    def egl() -> float:
        fresh = egl_fast.Scorer(model, VOCABULARY).score_batch(x, lengths, k=3)
        [record, *_] = again = scorer.score_batch(x, lengths, k=3)
        assert again == fresh
        return record.egl

    whole = egl()
    model.mid.requires_grad_(False)
    without = egl()
    model.output = nn.Linear(8, NUM_CLASSES).double()
    assert len({whole, without, egl()}) == 3


def test_a_changed_built_in_model_has_a_gradient_per_utterance() -> None:
    """A parameter without a rule has one gradient per utterance, not one per batch."""
    torch.manual_seed(0)
    model = DeepSpeech2(preset("tiny")).double()
    nn.utils.parametrizations.weight_norm(model.output)
    assert_norms_equal_the_loop(model, spectrograms(torch.float64), torch.float64)


def test_a_subclass_does_not_inherit_the_promise_to_share() -> None:
    class Mine(DeepSpeech2):
        pass

    assert GradientEngine(DeepSpeech2(preset("tiny"))).shares_batches
    assert not GradientEngine(Mine(preset("tiny"))).shares_batches


def test_a_tied_weight_answers_to_each_of_its_names() -> None:
    model = Sandwich(lambda m, x: m.mid(x).sin() + m.tied(x))
    model.tied = nn.Linear(8, 8)
    model.tied.weight = model.mid.weight
    assert set(GradientEngine(model, params="tied.*").parameters) == {"mid.weight", "tied.bias"}
