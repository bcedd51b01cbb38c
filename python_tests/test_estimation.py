"""Estimators on problems small enough to take every expectation by enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from foreign_models import NUM_BINS, NUM_CLASSES, batch
from recordings import random_checkpoint
from torch import Tensor, nn

import egl_fast
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest
from egl_fast.estimation.directions import (
    MIN_TAIL_PROBES,
    SAFETY,
    Budget,
    Spectrum,
    budget_for_tolerance,
    budget_of_probes,
)
from egl_fast.estimation.estimator import Deflated, Exact, estimator_for, weighted_gram
from egl_fast.estimation.outside import OutsideDraws, OutsideGroups
from egl_fast.estimation.sampling import sample_labelings
from egl_fast.estimation.signs import random_signs
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.reference.enumerate import enumerate_labelings
from egl_fast.reference.scoring import reference_score

# Sums of a few hundred products of numbers near 1 in float64.
EXACTLY = {"rel": 1e-10, "abs": 1e-12}


class LinearProblem:
    """K cotangents of 3 frames and 2 classes through a known J.

    Its first rows are those of an output layer: delta^T A for inputs A [3, 2].
    """

    def __init__(self, num_hypotheses: int) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.weights = normal(num_hypotheses).softmax(0)
        # Few directions and some more: what hypotheses of a beam look like.
        self.cotangents = (
            (normal(num_hypotheses, 2) @ normal(2, 6)) + 0.3 * normal(num_hypotheses, 6)
        ).view(-1, 3, 2)
        self.inputs = normal(3, 2)
        self.kernel = self.inputs @ self.inputs.T
        self.rest = normal(5, 6)

    def of_output(self, cotangents: Tensor) -> Tensor:
        return torch.einsum("rtc,ti->rci", cotangents, self.inputs).square().sum((1, 2))

    def sq_norms(self, cotangents: Tensor) -> Tensor:
        return self.of_output(cotangents) + (cotangents.flatten(1) @ self.rest.T).square().sum(1)

    @property
    def truth(self) -> float:
        return float(self.weights @ self.sq_norms(self.cotangents))

    def estimate(self, signs: Tensor, directions: int, *, with_kernel: bool = True) -> Deflated:
        return Deflated(
            self.weights,
            self.cotangents,
            kernel=self.kernel if with_kernel else None,
            spectrum=Spectrum.of(weighted_gram(self.weights, self.cotangents)),
            budget=Budget(directions, signs.shape[1]),
            signs=signs,
        )


def all_signs(count: int) -> list[tuple[float, ...]]:
    return list(itertools.product([1.0, -1.0], repeat=count))


@pytest.mark.parametrize("with_kernel", [True, False])
@pytest.mark.parametrize("directions", [0, 1, 3])
def test_value_and_variance_are_unbiased_over_all_signs(directions: int, with_kernel: bool) -> None:
    problem = LinearProblem(5)
    values, variances = [], []
    for pair in itertools.product(all_signs(5), repeat=2):
        signs = torch.tensor(pair, dtype=torch.float64).T
        deflated = problem.estimate(signs, directions, with_kernel=with_kernel)
        rows = deflated.cotangents
        assert rows.shape == (directions + 2, 3, 2)
        found = deflated.finish(problem.sq_norms(rows), problem.of_output(rows))
        assert float(found.samples.mean()) == pytest.approx(found.value, **EXACTLY)
        assert float(problem.weights @ found.sq_norms) == pytest.approx(found.value, rel=1e-9)
        values.append(found.value)
        variances.append(found.variance)
    mean = sum(values) / len(values)
    assert mean == pytest.approx(problem.truth, **EXACTLY)
    spread = sum((value - mean) ** 2 for value in values) / len(values)
    assert sum(variances) / len(variances) == pytest.approx(spread, **EXACTLY)


def test_controls_and_directions_reduce_the_spread() -> None:
    problem = LinearProblem(5)

    def spread(directions: int, with_kernel: bool) -> float:
        values = []
        for pair in itertools.product(all_signs(5), repeat=2):
            signs = torch.tensor(pair, dtype=torch.float64).T
            deflated = problem.estimate(signs, directions, with_kernel=with_kernel)
            rows = deflated.cotangents
            values.append(deflated.finish(problem.sq_norms(rows), problem.of_output(rows)).value)
        return float(torch.tensor(values).var())

    assert spread(0, True) < spread(0, False)
    assert spread(2, True) < 0.2 * spread(0, True)


def test_all_directions_are_exact() -> None:
    problem = LinearProblem(5)
    deflated = problem.estimate(torch.zeros(5, 0, dtype=torch.float64), 5)
    rows = deflated.cotangents
    found = deflated.finish(problem.sq_norms(rows), problem.of_output(rows))
    assert found.value == pytest.approx(problem.truth, **EXACTLY)
    assert found.variance == 0.0


def test_signs_and_rotations_of_eigenvectors_change_nothing() -> None:
    problem = LinearProblem(6)
    spectrum = Spectrum.of(weighted_gram(problem.weights, problem.cotangents))
    rotation, _ = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))
    turned = spectrum.vectors.clone()
    turned[:, 0] *= -1
    # Within the kept space any basis will do, as where two eigenvalues are equal.
    turned[:, :2] = turned[:, :2] @ rotation
    signs = random_signs(0, "a", [(i,) for i in range(6)], 3)
    results = []
    for vectors in (spectrum.vectors, turned):
        deflated = Deflated(
            problem.weights,
            problem.cotangents,
            kernel=problem.kernel,
            spectrum=Spectrum(spectrum.values, vectors),
            budget=Budget(2, 3),
            signs=signs,
        )
        rows = deflated.cotangents
        results.append(deflated.finish(problem.sq_norms(rows), problem.of_output(rows)))
    assert results[0].value == pytest.approx(results[1].value, **EXACTLY)
    assert results[0].variance == pytest.approx(results[1].variance, **EXACTLY)


def test_signs_belong_to_the_hypothesis() -> None:
    labelings = [(1, 2), (), (12,), (1, 22)]
    signs = random_signs(3, "a", labelings, 600)
    assert torch.equal(signs.flip(0), random_signs(3, "a", labelings[::-1], 600))
    assert torch.equal(signs[:, 500:], random_signs(3, "a", labelings, 100, first=500))
    others = [random_signs(3, "b", labelings, 600), random_signs(4, "a", labelings, 600)]
    # Sums of 2,400 fair signs: beyond 5 standard deviations once in a million.
    for other in [*others, signs.roll(1, 0), signs.roll(1, 1)]:
        assert abs(float((signs * other).sum())) < 5 * math.sqrt(2400)
    assert abs(float(signs.sum())) < 5 * math.sqrt(2400)


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


def test_budgets_keep_what_they_promise() -> None:
    values = torch.tensor([0.5**i for i in range(20)], dtype=torch.float64)
    spectrum = Spectrum(values, torch.eye(20, dtype=torch.float64))
    deviation = spectrum.relative_tail_deviation()
    assert deviation[20] == 0.0
    assert float(deviation[0]) == pytest.approx(
        math.sqrt(2 * float(values.square().sum())) / float(values.sum())
    )
    for tolerance in (0.3, 0.1, 0.01, 1e-3):
        budget = budget_for_tolerance(spectrum, tolerance)
        assert budget.probes >= MIN_TAIL_PROBES
        assert SAFETY * float(deviation[budget.directions]) / math.sqrt(budget.probes) <= tolerance
    flat = Spectrum(torch.ones(100, dtype=torch.float64), torch.eye(100, dtype=torch.float64))
    # Directions gain nothing there.
    assert budget_for_tolerance(flat, 0.05).probes > MIN_TAIL_PROBES
    for probes, fewest in ((2, 2), (4, 2), (6, 3), (10, 3)):
        budget = budget_of_probes(spectrum, probes)
        assert budget.total == probes
        assert budget.probes >= fewest


def test_a_tail_of_nothing_needs_no_probes() -> None:
    values = torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    spectrum = Spectrum(values, torch.eye(8, dtype=torch.float64))
    assert budget_for_tolerance(spectrum, 0.01) == Budget(2, 0)
    assert budget_of_probes(spectrum, 5) == Budget(2, 0)


def test_few_hypotheses_are_pulled_back_one_by_one() -> None:
    problem = LinearProblem(4)
    for method in ("exact", "lowrank", "probe"):
        estimator = estimator_for(
            method,
            weights=problem.weights,
            cotangents=problem.cotangents,
            kernel=None,
            labelings=[(i,) for i in range(4)],
            name="a",
            seed=0,
            tolerance=1e-6,
            probes=4,
        )
        assert isinstance(estimator, Exact)


LABELINGS = [(), (1,), (2,), (1, 2)]
PROBABILITIES = [0.4, 0.3, 0.2, 0.1]
SQ_NORMS = dict(zip(LABELINGS, [1.0, 5.0, 2.0, 7.0], strict=True))


def test_draws_outside_are_unbiased() -> None:
    inside = {()}
    truth = sum(p * SQ_NORMS[y] for y, p in zip(LABELINGS, PROBABILITIES, strict=True) if y)
    mean = variance = square = 0.0
    for draws in itertools.product(zip(LABELINGS, PROBABILITIES, strict=True), repeat=3):
        p = math.prod(q for _, q in draws)
        outside = OutsideDraws([y for y, _ in draws], inside)
        norms = torch.tensor([SQ_NORMS[y] for y in outside.labelings], dtype=torch.float64)
        found = outside.finish(norms)
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
            monkeypatch.setattr("egl_fast.estimation.outside.random_signs", lambda *a, s=signs: s)
            groups = OutsideGroups(labelings, inside, num_groups=2, name="a", seed=0)
            own = torch.stack([cotangents[y] for y in groups.labelings] or [torch.zeros(3, 2)])
            rows = groups.combine(own[: len(groups.labelings)].double(), problem.kernel)
            found = groups.finish(problem.sq_norms(rows), problem.of_output(rows))
            weight = p / len(patterns)
            mean += weight * found.value
            square += weight * found.value**2
            variance += weight * found.variance
    assert mean == pytest.approx(truth, **EXACTLY)
    assert variance == pytest.approx(square - mean**2, rel=1e-9)


class Small(nn.Module):
    """Few frames and classes, so that every labeling can be enumerated."""

    def __init__(self, *, log_softmax: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(4, 6)
        self.output = nn.Linear(6, 3)
        self.log_softmax = log_softmax

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.output(self.hidden(x).tanh())
        return (logits.log_softmax(2) if self.log_softmax else logits), lengths


@pytest.mark.parametrize("method", ["exact", "lowrank", "probe"])
def test_the_full_sum_equals_enumeration(method: str) -> None:
    model = Small().double()
    inputs = torch.randn(1, 4, 4, dtype=torch.float64), torch.tensor([4])
    everything = reference_score(model, inputs, k=200, beam_width=10_000)
    assert everything.beam_mass == pytest.approx(1.0, rel=1e-12)
    scorer = egl_fast.Scorer(model, ["-", "a", "b"])
    records = [
        scorer.score_batch(
            *inputs, k=8, method=method, full=True, full_samples=8, probes=4, seed=seed
        )[0]
        for seed in range(200)
    ]
    errors = torch.tensor([r.egl_full - everything.egl for r in records], dtype=torch.float64)
    variances = torch.tensor([r.egl_full_stderr**2 for r in records], dtype=torch.float64)
    # 200 seeds: the mean within 4 of its own deviations, the mean square known to about a tenth.
    assert abs(float(errors.mean())) <= 4 * float(errors.std()) / math.sqrt(200)
    assert 0.6 <= float(errors.square().mean() / variances.mean()) <= 1.6
    assert records[0].egl == pytest.approx(records[0].egl_normalized * records[0].beam_mass)


@pytest.mark.parametrize("log_softmax", [False, True])
def test_the_output_layer_is_known_before_any_pass(log_softmax: bool) -> None:
    model = Small(log_softmax=log_softmax).double()
    engine = GradientEngine(model)
    tape = engine.run(torch.randn(1, 5, 4, dtype=torch.float64), torch.tensor([5]))
    logits = tape.outputs[0]
    layer = output_layer_of(tape, logits)
    assert layer is not None
    assert layer.names == ("output.weight", "output.bias")
    cotangents = torch.randn(1, 3, 5, 3, dtype=torch.float64)
    cotangents -= cotangents.mean(3, keepdim=True)  # as those of a CTC loss
    norms = engine.sq_norms(tape, logits, cotangents)
    kernel = layer.kernel(0, 5)
    known = (cotangents[0] * (kernel @ cotangents[0])).sum((1, 2))
    torch.testing.assert_close(
        known, (norms["output.weight"] + norms["output.bias"])[0], rtol=1e-12, atol=0
    )


class Tied(nn.Module):
    """The output layer's weight is used a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_BINS, 8)
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        h = self.hidden(x).tanh()
        return self.output(h + (self.output(h).tanh() @ self.output.weight)), lengths


def test_a_tied_output_layer_is_not_taken_for_known() -> None:
    torch.manual_seed(0)
    model = Tied().double()
    x, lengths = batch()
    tape = GradientEngine(model).run(x[:1], lengths[:1])
    assert output_layer_of(tape, tape.outputs[0]) is None
    scorer = egl_fast.Scorer(model, ["-", "a", "b", "c"][:NUM_CLASSES])
    [exact] = scorer.score_batch(x[:1], lengths[:1], k=30)
    [close] = scorer.score_batch(x[:1], lengths[:1], k=30, method="lowrank", tolerance=1e-3)
    assert close.egl == pytest.approx(exact.egl, rel=1e-2)


@pytest.fixture(scope="module")
def scorer_and_inputs(examples: Path) -> tuple[egl_fast.Scorer, Tensor, Tensor, list[str]]:
    checkpoint = random_checkpoint()
    scorer = egl_fast.Scorer(
        checkpoint.model.double(), checkpoint.vocabulary, features=checkpoint.features
    )
    pool = read_manifest(examples / "pool.jsonl")
    utterances = sorted(pool, key=lambda u: float(u.duration_seconds or 0.0))[:3]
    features, lengths = pad_features(
        [load_spectrogram(u, checkpoint.features).features for u in utterances]
    )
    return scorer, features.double(), lengths, [u.id for u in utterances]


@pytest.mark.parametrize("method", ["lowrank", "probe"])
def test_estimates_depend_on_seed_id_and_audio_alone(
    scorer_and_inputs: tuple[egl_fast.Scorer, Tensor, Tensor, list[str]], method: str
) -> None:
    scorer, features, lengths, ids = scorer_and_inputs
    options = {"k": 30, "method": method, "full": True, "tolerance": 0.05, "probes": 3}
    together = scorer.score_batch(features, lengths, ids=ids, **options)
    backwards = scorer.score_batch(features.flip(0), lengths.flip(0), ids=ids[::-1], **options)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        alone = [
            scorer.score_batch(
                features[n : n + 1, : int(lengths[n])], lengths[n : n + 1], ids=[ids[n]], **options
            )[0]
            for n in range(3)
        ]
    finally:
        torch.set_num_threads(threads)
    for others in (backwards[::-1], alone):
        for record, other in zip(together, others, strict=True):
            for field in ("egl", "egl_stderr", "egl_normalized", "egl_full", "egl_full_stderr"):
                # Rounding of float64, amplified where a spread is small beside its values.
                assert getattr(record, field) == pytest.approx(
                    getattr(other, field), rel=1e-6, abs=1e-9 * record.egl
                )
    reseeded = scorer.score_batch(features, lengths, ids=ids, seed=1, **options)
    renamed = scorer.score_batch(features, lengths, ids=["x", "y", "z"], **options)
    for record, *others in zip(together, reseeded, renamed, strict=True):
        for other in others:
            assert other.egl_full != record.egl_full


def test_lowrank_on_real_speech_is_within_its_tolerance(examples: Path) -> None:
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    pool = read_manifest(examples / "pool.jsonl")
    utterances = sorted(pool, key=lambda u: float(u.duration_seconds or 0.0))[:3]
    inputs = pad_features([load_spectrogram(u, scorer.features).features for u in utterances])
    ids = [u.id for u in utterances]
    exact = scorer.score_batch(*inputs, ids=ids, per_hypothesis=True)
    close = scorer.score_batch(*inputs, ids=ids, method="lowrank", per_hypothesis=True)
    for one, other in zip(exact, close, strict=True):
        # Four standard errors, of which the tolerance promises 1 %.
        assert other.egl == pytest.approx(one.egl, rel=0.04)
        assert 0.0 < other.egl_stderr < 0.04 * one.egl
        assert [h.labels for h in other.hypotheses] == [h.labels for h in one.hypotheses]
        assert other.egl_unsquared == pytest.approx(one.egl_unsquared, rel=0.04)
        total = sum(math.exp(h.log_prob) * h.sq_grad_norm for h in other.hypotheses)
        assert total == pytest.approx(other.egl, rel=1e-6)
    [plain] = scorer.score_batch(inputs[0][:1], inputs[1][:1], method="lowrank")
    assert plain.egl_unsquared is None
