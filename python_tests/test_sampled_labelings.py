"""Labelings drawn from the model beyond the beam, with every expectation taken by enumeration."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from egl_fast.methods.keys import sign_key
from egl_fast.methods.samples import sample_labelings
from egl_fast.reference.enumerate import enumerate_labelings


def test_keys_differ_by_seed_and_name() -> None:
    keys = {sign_key(seed, name) for seed in (0, 1, -1) for name in ("a", "b", "\udcff", "")}
    assert len(keys) == 12
    assert sign_key(0, "a") == sign_key(0, "a")
    assert all(-(2**63) <= key < 2**63 for key in keys)


@pytest.mark.parametrize("blank", [0, 1])
def test_draws_follow_the_model(blank: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    logits[1, 2] = -torch.inf
    log_probs = logits.log_softmax(1)
    n = 20_000
    counts = Counter(sample_labelings(log_probs, n, seed=0, name="a", blank=blank))
    expected = enumerate_labelings(log_probs.exp().tolist(), blank=blank)
    assert set(counts) <= set(expected)
    for labels, p in expected.items():
        assert abs(counts[labels] - n * p) <= 5 * math.sqrt(n * p * (1 - p)) + 1e-9
    again = sample_labelings(log_probs, n, seed=0, name="a", blank=blank)
    assert Counter(again) == counts
    assert sample_labelings(log_probs, 50, seed=0, name="b") != again[:50]
