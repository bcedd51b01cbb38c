"""Labelings drawn from the model beyond the beam, with every expectation taken by enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from linear_problem import EXACTLY, LinearProblem

from egl_fast.methods.keys import sign_key
from egl_fast.methods.samples import sample_labelings, separate_samples, signed_groups
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


LABELINGS = [(), (1,), (2,), (1, 2)]
PROBABILITIES = [0.4, 0.3, 0.2, 0.1]
SQ_NORMS = dict(zip(LABELINGS, [1.0, 5.0, 2.0, 7.0], strict=True))


def test_draws_outside_are_unbiased() -> None:
    inside = {()}
    truth = sum(p * SQ_NORMS[y] for y, p in zip(LABELINGS, PROBABILITIES, strict=True) if y)
    mean = variance = square = 0.0
    for draws in itertools.product(zip(LABELINGS, PROBABILITIES, strict=True), repeat=3):
        p = math.prod(q for _, q in draws)
        outside = separate_samples([y for y, _ in draws], inside)
        norms = torch.tensor([SQ_NORMS[y] for y in outside.labelings], dtype=torch.float64)
        rows, reading = outside.rows(norms[:, None, None], None)
        found = reading(rows[:, 0, 0], torch.zeros_like(norms))
        mean += p * found.value
        square += p * found.value**2
        variance += p * found.variance
    assert mean == pytest.approx(truth, **EXACTLY)
    assert variance == pytest.approx(square - mean**2, **EXACTLY)


def test_groups_of_draws_are_unbiased_over_draws_and_signs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = LinearProblem(4)
    cotangents = dict(zip(LABELINGS, problem.cotangents, strict=True))
    inside = {(2,)}
    norms = dict(zip(LABELINGS, problem.sq_norms(problem.cotangents).tolist(), strict=True))
    truth = sum(
        p * norms[y] for y, p in zip(LABELINGS, PROBABILITIES, strict=True) if y not in inside
    )
    mean = square = variance = 0.0
    for draws in itertools.product(zip(LABELINGS, PROBABILITIES, strict=True), repeat=4):
        p = math.prod(q for _, q in draws)
        labelings = [y for y, _ in draws]
        used = len({y for y in labelings if y not in inside})
        patterns = list(itertools.product([1.0, -1.0], repeat=2 * used))
        for pattern in patterns:
            signs = torch.tensor(pattern, dtype=torch.float64).view(used, 2)
            monkeypatch.setattr(
                "egl_fast.methods.samples.ops.ctc_hypothesis_normals",
                lambda *_, num_normals, s=signs: s[None],
            )
            groups = signed_groups(labelings, inside, num_groups=2, key=0)
            own = torch.stack([cotangents[y] for y in groups.labelings] or [torch.zeros(3, 2)])
            rows, reading = groups.rows(own[: len(groups.labelings)].double(), problem.frame_gram)
            found = reading(problem.sq_norms(rows), problem.of_output(rows))
            weight = p / len(patterns)
            mean += weight * found.value
            square += weight * found.value**2
            variance += weight * found.variance
    assert mean == pytest.approx(truth, **EXACTLY)
    assert variance == pytest.approx(square - mean**2, rel=1e-9)
