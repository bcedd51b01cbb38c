"""The slow twins against closed forms, exact fractions and torch."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from random_ctc import CtcProblem, deterministic, random_logits, rounding, small_problems

from egl_fast.reference.beam_search import ctc_prefix_beam_search
from egl_fast.reference.ctc import ctc_forward_backward
from egl_fast.reference.enumerate import collapse, enumerate_labelings, rank_labelings


def test_collapse_merges_repeats_before_dropping_blanks() -> None:
    assert collapse([0, 1, 1, 0, 1, 2, 2], blank=0) == (1, 1, 2)
    assert collapse([0, 1, 1, 0, 1, 2, 2], blank=1) == (0, 0, 2)
    assert collapse([], blank=0) == ()
    assert collapse([2, 2], blank=2) == ()


def test_enumeration_by_hand_in_fractions() -> None:
    half = Fraction(1, 2)
    # Blank 0. Three frames, two classes: of 8 alignments, 1 is empty, 101 is (1, 1).
    probabilities = enumerate_labelings([[half, half]] * 3)
    assert probabilities == {
        (): Fraction(1, 8),
        (1,): Fraction(6, 8),
        (1, 1): Fraction(1, 8),
    }
    assert [labeling for labeling, _ in rank_labelings(probabilities)] == [(1,), (), (1, 1)]


# Counting alignments, every entry 1, finds double counting: the total must be exactly C^T.
@pytest.mark.parametrize(("T", "C"), [(0, 3), (1, 1), (3, 2), (5, 3)])
def test_enumeration_counts_every_alignment_once(T: int, C: int) -> None:
    counts = enumerate_labelings([[Fraction(1)] * C] * T)
    assert sum(counts.values()) == C**T


@deterministic
@given(small_problems())
def test_forward_backward_equals_enumeration(problem: CtcProblem) -> None:
    expected = enumerate_labelings(problem.probs.tolist(), blank=problem.blank)
    for labeling, prob in expected.items():
        log_prob, occupancy = ctc_forward_backward(problem.log_probs, labeling, blank=problem.blank)
        assert log_prob == pytest.approx(math.log(prob), rel=0, abs=problem.rounding)
        ones = torch.ones(problem.probs.shape[0], dtype=torch.float64)
        # Alpha, beta and the total are each off by one rounding.
        torch.testing.assert_close(occupancy.sum(1), ones, rtol=0, atol=3 * problem.rounding)


def test_impossible_labelings_have_probability_zero() -> None:
    log_probs = torch.full((3, 3), 1 / 3, dtype=torch.float64).log()
    for labeling in [(1, 1, 1), (1, 2, 1, 2)]:
        log_prob, occupancy = ctc_forward_backward(log_probs, labeling)
        assert log_prob == -math.inf
        assert (occupancy == 0).all()
    assert ctc_forward_backward(log_probs[:0], [])[0] == 0.0
    assert ctc_forward_backward(log_probs[:0], [1])[0] == -math.inf


@pytest.mark.parametrize("seed", range(10))
def test_forward_backward_equals_torch(seed: int) -> None:
    logits = random_logits(seed, 1, 11, 5)[0].requires_grad_()
    labels = (1, 1, 3, 2, 2)[: seed % 6]
    loss = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1)[:, None], torch.tensor([labels], dtype=torch.int64).reshape(1, -1),
        torch.tensor([11]), torch.tensor([len(labels)]), reduction="sum", blank=4,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(loss, logits)
    log_prob, occupancy = ctc_forward_backward(logits.detach().log_softmax(-1), labels, blank=4)
    tolerance = rounding(logits.detach().log_softmax(-1))
    assert log_prob == pytest.approx(-loss.item(), rel=0, abs=tolerance)
    torch.testing.assert_close(
        logits.detach().softmax(-1) - occupancy, gradient, rtol=0, atol=6 * tolerance
    )


@deterministic
@given(small_problems())
def test_beam_search_without_limit_equals_enumeration(problem: CtcProblem) -> None:
    expected = enumerate_labelings(problem.probs.tolist(), blank=problem.blank)
    found = dict(ctc_prefix_beam_search(problem.log_probs, beam_width=10**6, blank=problem.blank))
    assert set(found) == set(expected)
    for labeling, log_prob in found.items():
        assert log_prob == pytest.approx(math.log(expected[labeling]), rel=0, abs=problem.rounding)


def test_beam_search_ties_come_in_labeling_order() -> None:
    log_probs = torch.full((1, 4), 0.25, dtype=torch.float64).log()
    found = ctc_prefix_beam_search(log_probs, beam_width=3, blank=1)
    assert [labeling for labeling, _ in found] == [(), (0,), (2,)]
