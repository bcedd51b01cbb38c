import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_ctc import (
    CtcProblem,
    deterministic,
    enumerate_in_logs,
    extreme_log_probs,
    labelings_of,
    random_logits,
    rounding,
    small_problems,
)

from egl_fast import ops
from egl_fast.ops import Hypotheses, ctc_beam_search
from egl_fast.reference.beam_search import ctc_prefix_beam_search
from egl_fast.reference.enumerate import enumerate_labelings

UNLIMITED = 1024  # more than all labelings of a small problem: 5 frames of 3 labels make 364


def search_one(problem: CtcProblem, **options: int) -> Hypotheses:
    lengths = torch.tensor([problem.probs.shape[0]])
    return ctc_beam_search(problem.log_probs[None], lengths, blank=problem.blank, **options)


def assert_equal(a: Hypotheses, b: Hypotheses) -> None:
    """To the bit; the number of columns of ``labels`` may differ."""
    U = max(a.labels.shape[2], b.labels.shape[2])
    padded = [
        torch.nn.functional.pad(x.labels, (0, U - x.labels.shape[2]), value=-1) for x in (a, b)
    ]
    torch.testing.assert_close(padded[0], padded[1], rtol=0, atol=0)
    for name in ("label_lengths", "log_prob", "search_log_prob", "counts"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)


@deterministic
@given(small_problems())
def test_unlimited_width_equals_enumeration(problem: CtcProblem) -> None:
    expected = enumerate_labelings(problem.probs.tolist(), blank=problem.blank)
    found = search_one(problem, num_hypotheses=UNLIMITED, beam_width=UNLIMITED)

    labelings = labelings_of(found, 0)
    assert len(set(labelings)) == len(labelings)
    assert set(labelings) == set(expected)
    exact = [math.log(expected[labeling]) for labeling in labelings]
    tolerance = {"rtol": 0, "atol": problem.rounding}
    log_prob = found.log_prob[0, : len(labelings)]
    torch.testing.assert_close(log_prob, torch.tensor(exact, dtype=torch.float64), **tolerance)
    torch.testing.assert_close(found.search_log_prob[0, : len(labelings)], log_prob, **tolerance)


def assert_equals_enumeration(log_probs: torch.Tensor, blank: int) -> None:
    expected = enumerate_in_logs(log_probs, blank)
    lengths = torch.tensor([len(log_probs)])
    found = ctc_beam_search(
        log_probs[None], lengths, num_hypotheses=UNLIMITED, beam_width=UNLIMITED, blank=blank
    )
    labelings = labelings_of(found, 0)
    assert len(labelings) == len(expected)
    assert set(labelings) == set(expected)
    for name in ("log_prob", "search_log_prob"):
        torch.testing.assert_close(
            getattr(found, name)[0, : len(labelings)],
            torch.tensor([expected[y] for y in labelings], dtype=torch.float64),
            rtol=0, atol=rounding(log_probs.double()) + 2e-11,
        )  # fmt: skip


# One lost a labeling because a prefix ends in blank with e^-900 of its mass when the repeat of its
# label asks for that; one because e^-1102 is no double before it is scaled by what is left.
EXTREME = {
    "a repeat after a blank": (
        [[-300, 0], [-300, 0], [-300, 0], [0, -300], [0, -300]], 1, 4,
    ),
    "one class, -660 and -1102": ([[-660], [-1102]], 0, 1),
    "one class, -1762": ([[-1762]], 0, 1),
    "a stay after a blank": ([[-400, 0], [-400, -400], [-400, 0], [0, -400]], 0, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREME)
def test_what_is_possible_is_found_however_small(name: str) -> None:
    frames, blank, count = EXTREME[name]
    log_probs = torch.tensor(frames, dtype=torch.float64)
    assert len(enumerate_in_logs(log_probs, blank)) == count
    assert_equals_enumeration(log_probs, blank)


# Of 12,000 seeds, those on which the search once lost a labeling.
ONCE_LOST = [837, 1209, 2883, 3601, 4129, 4664, 6972, 7004, 7201, 8128, 8534, 8729, 10476, 11020,
             11121, 11596, 11824]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_problems_equal_enumeration(dtype: torch.dtype) -> None:
    # csrc/test/test_ctc_extremes.cpp tries many more.
    for seed in (*range(200), *ONCE_LOST):
        log_probs = extreme_log_probs(seed, dtype)
        assert_equals_enumeration(log_probs, seed % log_probs.shape[1])


@deterministic
@given(small_problems(), st.integers(1, 6), st.integers(0, 3))
def test_ranked_by_exact_probability_then_labeling_order(
    problem: CtcProblem, num_hypotheses: int, extra_width: int
) -> None:
    found = search_one(
        problem, num_hypotheses=num_hypotheses, beam_width=num_hypotheses + extra_width
    )
    keys = list(zip((-found.log_prob[0]).tolist(), labelings_of(found, 0), strict=False))
    assert keys == sorted(keys)
    assert len(keys) <= num_hypotheses


@deterministic
@given(small_problems(), st.integers(1, 12))
def test_unused_slots_are_marked(problem: CtcProblem, num_hypotheses: int) -> None:
    found = search_one(problem, num_hypotheses=num_hypotheses)
    count = int(found.counts[0])
    assert found.labels.shape[:2] == (1, num_hypotheses)
    assert found.labels.shape[2] == max(map(len, labelings_of(found, 0)), default=0)
    assert (found.label_lengths[0, count:] == 0).all()
    assert (found.log_prob[0, count:] == -torch.inf).all()
    assert (found.search_log_prob[0, count:] == -torch.inf).all()
    assert (found.log_prob[0, :count] > -torch.inf).all()
    columns = torch.arange(found.labels.shape[2])
    used = columns < found.label_lengths[0, :, None]
    assert (found.labels[0][~used] == -1).all()
    assert (found.labels[0][used] >= 0).all()
    assert (found.labels[0][used] != problem.blank).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("beam_width", [1, 3, 10, 40])
def test_keeps_what_the_textbook_search_keeps(seed: int, beam_width: int) -> None:
    # Continuous random numbers: no near-ties, at which the two may differ by rounding.
    log_probs = random_logits(seed, 1, 12, 6).log_softmax(-1)
    blank = seed % 6
    expected = dict(ctc_prefix_beam_search(log_probs[0], beam_width=beam_width, blank=blank))
    found = ctc_beam_search(
        log_probs, torch.tensor([12]), num_hypotheses=beam_width, beam_width=beam_width, blank=blank
    )
    labelings = labelings_of(found, 0)
    assert set(labelings) == set(expected)
    expected_mass = torch.tensor([expected[y] for y in labelings], dtype=torch.float64)
    tolerance = rounding(log_probs[0])
    torch.testing.assert_close(found.search_log_prob[0], expected_mass, rtol=0, atol=tolerance)
    assert (found.search_log_prob <= found.log_prob + tolerance).all()


def test_wider_beam_than_hypotheses_returns_the_best_of_the_beam() -> None:
    log_probs = random_logits(3, 1, 10, 5).log_softmax(-1)
    lengths = torch.tensor([10])
    few = ctc_beam_search(log_probs, lengths, num_hypotheses=4, beam_width=30)
    all_kept = ctc_beam_search(log_probs, lengths, num_hypotheses=30, beam_width=30)
    assert labelings_of(few, 0) == labelings_of(all_kept, 0)[:4]


@pytest.mark.parametrize("blank", range(4))
def test_ties_come_in_labeling_order(blank: int) -> None:
    # In a uniform frame all four labelings are equally likely; the best two are the first two.
    log_probs = torch.full((1, 1, 4), 0.25, dtype=torch.float64).log()
    labels = [(c,) for c in range(4) if c != blank]
    for num_hypotheses in range(1, 5):
        found = ctc_beam_search(
            log_probs, torch.tensor([1]), num_hypotheses=num_hypotheses,
            beam_width=num_hypotheses, blank=blank,
        )  # fmt: skip
        assert labelings_of(found, 0) == [(), *labels][:num_hypotheses]


def test_tied_labelings_of_a_long_uniform_utterance_come_in_labeling_order() -> None:
    log_probs = torch.full((1, 6, 3), 1 / 3, dtype=torch.float64).log()
    found = ctc_beam_search(
        log_probs, torch.tensor([6]), num_hypotheses=UNLIMITED, beam_width=UNLIMITED
    )
    by_shape: dict[tuple[bool, ...], list[tuple[int, ...]]] = {}
    for labeling in labelings_of(found, 0):
        # Uniform frames: the probability depends on where labels repeat, and on nothing else.
        shape = tuple(a == b for a, b in itertools.pairwise(labeling))
        by_shape.setdefault((bool(labeling), *shape), []).append(labeling)
    assert max(map(len, by_shape.values())) >= 2
    for tied in by_shape.values():
        assert tied == sorted(tied)


def test_no_frames_is_the_empty_labeling() -> None:
    for log_probs in (torch.zeros(1, 0, 3), torch.full((1, 4, 3), torch.nan)):
        found = ctc_beam_search(log_probs, torch.tensor([0]), num_hypotheses=3)
        assert labelings_of(found, 0) == [()]
        assert found.labels.shape == (1, 3, 0)
        assert found.log_prob.tolist() == [[0.0, -math.inf, -math.inf]]


def test_no_utterances() -> None:
    found = ctc_beam_search(
        torch.zeros(0, 5, 3), torch.zeros(0, dtype=torch.int64), num_hypotheses=2
    )
    assert found.labels.shape == (0, 2, 0)
    assert found.counts.shape == (0,)


def test_impossible_frame_leaves_no_hypothesis() -> None:
    log_probs = torch.zeros(2, 3, 2).log_softmax(-1)
    log_probs[1, 1] = -torch.inf
    found = ctc_beam_search(log_probs, torch.tensor([3, 3]), num_hypotheses=2)
    assert found.counts.tolist() == [2, 0]


def test_prefix_that_leaves_the_beam_and_returns_is_found_once() -> None:
    # A prefix may leave a narrow beam while its extension stays. When it comes back, it must be
    # recognised, or the extension would be found a second time.
    for seed in range(200):
        log_probs = random_logits(seed, 1, 15, 3, scale=2.0).log_softmax(-1)
        found = ctc_beam_search(log_probs, torch.tensor([15]), num_hypotheses=4, beam_width=4)
        assert len(set(labelings_of(found, 0))) == int(found.counts[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_padding_and_strides_change_nothing(dtype: torch.dtype) -> None:
    lengths = [9, 0, 4, 1, 12]
    log_probs = random_logits(1, 5, 12, 6).log_softmax(-1).to(dtype)
    padded = log_probs.clone()
    for n, length in enumerate(lengths):
        padded[n, length:] = torch.nan
    strided = padded.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    batches = [
        ctc_beam_search(x, torch.tensor(lengths), num_hypotheses=20, beam_width=30, blank=2)
        for x in (padded, strided)
    ]
    assert_equal(*batches)
    for n, length in enumerate(lengths):
        alone = ctc_beam_search(
            log_probs[n : n + 1, :length], torch.tensor([length]), num_hypotheses=20,
            beam_width=30, blank=2,
        )  # fmt: skip
        fields = (getattr(batches[0], f)[n : n + 1] for f in Hypotheses.__dataclass_fields__)
        assert_equal(alone, Hypotheses(*fields))


def test_number_of_threads_changes_nothing() -> None:
    log_probs = random_logits(2, 7, 20, 10).log_softmax(-1)
    lengths = torch.tensor([20, 3, 7, 20, 0, 11, 19])
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(ctc_beam_search(log_probs, lengths, num_hypotheses=15))
    finally:
        torch.set_num_threads(threads)
    assert_equal(results[0], results[1])
    assert_equal(results[0], results[2])


def test_float32_is_searched_in_double() -> None:
    log_probs = random_logits(4, 2, 15, 5).log_softmax(-1).float()
    lengths = torch.tensor([15, 9])
    assert_equal(
        ctc_beam_search(log_probs, lengths, num_hypotheses=10),
        ctc_beam_search(log_probs.double(), lengths, num_hypotheses=10),
    )


def test_default_beam_width_fits_a_gpu() -> None:
    cuda = torch.device("cuda")
    assert ops.default_beam_width(100, cuda) == ops.default_beam_width(100) == 1000
    assert ops.default_beam_width(300, cuda) == ops.MAX_CUDA_BEAM_WIDTH
    assert ops.default_beam_width(2000, cuda) == 2000  # for the search to refuse


def test_default_beam_width_is_used() -> None:
    log_probs = random_logits(5, 1, 20, 8).log_softmax(-1)
    lengths = torch.tensor([20])
    assert_equal(
        ctc_beam_search(log_probs, lengths, num_hypotheses=12),
        ctc_beam_search(
            log_probs, lengths, num_hypotheses=12, beam_width=ops.default_beam_width(12)
        ),
    )


FRAMES = torch.zeros(2, 3, 4).log_softmax(-1)
LENGTHS = torch.tensor([3, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"log_probs": FRAMES[0]},
            r"log_probs: expected float32 or float64 \[N, T, C\], got float32 \[3, 4\]",
        ),
        (
            {"log_probs": FRAMES.half()},
            r"log_probs: expected float32 or float64 .*, got float16 \[2, 3, 4\]",
        ),
        ({"lengths": torch.tensor([3])}, r"lengths: expected int64 \[N=2\], got int64 \[1\]"),
        (
            {"lengths": torch.tensor([3.0, 2.0])},
            r"lengths: expected integers \[N\], got torch.float32",
        ),
        (
            {"lengths": torch.tensor([3, 4])},
            r"lengths: expected values in \[0, 3\], got 4 at position 1",
        ),
        (
            {"lengths": torch.tensor([-1, 2])},
            r"lengths: expected values in \[0, 3\], got -1 at position 0",
        ),
        ({"num_hypotheses": 0}, "num_hypotheses: expected 1 to 2147483647, got 0"),
        ({"num_hypotheses": 2**31}, "num_hypotheses: expected 1 to .*, got 2147483648"),
        ({"beam_width": 1}, "beam_width: expected at least num_hypotheses = 2, got 1"),
        ({"blank": 4}, r"blank: expected a class index in \[0, 4\), got 4"),
        ({"blank": -1}, r"blank: expected a class index in \[0, 4\), got -1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    defaults: dict[str, object] = {"log_probs": FRAMES, "lengths": LENGTHS, "num_hypotheses": 2}
    with pytest.raises(ValueError, match=message):
        ctc_beam_search(**{**defaults, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 800.0, 0.01])
def test_what_is_no_log_probability_is_named(value: float) -> None:
    broken = FRAMES.clone()
    broken[1, 0, 2] = value
    one = Hypotheses.of([[[1]], [[1]]])
    message = r"log_probs: .* in utterance 1, frame 0, class 2; log_softmax makes them from logits"
    with pytest.raises(ValueError, match=message):
        ctc_beam_search(broken, LENGTHS, num_hypotheses=1)
    with pytest.raises(ValueError, match=message):
        ops.ctc_occupancy(broken, LENGTHS, one)


def test_infinity_times_zero_is_refused_and_rounding_is_not() -> None:
    lengths = torch.tensor([2])
    with pytest.raises(ValueError, match=r"got 800 in utterance 0, frame 1, class 1"):
        ctc_beam_search(torch.tensor([[[0.0, 0.0], [0.0, 800.0]]]), lengths, num_hypotheses=2)
    rounded = torch.tensor([[[5e-4, -torch.inf], [5e-4, -torch.inf]]])
    assert ctc_beam_search(rounded, lengths, num_hypotheses=2).counts.tolist() == [1]


@pytest.mark.parametrize("beam_width", [2**31, 2**63 - 1, 2**80])
def test_no_width_is_too_large(beam_width: int) -> None:
    log_probs = random_logits(6, 1, 4, 3).log_softmax(-1)
    lengths = torch.tensor([4])
    assert_equal(
        ctc_beam_search(log_probs, lengths, num_hypotheses=30, beam_width=beam_width),
        ctc_beam_search(log_probs, lengths, num_hypotheses=30, beam_width=1000),
    )


def test_operator_is_registered_correctly() -> None:
    torch.library.opcheck(torch.ops.egl_fast.ctc_beam_search.default, (FRAMES, LENGTHS, 2, 5, 0))
