"""The search on NumPy arrays: the operators' results, without torch."""

import math
import re

import numpy as np
import pytest
import torch
from random_ctc import random_logits

from egl_fast import ops
from egl_fast.decoder import ctc_nbest
from egl_fast.reference.enumerate import enumerate_labelings


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_operators_results_to_the_bit(dtype: type, blank: int) -> None:
    log_probs = random_logits(0, 1, 12, 5).log_softmax(dim=2).numpy().astype(dtype)
    expected = ops.ctc_beam_search(
        torch.from_numpy(log_probs), torch.tensor([12]), num_hypotheses=20, blank=blank
    )
    found = ctc_nbest(log_probs[0], k=20, blank=blank)
    assert [one.labels for one in found] == expected.labelings(0)
    assert [one.log_prob for one in found] == expected.log_prob[0].tolist()
    assert [one.search_log_prob for one in found] == expected.search_log_prob[0].tolist()


def test_all_labelings_and_their_probabilities() -> None:
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.4, 0.0, 0.6]])
    with np.errstate(divide="ignore"):
        found = ctc_nbest(np.log(probs), k=100)
    expected = enumerate_labelings(probs.tolist(), blank=0)
    assert {one.labels for one in found} == set(expected)
    for one in found:
        # 3 frames of at most 3 products and sums each, in double.
        assert math.exp(one.log_prob) == pytest.approx(expected[one.labels], rel=30 * 2**-53)


def test_views_and_other_types_of_numbers() -> None:
    log_probs = random_logits(0, 1, 8, 4).log_softmax(dim=2).numpy()[0].astype(np.float32)
    expected = ctc_nbest(log_probs, k=7)
    assert ctc_nbest(np.asfortranarray(log_probs), k=7) == expected
    assert ctc_nbest(log_probs[::-1][::-1], k=7) == expected
    assert ctc_nbest(np.repeat(log_probs, 2, axis=1)[:, ::2], k=7) == expected
    assert ctc_nbest(log_probs.astype(">f4"), k=7) == expected
    fields = np.zeros(log_probs.shape, dtype=[("tag", "i1"), ("value", "f4")])
    fields["value"] = log_probs
    assert ctc_nbest(fields["value"], k=7) == expected
    half = log_probs.astype(np.float16)
    assert ctc_nbest(half, k=7) == ctc_nbest(half.astype(np.float32), k=7)
    read_only = log_probs.copy()
    read_only.flags.writeable = False
    assert ctc_nbest(read_only, k=7) == expected


def test_ties_go_by_class_indices_before_lengths() -> None:
    # (1, 2) and (2,) have probability 1/2 each.
    with np.errstate(divide="ignore"):
        found = ctc_nbest(np.log([[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]), k=2)
    assert [one.labels for one in found] == [(1, 2), (2,)]


def test_no_width_is_too_large() -> None:
    log_probs = random_logits(0, 1, 4, 3).log_softmax(dim=2).numpy()[0]
    assert ctc_nbest(log_probs, k=30, beam_width=2**80) == ctc_nbest(log_probs, k=30)


def test_no_frames_leave_the_empty_labeling() -> None:
    [only] = ctc_nbest(np.zeros((0, 3)), k=5)
    assert (only.labels, only.log_prob) == ((), 0.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"log_probs": np.zeros(3)}, "log_probs: expected [T, C], got shape [3]"),
        ({"log_probs": np.zeros((2, 0))}, "log_probs: expected [T, C], got shape [2, 0]"),
        ({"log_probs": np.zeros((2, 3), complex)}, "expected real numbers, got complex128"),
        ({"log_probs": np.array([["a"]])}, "expected real numbers, got <U1"),
        ({"log_probs": [[-1.0, math.nan]]}, "got nan in frame 0, class 1"),
        ({"log_probs": [[-1.0, -1.0], [math.inf, 0.0]]}, "got inf in frame 1, class 0"),
        ({"log_probs": [[-1.0, 0.01]]}, "got 0.01 in frame 0, class 1; use log_softmax"),
        ({"k": 2**31}, "k: expected 1 to 2147483647, got 2147483648"),
        ({"k": 0}, "k: expected 1 to 2147483647, got 0"),
        ({"beam_width": 4}, "beam_width: expected at least k = 5, got 4"),
        ({"blank": 3}, "blank: expected a class in [0, 3), got 3"),
        ({"blank": -1}, "blank: expected a class in [0, 3), got -1"),
    ],
)
def test_wrong_arguments_are_named(changed: dict[str, object], message: str) -> None:
    arguments = {"log_probs": np.log(np.full((2, 3), 1 / 3)), "k": 5, **changed}
    with pytest.raises(ValueError, match=re.escape(message)):
        ctc_nbest(**arguments)


def test_what_sums_to_more_than_one_is_named() -> None:
    log_probs = random_logits(0, 1, 8, 4).log_softmax(dim=2).numpy()[0]
    with pytest.raises(ValueError, match=r"frame \d sum to .* natural logarithms"):
        ctc_nbest(log_probs / np.log(10), k=3)
    assert ctc_nbest(log_probs.astype(np.float16), k=3)
    with pytest.raises(TypeError, match="float"):
        ctc_nbest(log_probs, k=3.0)  # type: ignore[arg-type]
