"""Occupancy and cotangents, against enumeration, the slow twin, and torch's CTC loss."""

import pytest
import torch
from hypothesis import given
from random_ctc import (
    EPS,
    CtcProblem,
    as_hypotheses,
    deterministic,
    random_logits,
    rounding,
    small_problems,
)
from torch import Tensor

from egl_fast.ops import (
    Hypotheses,
    ctc_beam_search,
    ctc_logits_cotangents,
    ctc_occupancy,
)
from egl_fast.reference.ctc import ctc_forward_backward
from egl_fast.reference.enumerate import enumerate_labelings

# Labelings of up to 12 frames over classes 0..4 with blank 2, possible and impossible.
LABELINGS = [(), (1,), (4, 4), (0, 1, 3), (3, 3, 3, 0, 0), (0,) * 6, (0,) * 7, (1, 3) * 6]
BLANK = 2


@deterministic
@given(small_problems())
def test_occupancy_equals_the_reference(problem: CtcProblem) -> None:
    T, C = problem.probs.shape
    labels = [c for c in range(C) if c != problem.blank]
    labelings = list(enumerate_labelings(problem.probs.tolist(), blank=problem.blank))
    labelings += [
        tuple(labels[:1]) * (T + 1),
        tuple(labels),
    ]  # the first is impossible, the second may be
    log_prob, occupancy = ctc_occupancy(
        problem.log_probs[None], torch.tensor([T]), as_hypotheses([labelings]), blank=problem.blank
    )
    for k, labeling in enumerate(labelings):
        expected_log_prob, expected = ctc_forward_backward(
            problem.log_probs, labeling, blank=problem.blank
        )
        assert log_prob[0, k].item() == pytest.approx(
            expected_log_prob, rel=0, abs=problem.rounding
        )
        torch.testing.assert_close(occupancy[0, k], expected, rtol=0, atol=3 * problem.rounding)


def torch_ctc(logits: Tensor, labeling: tuple[int, ...], blank: int) -> tuple[Tensor, Tensor]:
    """torch's loss of one labeling, and its gradient with respect to the logits."""
    logits = logits.clone().requires_grad_()
    loss = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1)[:, None], torch.tensor([labeling]).long().reshape(1, -1),
        torch.tensor([logits.shape[0]]), torch.tensor([len(labeling)]), blank, "sum",
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("seed", range(5))
def test_cotangents_equal_torchs_gradient(seed: int, scale: float) -> None:
    lengths = torch.tensor([12, 7, 1])
    logits = random_logits(seed, 3, 12, 5, scale=scale)
    hypotheses = as_hypotheses([LABELINGS] * 3)
    log_prob, cotangents = ctc_logits_cotangents(logits, lengths, hypotheses, blank=BLANK)
    occupied_log_prob, occupancy = ctc_occupancy(
        logits.log_softmax(-1), lengths, hypotheses, blank=BLANK
    )
    for n, length in enumerate(lengths.tolist()):
        tolerance = rounding(logits[n, :length].log_softmax(-1))
        for k, labeling in enumerate(LABELINGS):
            loss, gradient = torch_ctc(logits[n, :length], labeling, BLANK)
            torch.testing.assert_close(log_prob[n, k], -loss, rtol=0, atol=tolerance)
            torch.testing.assert_close(occupied_log_prob[n, k], -loss, rtol=0, atol=tolerance)
            assert (cotangents[n, k, length:] == 0).all()
            assert (occupancy[n, k, length:] == 0).all()
            if loss == torch.inf:
                assert (cotangents[n, k] == 0).all()
                assert (occupancy[n, k] == 0).all()
                continue
            # Alpha, beta and the total are each off by one rounding, on either side.
            torch.testing.assert_close(
                cotangents[n, k, :length], gradient, rtol=0, atol=6 * tolerance
            )
            difference = logits[n, :length].softmax(-1) - occupancy[n, k, :length]
            torch.testing.assert_close(
                cotangents[n, k, :length], difference, rtol=0, atol=6 * tolerance
            )


def test_frames_sum_to_one_and_to_zero() -> None:
    logits = random_logits(8, 2, 20, 7)
    lengths = torch.tensor([20, 13])
    found = ctc_beam_search(logits.log_softmax(-1), lengths, num_hypotheses=25)
    log_prob, occupancy = ctc_occupancy(logits.log_softmax(-1), lengths, found)
    _, cotangents = ctc_logits_cotangents(logits, lengths, found)
    tolerance = rounding(logits.log_softmax(-1).reshape(-1, 7)[:20])
    torch.testing.assert_close(log_prob, found.log_prob, rtol=0, atol=tolerance)
    inside = (torch.arange(20) < lengths[:, None])[:, None].expand(2, 25, 20)
    torch.testing.assert_close(occupancy.sum(-1), inside.double(), rtol=0, atol=3 * tolerance)
    torch.testing.assert_close(
        cotangents.sum(-1), torch.zeros_like(cotangents.sum(-1)), rtol=0, atol=3 * tolerance
    )


# Where the model is sure, softmax and occupancy nearly cancel, and their difference in float32
# would be noise. In double, only the final rounding is lost.
def test_float32_cotangents_are_the_rounded_float64_ones() -> None:
    logits = random_logits(9, 1, 15, 4, scale=1.0).float()
    alignment = torch.tensor([0, 1, 1, 0, 2, 2, 0, 0, 2, 3, 3, 3, 0, 1, 0])
    logits[0, torch.arange(15), alignment] += 15  # other classes share about 1e-6
    lengths = torch.tensor([15])
    best = as_hypotheses([[(1, 2, 2, 3, 1)]])
    log_prob, cotangents = ctc_logits_cotangents(logits, lengths, best)
    exact_log_prob, exact = ctc_logits_cotangents(logits.double(), lengths, best)
    assert cotangents.dtype == torch.float32
    assert torch.equal(cotangents, exact.float())
    assert torch.equal(log_prob, exact_log_prob)

    naive = logits.softmax(-1) - ctc_occupancy(logits.log_softmax(-1), lengths, best)[1][:, 0]
    naive_error = (naive - exact[:, 0]).norm() / exact.norm()
    error = (cotangents - exact).norm() / exact.norm()
    assert error <= torch.finfo(torch.float32).eps
    assert naive_error > 1e3 * error  # the naive way does lose precision here


def test_float32_occupancy_is_the_rounded_float64_one() -> None:
    log_probs = random_logits(10, 1, 15, 4).log_softmax(-1).float()
    lengths = torch.tensor([15])
    found = ctc_beam_search(log_probs, lengths, num_hypotheses=5)
    log_prob, occupancy = ctc_occupancy(log_probs, lengths, found)
    exact_log_prob, exact = ctc_occupancy(log_probs.double(), lengths, found)
    assert torch.equal(occupancy, exact.float())
    assert torch.equal(log_prob, exact_log_prob)


def test_log_softmax_may_stand_for_logits() -> None:
    logits = random_logits(11, 1, 9, 5)
    lengths = torch.tensor([9])
    hypotheses = as_hypotheses([[(1, 3), ()]])
    _, from_logits = ctc_logits_cotangents(logits, lengths, hypotheses)
    _, from_log_probs = ctc_logits_cotangents(logits.log_softmax(-1), lengths, hypotheses)
    tolerance = 6 * rounding(logits[0].log_softmax(-1))
    torch.testing.assert_close(from_logits, from_log_probs, rtol=0, atol=tolerance)


def test_excluded_classes_have_no_cotangent() -> None:
    logits = random_logits(12, 1, 6, 4)
    logits[:, :, 3] = -torch.inf
    log_prob, cotangents = ctc_logits_cotangents(
        logits, torch.tensor([6]), as_hypotheses([[(1,), (3,)]])
    )
    assert log_prob[0, 0] > -torch.inf
    assert log_prob[0, 1] == -torch.inf
    assert (cotangents[0, 0, :, 3] == 0).all()
    assert (cotangents[0, 1] == 0).all()


def test_unused_slots_are_zero() -> None:
    logits = random_logits(13, 2, 6, 4)
    full = as_hypotheses([[(1,), (2,), (3,)]] * 2)
    counts = torch.tensor([3, 1])
    partial = Hypotheses(full.labels, full.label_lengths, full.log_prob, full.log_prob, counts)
    for operator in (ctc_logits_cotangents, ctc_occupancy):
        log_prob, values = operator(logits.log_softmax(-1), torch.tensor([6, 6]), partial)
        assert (log_prob[1, 1:] == -torch.inf).all()
        assert (values[1, 1:] == 0).all()
        assert (log_prob[0] > -torch.inf).all()
        assert (values[0] != 0).any(dim=(-1, -2)).all()


@pytest.mark.parametrize("operator", [ctc_logits_cotangents, ctc_occupancy])
def test_no_frames_and_no_utterances(operator: object) -> None:
    log_prob, values = operator(  # type: ignore[operator]
        torch.zeros(1, 0, 3), torch.tensor([0]), as_hypotheses([[(), (1,)]])
    )
    assert log_prob.tolist() == [[0.0, -torch.inf]]
    assert values.shape == (1, 2, 0, 3)
    nothing = as_hypotheses([])
    log_prob, values = operator(  # type: ignore[operator]
        torch.zeros(0, 4, 3), torch.zeros(0, dtype=torch.int64), nothing
    )
    assert log_prob.shape == (0, 0)
    assert values.shape == (0, 0, 4, 3)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("operator", [ctc_logits_cotangents, ctc_occupancy])
def test_batch_padding_strides_and_threads_change_nothing(operator: object) -> None:
    lengths = torch.tensor([9, 0, 4, 1, 12])
    emissions = random_logits(14, 5, 12, 5).log_softmax(-1)
    for n, length in enumerate(lengths.tolist()):
        emissions[n, length:] = torch.nan
    strided = emissions.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    hypotheses = as_hypotheses([LABELINGS] * 5)
    results = []
    for x, count in ((emissions, 1), (strided, 2), (emissions, 5)):
        torch.set_num_threads(count)
        results.append(operator(x, lengths, hypotheses, blank=BLANK))  # type: ignore[operator]
    for other in results[1:]:
        assert torch.equal(results[0][0], other[0])
        assert torch.equal(results[0][1], other[1])
    for n, length in enumerate(lengths.tolist()):
        log_prob, values = operator(  # type: ignore[operator]
            emissions[n : n + 1, :length], lengths[n : n + 1], as_hypotheses([LABELINGS]),
            blank=BLANK,
        )  # fmt: skip
        assert torch.equal(log_prob[0], results[0][0][n])
        assert torch.equal(values[0], results[0][1][n, :, :length])


GOOD = as_hypotheses([[(1,), (2, 3)]] * 2)
FRAMES = torch.zeros(2, 3, 4)


def changed(**fields: Tensor) -> Hypotheses:
    return Hypotheses(**{**{f: getattr(GOOD, f) for f in GOOD.__dataclass_fields__}, **fields})


@pytest.mark.parametrize("operator", [ctc_logits_cotangents, ctc_occupancy])
@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        (
            changed(labels=GOOD.labels.float()),
            r"labels: expected int64 \[N=2, K, U\], got float32 \[2, 2, 2\]",
        ),
        (
            changed(labels=GOOD.labels[0]),
            r"labels: expected int64 \[N=2, K, U\], got int64 \[2, 2\]",
        ),
        (
            changed(labels=GOOD.labels[:1]),
            r"labels: expected int64 \[N=2, K, U\], got int64 \[1, 2, 2\]",
        ),
        (
            changed(label_lengths=GOOD.label_lengths[:, :1]),
            r"label_lengths: expected int64 \[N=2, K=2\], got int64 \[2, 1\]",
        ),
        (
            changed(label_lengths=GOOD.label_lengths + 1),
            r"label_lengths: expected values in \[0, 2\], got 3 at position 1",
        ),
        (
            changed(counts=torch.tensor([2, 3])),
            r"counts: expected values in \[0, 2\], got 3 at position 1",
        ),
        (changed(counts=torch.tensor([2])), r"counts: expected int64 \[N=2\], got int64 \[1\]"),
        (
            changed(labels=GOOD.labels * 0),
            r"labels: .* other than blank 0, got 0 in utterance 0, hypothesis 0",
        ),
        (
            changed(labels=GOOD.labels + 1),
            r"labels: expected classes in \[0, 4\) .*, got 4 in utterance 0, hypothesis 1",
        ),
    ],
)
def test_wrong_hypotheses_are_named(operator: object, hypotheses: Hypotheses, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operator(FRAMES, torch.tensor([3, 3]), hypotheses)  # type: ignore[operator]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_infinity_name_the_utterance(value: float) -> None:
    broken = FRAMES.clone()
    broken[1, 2, 3] = value
    lengths = torch.tensor([3, 3])
    with pytest.raises(ValueError, match=r"log_probs: .* utterance 1, frame 2, class 3"):
        ctc_occupancy(broken, lengths, GOOD)
    with pytest.raises(ValueError, match=r"logits: .* utterance 1, frame 2"):
        ctc_logits_cotangents(broken, lengths, GOOD)
    broken[1, 2] = -torch.inf
    with pytest.raises(ValueError, match=r"logits: .* utterance 1, frame 2"):
        ctc_logits_cotangents(broken, lengths, GOOD)


@pytest.mark.parametrize("name", ["ctc_occupancy", "ctc_logits_cotangents"])
def test_operators_are_registered_correctly(name: str) -> None:
    arguments = (FRAMES, torch.tensor([3, 2]), GOOD.labels, GOOD.label_lengths, GOOD.counts, 0)
    torch.library.opcheck(getattr(torch.ops.egl_fast, name).default, arguments)


def test_near_certain_utterance_has_a_log_prob_just_below_zero() -> None:
    # Each frame is certain of its class up to 1e-12.
    probs = torch.full((4, 3), 5e-13, dtype=torch.float64)
    probs[torch.arange(4), torch.tensor([1, 0, 2, 2])] = 1 - 1e-12
    log_prob, occupancy = ctc_occupancy(
        probs.log()[None], torch.tensor([4]), as_hypotheses([[(1, 2)]])
    )
    expected, _ = ctc_forward_backward(probs.log(), (1, 2))
    assert -4e-12 - 8 * EPS <= log_prob.item() < 0
    assert log_prob.item() == pytest.approx(expected, rel=0, abs=16 * EPS)
    assert torch.allclose(occupancy.sum(-1), torch.ones(1, 1, 4, dtype=torch.float64), atol=8 * EPS)


def test_results_are_cut_off_from_the_graph() -> None:
    logits = random_logits(15, 1, 6, 4).requires_grad_()
    lengths = torch.tensor([6])
    found = ctc_beam_search(logits.log_softmax(-1), lengths, num_hypotheses=3)
    results = [found.log_prob, found.search_log_prob]
    results += ctc_occupancy(logits.log_softmax(-1), lengths, found)
    results += ctc_logits_cotangents(logits, lengths, found)
    assert not any(result.requires_grad for result in results)
