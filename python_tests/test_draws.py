"""Labelings drawn from the model, and the sum over all labelings that they give."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from foreign_models import Small
from torch import Tensor

import egl_fast
from egl_fast import ops
from egl_fast.methods.budget import (
    Budget,
    budget_for_tolerance,
    budget_of_probes,
    tail_deviation,
)
from egl_fast.methods.draws import Draws, compressed_draws
from egl_fast.methods.method import Estimate
from egl_fast.methods.samples import Labels
from egl_fast.methods.sparse_cotangents import SparseCotangents, energies_of
from egl_fast.reference import compression
from egl_fast.reference.scoring import reference_score

# Sums of a few hundred products of numbers near 1 in float64.
EXACTLY = {"rel": 1e-10, "abs": 1e-12}

SPECTRA = {
    "one": [1.0],
    "nothing": [0.0, 0.0, 0.0],
    "equal": [1.0] * 40,
    "few": [4.0, 2.0, 1e-20, 0.0, 0.0, 0.0, 0.0],
    "falling": [2.0**-r for r in range(60)],
    "heavy tail": [1.0 / (1 + r) for r in range(150)],
}


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_budgets_are_those_of_the_slow_twin(values: list[float]) -> None:
    array = np.array(values)
    assert tail_deviation(array) == pytest.approx(compression.relative_tail_deviation(values))
    for tolerance in (0.5, 0.1, 0.01):
        expected = compression.budget_for_tolerance(values, tolerance)
        assert budget_for_tolerance(array, tolerance) == expected
    for rows in (2, 3, 4, 16):
        assert budget_of_probes(array, rows) == compression.budget_of_probes(values, rows)


LABELINGS = [(), (1,), (2,), (1, 2)]
PROBABILITIES = [0.4, 0.3, 0.2, 0.1]
SQ_NORMS = dict(zip(LABELINGS, [1.0, 5.0, 2.0, 7.0], strict=True))
ENERGIES = dict(zip(LABELINGS, [1.0, 2.0, 1.5, 3.0], strict=True))
INSIDE = {()}


@dataclass(frozen=True)
class Perfect:
    """Stands for rows of the rest that have no error."""

    value: float

    def __len__(self) -> int:
        return 1

    def estimate(self, sq_norms: Tensor, output_share: Tensor) -> Estimate:
        return Estimate(self.value, 0.0)


def with_own_rows(draws: list[Labels], more: Tensor) -> tuple[Draws, Tensor]:
    distinct = list(dict.fromkeys(y for y in draws if y not in INSIDE))
    norms = torch.tensor([SQ_NORMS[y] for y in distinct], dtype=torch.float64)
    found = Draws(
        num_draws=len(draws),
        counts=torch.tensor([draws.count(y) for y in distinct], dtype=torch.float64),
        energies=torch.tensor([ENERGIES[y] for y in distinct], dtype=torch.float64),
        first=torch.tensor([], dtype=torch.int64),
        num_own=len(distinct),
        rest=None,
        more_energies=more,
    )
    return found, norms


def with_two_own_rows(draws: list[Labels], more: Tensor) -> tuple[Draws, Tensor]:
    """The same if the others' rows happened to give their sum."""
    full, norms = with_own_rows(draws, more)
    outside = [y for y in draws if y not in INSIDE]
    if not outside:
        return full, norms
    distinct = list(dict.fromkeys(outside))
    own = len(set(outside[:2]))
    rest = full.counts[own:] @ norms[own:] / full.counts[own:].sum().clamp_min(1)
    two = replace(
        full,
        # If there is one only, the term with the other is zero.
        first=torch.tensor([distinct.index(y) for y in (outside * 2)[:2]]),
        num_own=own,
        rest=Perfect(float(rest)),  # type: ignore[arg-type]
    )
    return two, torch.cat([norms[:own], torch.zeros(1).double()])


@pytest.mark.parametrize("made", [with_own_rows, with_two_own_rows])
@pytest.mark.parametrize("gain", [0.0, 2.0, -1.0])
def test_value_and_variance_are_unbiased_over_all_draws(
    made: Callable[[list[Labels], Tensor], tuple[Draws, Tensor]], gain: float
) -> None:
    pairs = list(zip(LABELINGS, PROBABILITIES, strict=True))
    truth = sum(p * SQ_NORMS[y] for y, p in pairs if y not in INSIDE)
    mean = square = variance = 0.0
    for draws in itertools.product(pairs, repeat=5):
        labelings = [y for y, _ in draws]
        # The first three may be pulled back; of the last two, only the energies are known.
        more = [0.0 if y in INSIDE else ENERGIES[y] for y in labelings[3:]]
        own, norms = made(labelings[:3], torch.tensor(more, dtype=torch.float64))
        p = math.prod(q for _, q in draws)
        found = own.estimate(norms, torch.zeros_like(norms), gain=gain)
        mean += p * found.value
        square += p * found.value**2
        variance += p * found.variance
    assert mean == pytest.approx(truth, **EXACTLY)
    assert variance == pytest.approx(square - mean**2, rel=1e-9)


def test_a_good_gain_reduces_the_spread() -> None:
    draws, norms = with_own_rows([(1,), (2,), (1, 2), ()] * 2, torch.ones(32).double())
    without, with_gain = (draws.estimate(norms, norms, gain=gain) for gain in (0.0, 2.3))
    assert with_gain.variance < 0.5 * without.variance


def small_utterance(num_frames: int) -> tuple[egl_fast.Scorer, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(1, num_frames, 4, generator=generator, dtype=torch.float64)
    scorer = egl_fast.Scorer(Small().double(), ["-", "a", "b"])
    return scorer, (inputs, torch.tensor([num_frames]))


#: Method, K, draws: with few draws each has its own row, with many they are compressed.
CASES: dict[str, dict[str, object]] = {
    "exact, few": {"method": "exact", "k": 8, "full_samples": 8},
    "lowrank, few": {"method": "lowrank", "k": 8, "full_samples": 8},
    "probe, few": {"method": "probe", "k": 8, "full_samples": 8},
    "exact": {"method": "exact", "k": 8, "full_samples": 60},
    "lowrank": {"method": "lowrank", "k": 8, "full_samples": 60, "tolerance": 0.3},
    "probe": {"method": "probe", "k": 8, "full_samples": 60},
    "two probes, one hypothesis": {"method": "probe", "k": 1, "full_samples": 60, "probes": 2},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_full_sum_equals_enumeration(options: dict[str, object]) -> None:
    scorer, inputs = small_utterance(6)
    everything = reference_score(scorer.model, inputs, k=1000, beam_width=10_000)
    assert everything.beam_mass == pytest.approx(1.0, rel=1e-12)
    records = [
        scorer.score_batch(*inputs, **options, full=True, seed=seed)[0] for seed in range(200)
    ]
    errors = torch.tensor([r.egl_full - everything.egl for r in records], dtype=torch.float64)
    variances = torch.tensor([r.egl_full_stderr**2 for r in records], dtype=torch.float64)
    # 200 seeds: the mean within 4 of its own deviations, the mean square known to about a tenth.
    assert abs(float(errors.mean())) <= 4 * float(errors.std()) / math.sqrt(200)
    assert 0.6 <= float(errors.square().mean() / variances.mean()) <= 1.6
    assert records[0].egl == pytest.approx(records[0].egl_normalized * records[0].beam_mass)


@pytest.mark.parametrize("method", ["exact", "lowrank", "probe"])
def test_the_beam_is_scored_as_without_draws(method: str) -> None:
    scorer, inputs = small_utterance(6)
    [plain] = scorer.score_batch(*inputs, k=20, method=method)
    [full] = scorer.score_batch(*inputs, k=20, method=method, full=True)
    assert (full.egl, full.egl_stderr) == (plain.egl, plain.egl_stderr)
    assert plain.egl_full is None


def test_draws_that_are_all_in_the_beam_add_nothing() -> None:
    scorer, inputs = small_utterance(3)
    [record] = scorer.score_batch(*inputs, k=1000, full=True)
    assert record.beam_mass == pytest.approx(1.0)
    assert (record.egl_full, record.egl_full_stderr) == (record.egl, 0.0)


def test_a_single_labeling_outside() -> None:
    scorer, inputs = small_utterance(1)  # three labelings: nothing, a, b
    everything = reference_score(scorer.model, inputs, k=10, beam_width=100)
    [record] = scorer.score_batch(*inputs, k=2, full=True, full_samples=400)
    # One unknown, how often it is drawn: its share has a standard error of at most 2.5%.
    assert record.egl_full == pytest.approx(everything.egl, rel=0.1)
    assert 0.0 < record.egl_full_stderr < 0.05 * record.egl_full


@pytest.mark.parametrize("num_classes", [4, 1000])
def test_cotangents_are_those_of_the_operator(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 7, num_classes, generator=generator, dtype=torch.float64)
    logits[0, 2, 3] = -torch.inf
    blank = num_classes - 2
    labelings: list[Labels] = [(1, 0), (1,), (), (num_classes - 1, 1, 1), (0,)]
    [dense] = ops.ctc_logits_cotangents(
        logits, torch.tensor([7]), ops.Hypotheses.of([labelings]), blank=blank
    )[1]
    log_probs = logits[0].log_softmax(1)
    sparse = SparseCotangents.of(log_probs, labelings, blank=blank)
    frame_gram = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    scales = torch.rand(5, generator=generator, dtype=torch.float64)
    combinations = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    scaled = (dense * scales[:, None, None]).flatten(1)
    for found, expected in [
        (sparse.rows(), dense),
        (sparse.rows(combinations), torch.tensordot(combinations, dense, dims=1)),
        (sparse[1:].rows(), dense[1:]),
        (sparse.sq_norms(), dense.square().sum((1, 2))),
        (sparse.gram(scales), scaled @ scaled.T),
        (sparse.output_sq_norms(frame_gram), (dense * (frame_gram @ dense)).sum((1, 2))),
    ]:
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    energies = energies_of(log_probs, [(1,), (), (1,), (0,)], {()}, blank=blank)
    expected = dense.square().sum((1, 2))[[1, 2, 1, 4]] * torch.tensor([1, 0, 1, 1])
    torch.testing.assert_close(energies, expected, rtol=1e-10, atol=0)


def drawn(num_draws: int) -> tuple[Tensor, list[Labels]]:
    """Log-probabilities [6, 5] and distinct labelings with some repetitions, as if drawn."""
    log_probs = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)).double()
    distinct: list[Labels] = [tuple(y) for y in itertools.product(range(1, 5), repeat=3)]
    labelings = [distinct[(i * i) % 41] for i in range(num_draws + 4)]
    return log_probs.log_softmax(1), labelings


def compressed(
    num_draws: int, budget: Callable[[np.ndarray], Budget], *, key: int = 0
) -> tuple[Tensor, Draws, list[Labels]]:
    log_probs, labelings = drawn(num_draws)
    rows, draws = compressed_draws(
        log_probs, labelings, set(), num_draws=num_draws, budget=budget, key=key,
        frame_gram=torch.eye(6).double(), blank=0,
    )  # fmt: skip
    return rows, draws, list(dict.fromkeys(labelings[:num_draws]))


def test_rows_are_those_of_the_slow_twin() -> None:
    rows, draws, distinct = compressed(60, lambda _: Budget(3, 2), key=7)
    log_probs, _ = drawn(60)
    hypotheses = ops.Hypotheses.of([distinct])
    [dense] = ops.ctc_logits_cotangents(log_probs[None], torch.tensor([6]), hypotheses)[1]
    own = draws.num_own
    assert own == 2
    torch.testing.assert_close(rows[:own], dense[:own])
    weights = draws.counts[own:] / draws.counts[own:].sum()
    [normals] = ops.ctc_hypothesis_normals(
        ops.Hypotheses.of([distinct[own:]]), torch.tensor([7]), num_normals=3
    )
    gram = compression.weighted_gram(weights, dense[own:])
    _, vectors = compression.eigen(gram, normals[:, 0].square())
    combinations = compression.combine(vectors, (3, 2), normals[:, 1:])
    expected = torch.tensordot(combinations * weights.sqrt(), dense[own:], dims=1)
    # Eigenvectors have either sign; probes have not.
    torch.testing.assert_close(rows[own : own + 3].abs(), expected[:3].abs())
    torch.testing.assert_close(rows[own + 3 :], expected[3:])


def test_squared_lengths_of_rows_add_up() -> None:
    """With J = 1, the sum is known, and the probes' mean is exact: eigenvectors are orthogonal."""
    for budget in (Budget(0, 2), Budget(5, 3)):
        rows, draws, _ = compressed(60, lambda _, budget=budget: budget)
        assert len(rows) == len(draws) == 2 + sum(budget)
        sq_norms = rows.square().sum((1, 2))
        found = draws.estimate(sq_norms, sq_norms, gain=0.0)
        assert found.value == pytest.approx(float(draws.counts @ draws.energies) / 60)


def test_without_eigenvectors_draws_are_pulled_back_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: Tensor) -> None:
        raise RuntimeError("linalg.eigh: failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    rows, draws, distinct = compressed(60, lambda _: Budget(3, 2))
    assert draws.rest is None
    assert len(rows) == len(draws) == len(distinct)
