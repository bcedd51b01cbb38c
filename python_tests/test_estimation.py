"""Estimators on problems small enough to take every expectation by enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from foreign_models import NUM_BINS, NUM_CLASSES, Small, batch
from recordings import random_checkpoint
from torch import Tensor, nn

import egl_fast
from egl_fast import ops
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.methods.directions_and_probes import DirectionsAndProbes
from egl_fast.methods.keys import sign_key
from egl_fast.methods.method import Estimate, OwnRows
from egl_fast.methods.samples import sample_labelings
from egl_fast.reference.compression import combine, eigen, weighted_gram
from egl_fast.reference.enumerate import enumerate_labelings

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
        self.frame_gram = self.inputs @ self.inputs.T
        self.rest = normal(5, 6)

    def of_output(self, cotangents: Tensor) -> Tensor:
        return torch.einsum("rtc,ti->rci", cotangents, self.inputs).square().sum((1, 2))

    def sq_norms(self, cotangents: Tensor) -> Tensor:
        return self.of_output(cotangents) + (cotangents.flatten(1) @ self.rest.T).square().sum(1)

    @property
    def truth(self) -> float:
        return float(self.weights @ self.sq_norms(self.cotangents))

    def rows(
        self, signs: Tensor, directions: int, *, output_known: bool = True
    ) -> tuple[DirectionsAndProbes, Tensor]:
        """With the signs [K - R, m] along the eigenvectors beyond the R directions."""
        values, vectors = eigen(
            weighted_gram(self.weights, self.cotangents), torch.zeros(len(self.weights)).double()
        )
        normals = vectors[:, directions:] @ signs
        combinations = combine(vectors, (directions, signs.shape[1]), normals)
        cotangents = torch.tensordot(combinations * self.weights.sqrt(), self.cotangents, dims=1)
        rows = DirectionsAndProbes(
            weights=self.weights,
            combinations=combinations,
            num_directions=directions,
            tail_energy=vectors[:, directions:].square() @ values[directions:],
            output_sq_norms=self.of_output(self.cotangents) if output_known else None,
        )
        return rows, cotangents

    def estimate(self, signs: Tensor, directions: int, *, output_known: bool = True) -> Estimate:
        """See ``rows``."""
        rows, cotangents = self.rows(signs, directions, output_known=output_known)
        return rows.estimate(self.sq_norms(cotangents), self.of_output(cotangents))

    def single_norms(self, signs: Tensor, directions: int) -> tuple[Tensor, Tensor]:
        """Estimated squared norms of the hypotheses, and their error."""
        rows, cotangents = self.rows(signs, directions)
        own = cotangents.flatten(1) @ self.rest.T
        output = torch.einsum("rtc,ti->rci", cotangents, self.inputs).flatten(1)
        found = rows.single_norms(own @ own.T + output @ output.T, output @ output.T)
        return found.sq_norms, found.stderr

    def estimates(self, directions: int, *, output_known: bool = True) -> list[Estimate]:
        """Of two probes, under all signs."""
        rest = len(self.weights) - directions
        return [
            self.estimate(
                torch.tensor(pair, dtype=torch.float64).T, directions, output_known=output_known
            )
            for pair in itertools.product(itertools.product([1.0, -1.0], repeat=rest), repeat=2)
        ]


@pytest.mark.parametrize("output_known", [True, False])
@pytest.mark.parametrize("directions", [0, 1, 3])
def test_value_and_variance_are_unbiased_over_all_signs(
    directions: int, output_known: bool
) -> None:
    problem = LinearProblem(5)
    found = problem.estimates(directions, output_known=output_known)
    mean = sum(estimate.value for estimate in found) / len(found)
    assert mean == pytest.approx(problem.truth, **EXACTLY)
    spread = sum((estimate.value - mean) ** 2 for estimate in found) / len(found)
    assert spread > 0.0
    variance = sum(estimate.variance for estimate in found) / len(found)
    assert variance == pytest.approx(spread, **EXACTLY)


def test_known_parts_and_directions_reduce_the_spread() -> None:
    problem = LinearProblem(5)

    def spread(directions: int, output_known: bool) -> float:
        found = problem.estimates(directions, output_known=output_known)
        return float(torch.tensor([estimate.value for estimate in found]).var())

    assert spread(0, True) < spread(0, False)
    assert spread(2, True) < 0.2 * spread(0, True)


def test_signs_along_eigenvectors_spread_less_than_one_a_hypothesis() -> None:
    problem = LinearProblem(5)
    columns = problem.cotangents * problem.weights.sqrt()[:, None, None]
    patterns = torch.tensor(list(itertools.product([1.0, -1.0], repeat=5)), dtype=torch.float64)
    hutchinson = problem.sq_norms(torch.tensordot(patterns, columns, dims=1))
    along = [estimate.value for estimate in problem.estimates(0, output_known=False)]
    # The mean of two probes has half the variance of one.
    assert 2 * float(torch.tensor(along).var()) < 0.5 * float(hutchinson.var())


def test_the_hypotheses_own_rows_are_exact() -> None:
    problem = LinearProblem(5)
    own = problem.sq_norms(problem.cotangents)
    for products in (own, torch.diag(own)):
        found, single = OwnRows(problem.weights).finish(products, products)
        assert found.value == pytest.approx(problem.truth, **EXACTLY)
        assert found.variance == 0.0
        assert torch.equal(single.sq_norms, own)


def test_single_norms_are_exact_but_for_the_tail() -> None:
    problem = LinearProblem(5)
    truth = problem.sq_norms(problem.cotangents)
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=1)), dtype=torch.float64).T
    found, stderr = problem.single_norms(signs, 4)
    # What is left out is at most what the error says, both signs being there.
    assert bool(((found - truth).abs() <= stderr + 1e-9).all())
    assert float((found / truth - 1).abs().max()) > 1e-6


def test_unknown_inner_products_enlarge_the_error() -> None:
    problem = LinearProblem(5)
    rows, cotangents = problem.rows(torch.zeros(2, 0, dtype=torch.float64), 3, output_known=False)
    vectors = torch.cat(
        [
            cotangents.flatten(1) @ problem.rest.T,
            torch.einsum("rtc,ti->rci", cotangents, problem.inputs).flatten(1),
        ],
        dim=1,
    )
    gram = vectors @ vectors.T
    known = rows.single_norms(gram, gram)
    holes = gram.clone()
    holes[0, 1:] = holes[1:, 0] = torch.nan
    found = rows.single_norms(holes, holes)
    assert not torch.equal(found.sq_norms, known.sq_norms)
    assert bool(((found.sq_norms - known.sq_norms).abs() <= found.stderr * (1 + 1e-9)).all())


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


@pytest.mark.parametrize("options", [{"tolerance": 1e-6}, {"probes": 7}])
def test_few_hypotheses_are_pulled_back_one_by_one(options: dict[str, float]) -> None:
    logits = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0))
    found = ops.ctc_nbest_cotangents(logits, torch.tensor([3]), num_hypotheses=5, **options)
    assert isinstance(DirectionsAndProbes.of(found, 0), OwnRows)
    assert torch.equal(found.combinations[0], torch.eye(5, dtype=torch.float64))


@pytest.mark.parametrize("log_softmax", [False, True])
def test_the_output_layer_is_known_before_any_pass(log_softmax: bool) -> None:
    model = Small(log_softmax=log_softmax).double()
    engine = GradientEngine(model)
    tape = engine.run(torch.randn(1, 5, 4, dtype=torch.float64), torch.tensor([5]))
    layer = output_layer_of(tape)
    assert layer is not None
    assert layer.names == ("output.weight", "output.bias")
    cotangents = torch.randn(1, 3, 5, 3, dtype=torch.float64)
    cotangents -= cotangents.mean(3, keepdim=True)  # as those of a CTC loss
    norms = engine.sq_norms(tape, cotangents)
    frame_gram = layer.frame_gram(torch.tensor([5]))[0]
    known = (cotangents[0] * (frame_gram @ cotangents[0])).sum((1, 2))
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
    assert output_layer_of(tape) is None
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
    utterances = sorted(pool, key=lambda u: float(u.duration_seconds or 0.0))[:2]
    features, lengths = pad_features(
        [load_spectrogram(u, checkpoint.features).features for u in utterances]
    )
    return scorer, features.double(), lengths, [u.id for u in utterances]


@pytest.mark.parametrize("method", ["lowrank", "probe"])
def test_estimates_depend_on_seed_id_and_audio_alone(
    scorer_and_inputs: tuple[egl_fast.Scorer, Tensor, Tensor, list[str]], method: str
) -> None:
    scorer, features, lengths, ids = scorer_and_inputs
    options = {"k": 30, "method": method, "tolerance": 0.05, "probes": 3}
    options |= {"full": True, "full_samples": 40}
    together = scorer.score_batch(features, lengths, ids=ids, **options)
    backwards = scorer.score_batch(features.flip(0), lengths.flip(0), ids=ids[::-1], **options)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        alone = [
            scorer.score_batch(
                features[n : n + 1, : int(lengths[n])], lengths[n : n + 1], ids=[ids[n]], **options
            )[0]
            for n in range(2)
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
    renamed = scorer.score_batch(features, lengths, ids=["x", "y"], **options)
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
        # Not the same sum where a norm would have been negative.
        assert total == pytest.approx(other.egl, rel=1e-3)
        errors = [
            (a.sq_grad_norm - b.sq_grad_norm, b.sq_grad_norm_stderr)
            for a, b in zip(one.hypotheses, other.hypotheses, strict=True)
        ]
        # The error is no less than it should be, on average: see DirectionsAndProbes.single_norms.
        assert sum(e**2 for e, _ in errors) < 1.5 * sum(s**2 for _, s in errors)
        assert all(h.sq_grad_norm_stderr == 0.0 for h in one.hypotheses)
    [plain] = scorer.score_batch(inputs[0][:1], inputs[1][:1], method="lowrank")
    assert plain.egl_unsquared is None
