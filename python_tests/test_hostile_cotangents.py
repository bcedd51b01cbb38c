"""Cotangents and their combinations with nearly singular matrices and extreme numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from random_ctc import rounding
from torch import Tensor
from torch.nn import functional as F

from egl_fast import ops

OPTIONS: list[dict[str, Any]] = [
    {},
    {"span": 2.0**-20},
    {"tolerance": 1e-12},
    {"tolerance": 0.3},
    {"probes": 5},
]

#: Logits [T, C] from normal numbers of that shape.
FAMILIES: dict[str, Callable[[Tensor], Tensor]] = {
    "flat": torch.zeros_like,
    "hardly different columns": lambda x: 1e-9 * x,
    "denormal differences": lambda x: 1e-310 * x,
    "every frame the same": lambda x: 3 * x[:1].expand(x.shape),
    "classes that are twice there": lambda x: 3 * x[:, torch.arange(x.shape[1]) // 2],
    # The last of 200 labelings have probabilities near the smallest double.
    "sure": lambda x: 30 * x,
    "very sure": lambda x: 300 * x,
    "certain": lambda x: 1e5 * x,
    "astronomically sure": lambda x: 1e300 * x.clamp(-2, 2),
    "one class far below": lambda x: x - 700 * (torch.arange(x.shape[1]) == 1).double(),
    "one class at 1e300": lambda x: x - 1e300 * (torch.arange(x.shape[1]) == 1).double(),
    "from 1e-300 to 1e300": lambda x: x.sign() * 10.0 ** (100 * x.clamp(-3, 3)),
    "most classes excluded": lambda x: x.where(
        (x > 0) | (torch.arange(x.shape[1]) == 0), -torch.inf
    ),
}
#: Where autograd's gradients of F.ctc_loss are finite and right.
WITH_ORACLE = [*list(FAMILIES)[:7], "one class far below"]

#: Beyond the range of float32.
TOO_LARGE = ["astronomically sure", "one class at 1e300", "from 1e-300 to 1e300"]

#: T, C, K: one frame, two classes, more hypotheses than labelings, and than dimensions T * C.
SIZES = [(1, 2, 60), (1, 9, 5), (2, 8, 200), (3, 2, 60), (5, 3, 60), (9, 4, 60), (12, 2, 30)]


def problems(family: str) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Logits [1, T, C] float64, K, and a frame Gram matrix that is singular or indefinite."""
    for seed, (T, C, K) in enumerate(SIZES):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randn(T, C, generator=generator, dtype=torch.float64)
        inputs = torch.randn(T, 1 + seed % 3, generator=generator, dtype=torch.float64)
        frame_gram = inputs @ inputs.T - 1e-13 * torch.eye(T, dtype=torch.float64)
        yield FAMILIES[family](numbers)[None], K, frame_gram[None]


def cotangents_by_autograd(logits: Tensor, labelings: list[tuple[int, ...]]) -> Tensor:
    """[K, T, C]"""
    T, C = logits.shape
    leaf = logits[:, None].expand(T, len(labelings), C).clone().requires_grad_()
    targets = torch.tensor([label for labels in labelings for label in labels], dtype=torch.long)
    loss = F.ctc_loss(
        leaf.log_softmax(2),
        targets,
        torch.full((len(labelings),), T),
        torch.tensor([len(labels) for labels in labelings]),
        reduction="sum",
    )
    loss.backward()
    assert leaf.grad is not None
    return leaf.grad.transpose(0, 1)


def check_combinations(found: ops.NbestCotangents, own: Tensor, options: dict[str, Any]) -> None:
    """Check what exactness and unbiasedness rest on.

    Args:
        found: of one utterance.
        own: [K, T * C] its cotangents, float64.
        options: as the operator was given.
    """
    count = len(own)
    split = int(found.num_directions)
    total = split + int(found.num_probes)
    combinations, rows = found.combinations[0, :total, :count], found.cotangents[0].flatten(1)
    near = {"rtol": 0.0, "atol": 1e-12 * count}
    if split == count:
        assert torch.equal(combinations, torch.eye(count, dtype=torch.float64))
        torch.testing.assert_close(rows[:total], own, **near)
        return
    if "span" in options:
        # As the operator scales; rsqrt of a denormal square is not a unit length, but as good.
        norms = found.cotangent_sq_norms[0, :count]
        columns = own * torch.where(norms > 0, norms.rsqrt(), 0.0)[:, None]
    else:
        columns = own * found.hypotheses.log_prob[0, :count].softmax(0).sqrt()[:, None]
    torch.testing.assert_close(rows[:total], combinations @ columns, **near)
    directions, probes = combinations[:split], combinations[split:]
    # An orthonormal basis: whatever the signs, directions and probes add up to all columns.
    identity = torch.eye(split, dtype=torch.float64)
    torch.testing.assert_close(directions @ directions.T, identity, **near)
    torch.testing.assert_close(
        directions @ probes.T, torch.zeros(split, len(probes)).double(), **near
    )
    lengths = probes.square().sum(1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, count - split), **near)
    left = (columns - directions.T @ rows[:split]).norm(dim=1)
    if "span" in options:
        # Eigenvalues in double: squares of residuals are known to about 1e-14 a hypothesis.
        assert float(left.max()) <= (options["span"] ** 2 + 1e-14 * count) ** 0.5
    elif len(probes) == 0:
        assert float(left.norm()) <= 1e-4 * float(columns.norm())


@pytest.fixture(params=["svd", "svd fails", "svd gives NaN"])
def solver(request: pytest.FixtureRequest) -> Iterator[None]:
    """LAPACK's SVD, or one that fails to converge."""
    if request.param == "svd":
        yield
        return

    def at_a_loss(matrix: Tensor, some: bool, compute_uv: bool) -> tuple[Tensor, Tensor, Tensor]:
        if request.param == "svd fails":
            raise RuntimeError("the algorithm failed to converge")
        return (torch.full_like(matrix, torch.nan), matrix.diagonal().clone(), matrix.clone())

    library = torch.library.Library("aten", "IMPL")
    library.impl("svd", at_a_loss, "CPU")
    try:
        yield
    finally:
        library._destroy()


@pytest.mark.filterwarnings("ignore:Warning only once")  # a warning of the library above
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_combinations_are_exact_or_unbiased(
    family: str, options: dict[str, Any], solver: None
) -> None:
    for logits, K, frame_gram in problems(family):
        lengths = torch.tensor([logits.shape[1]])
        found = ops.ctc_nbest_cotangents(
            logits, lengths, num_hypotheses=K, frame_gram=frame_gram, **options
        )
        assert found.output_sq_norms is not None
        for tensor in (
            found.cotangents,
            found.combinations,
            found.cotangent_sq_norms,
            found.output_sq_norms,
        ):
            assert tensor.isfinite().all()
        hypotheses = found.hypotheses
        _, own = ops.ctc_logits_cotangents(logits, lengths, hypotheses)
        check_combinations(found, own[0, : int(hypotheses.counts)].flatten(1), options)


@pytest.mark.parametrize("family", FAMILIES)
def test_single_cotangents_are_those_of_autograd(family: str) -> None:
    for logits, K, _ in problems(family):
        T = logits.shape[1]
        found = ops.ctc_nbest_cotangents(
            logits, torch.tensor([T]), num_hypotheses=K, beam_width=1000
        )
        own = found.cotangents[0]
        # softmax - occupancy: both are distributions.
        assert float(own.abs().max()) <= 1 + 1e-11
        assert float(own.sum(2).abs().max()) <= 1e-10
        if family in WITH_ORACLE:
            expected = cotangents_by_autograd(logits[0], found.hypotheses.labelings(0))
            tolerance = 6 * rounding(logits[0].log_softmax(1)) + 1e-11
            torch.testing.assert_close(own, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in TOO_LARGE])
def test_float32_decides_as_float64(family: str, options: dict[str, Any]) -> None:
    for values, K, frame_gram in problems(family):
        lengths = torch.tensor([values.shape[1]])
        single, double = (
            ops.ctc_nbest_cotangents(
                logits, lengths, num_hypotheses=K, frame_gram=frame_gram, **options
            )
            for logits in (values.float(), values.float().double())
        )
        for name in ("combinations", "num_directions", "num_probes", "cotangent_sq_norms"):
            assert torch.equal(getattr(single, name), getattr(double, name))
        assert torch.equal(single.hypotheses.labels, double.hypotheses.labels)
        assert torch.equal(single.cotangents, double.cotangents.float())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_frame_gram_that_is_not_finite_shows_in_the_norms(value: float) -> None:
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    frame_gram = torch.eye(4, dtype=torch.float64)[None].clone()
    frame_gram[0, 1, 1] = value
    found = ops.ctc_nbest_cotangents(
        logits, torch.tensor([4]), num_hypotheses=5, frame_gram=frame_gram
    )
    assert found.output_sq_norms is not None
    assert not found.output_sq_norms.isfinite().any()
    assert found.cotangents.isfinite().all()
