"""Estimators from directions and probes, with every expectation taken by enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch
from linear_problem import EXACTLY, LinearProblem

from egl_fast import ops
from egl_fast.methods.directions_and_probes import DirectionsAndProbes
from egl_fast.methods.method import OwnRows


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


def test_signs_along_eigenvectors_spread_less_than_signs_of_hypotheses() -> None:
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
    # What is left out is at most the stated error, since both signs are tried.
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


@pytest.mark.parametrize("options", [{"tolerance": 1e-6}, {"probes": 7}])
def test_few_hypotheses_are_pulled_back_one_by_one(options: dict[str, float]) -> None:
    logits = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0))
    found = ops.ctc_nbest_cotangents(logits, torch.tensor([3]), num_hypotheses=5, **options)
    assert isinstance(DirectionsAndProbes.of(found, 0), OwnRows)
    assert torch.equal(found.combinations[0], torch.eye(5, dtype=torch.float64))
