"""The fused operator: search to compressed cotangents, against its parts and its slow twin."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.methods.method import has_own_rows
from egl_fast.reference import compression

KEYS = torch.tensor([3, -(2**62), 12345])
LENGTHS = torch.tensor([14, 9, 0])
K = 40


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits [3, 14, 6] and a frame Gram matrix [3, 14, 14]."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 14, 6, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 14, 4, generator=generator, dtype=torch.float64)
    return logits.to(dtype), inputs @ inputs.transpose(1, 2)


def weights_of(hypotheses: ops.Hypotheses, n: int) -> Tensor:
    return hypotheses.log_prob[n, : int(hypotheses.counts[n])].softmax(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_compression_it_is_search_and_cotangents(dtype: torch.dtype) -> None:
    logits, frame_gram = problem(dtype)
    found = ops.ctc_nbest_cotangents(logits, LENGTHS, num_hypotheses=K, frame_gram=frame_gram)
    log_probs = logits.double().log_softmax(2)
    hypotheses = ops.ctc_beam_search(log_probs, LENGTHS, num_hypotheses=K)
    assert torch.equal(found.hypotheses.labels, hypotheses.labels)
    assert torch.equal(found.hypotheses.counts, hypotheses.counts)
    # 14 log-additions of numbers of size 30, either side.
    close = {"rtol": 1e-13, "atol": 1e-12}
    torch.testing.assert_close(found.hypotheses.log_prob, hypotheses.log_prob, **close)
    _, cotangents = ops.ctc_logits_cotangents(logits, LENGTHS, hypotheses)
    torch.testing.assert_close(found.cotangents, cotangents)
    assert torch.equal(found.num_directions, hypotheses.counts)
    assert not found.num_probes.any()
    exact = cotangents.double()
    rounding = {"rtol": 1e-5 if dtype == torch.float32 else 1e-12, "atol": 1e-12}
    torch.testing.assert_close(found.cotangent_sq_norms, exact.square().sum((2, 3)), **rounding)
    assert found.output_sq_norms is not None
    seen = torch.matmul(frame_gram[:, None], exact)
    torch.testing.assert_close(found.output_sq_norms, (exact * seen).sum((2, 3)), **rounding)


@pytest.mark.parametrize("options", [{"tolerance": 0.3}, {"tolerance": 0.02}, {"probes": 4}])
def test_compression_is_what_the_slow_twin_makes(options: dict[str, float]) -> None:
    logits, _ = problem()
    found = ops.ctc_nbest_cotangents(logits, LENGTHS, num_hypotheses=K, keys=KEYS, **options)
    _, cotangents = ops.ctc_logits_cotangents(logits, LENGTHS, found.hypotheses)
    for n in (0, 1):
        labelings = found.hypotheses.labelings(n)
        hashes = [compression.hash_labeling(int(KEYS[n]), list(labels)) for labels in labelings]
        ties = torch.tensor(
            [compression.uniform(compression.split_mix(~h & (2**64 - 1))) for h in hashes],
            dtype=torch.float64,
        )
        weights, own = weights_of(found.hypotheses, n), cotangents[n, : len(labelings)]
        values, vectors = compression.eigen(compression.weighted_gram(weights, own), ties)
        if "probes" in options:
            budget = compression.budget_of_probes(values.tolist(), int(options["probes"]))
        else:
            budget = compression.budget_for_tolerance(values.tolist(), options["tolerance"])
        directions, probes = int(found.num_directions[n]), int(found.num_probes[n])
        assert (directions, probes) == budget
        assert probes >= 2
        normals = torch.tensor(
            [[compression.normal(h, i) for i in range(probes)] for h in hashes],
            dtype=torch.float64,
        )
        expected = compression.combine(vectors, budget, normals)
        combinations = found.combinations[n, : sum(budget), : len(labelings)]
        # The sign of an eigenvector is free; a probe's is not.
        flips = torch.where((combinations[:directions] * expected[:directions]).sum(1) < 0, -1, 1)
        expected[:directions] *= flips[:, None]
        rows = found.cotangents[n, : sum(budget)]
        made = torch.tensordot(combinations * weights.sqrt(), own, dims=1)
        torch.testing.assert_close(rows, made, rtol=0, atol=1e-12)
        # Eigenvectors are known to rounding over the gap between their eigenvalues: those of
        # eigenvalue 0 badly, but they have no part in the rows.
        made = torch.tensordot(expected * weights.sqrt(), own, dims=1)
        torch.testing.assert_close(rows, made, rtol=0, atol=1e-6)
        assert not found.cotangents[n, sum(budget) :].any()
    # No frame: the empty labeling alone, and nothing to pull back.
    assert found.hypotheses.counts[2] == 1
    assert found.num_directions[2] == found.num_probes[2] == 0


@pytest.mark.parametrize("span", [1e-2, 1e-4, 1e-6])
def test_rows_span_all_cotangents_and_are_the_fewest_that_do(span: float) -> None:
    # Peaked enough that the best labelings are combinations of few edits.
    logits = 3 * problem()[0]
    found = ops.ctc_nbest_cotangents(logits, LENGTHS, num_hypotheses=K, span=span)
    _, cotangents = ops.ctc_logits_cotangents(logits, LENGTHS, found.hypotheses)
    assert not found.num_probes.any()
    for n in (0, 1):
        own = cotangents[n].flatten(1)
        rank = int(found.num_directions[n])
        assert not has_own_rows(found, n)
        assert rank <= K - K // 8
        unit = own / own.norm(dim=1, keepdim=True)
        combinations = found.combinations[n, :rank]
        rows = found.cotangents[n, :rank].flatten(1)
        torch.testing.assert_close(rows, combinations @ unit, rtol=0, atol=1e-12)
        # A projection is idempotent, so what is left is orthogonal to it.
        left = (unit - combinations.T @ rows).norm(dim=1)
        # Eigenvalues in double: squares of residuals are known to about 1e-14.
        assert float(left.max()) <= math.sqrt(span**2 + 1e-13)
        fewer = unit - combinations[:-1].T @ rows[:-1]
        assert float(fewer.norm(dim=1).max()) > span
        assert not found.cotangents[n, rank:].any()
    assert found.num_directions[2] == 0


@pytest.mark.parametrize("options", [{}, {"span": 1e-6}, {"tolerance": 0.02}, {"probes": 4}])
def test_classes_of_no_labeling_count(options: dict[str, float]) -> None:
    """With many classes most occur in no hypothesis; their softmax is in every cotangent."""
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(2, 9, 60, generator=generator, dtype=torch.float64)
    inputs = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    frame_gram = inputs @ inputs.transpose(1, 2)
    lengths = torch.tensor([9, 7])
    found = ops.ctc_nbest_cotangents(
        logits, lengths, num_hypotheses=K, frame_gram=frame_gram, blank=31, **options
    )
    _, own = ops.ctc_logits_cotangents(logits, lengths, found.hypotheses, blank=31)
    torch.testing.assert_close(found.cotangent_sq_norms, own.square().sum((2, 3)))
    assert found.output_sq_norms is not None
    seen = torch.matmul(frame_gram[:, None], own)
    torch.testing.assert_close(found.output_sq_norms, (own * seen).sum((2, 3)))
    for n in (0, 1):
        present = {label for labels in found.hypotheses.labelings(n) for label in labels}
        absent = [c for c in range(60) if c not in present and c != 31]
        assert absent
        assert own[n, :, :, absent].any()
        scales = weights_of(found.hypotheses, n).sqrt()
        if "span" in options:
            scales = found.cotangent_sq_norms[n].rsqrt()
        elif not options:
            scales = torch.ones(K, dtype=torch.float64)
        made = torch.tensordot(found.combinations[n] * scales, own[n], dims=1)
        torch.testing.assert_close(found.cotangents[n], made, rtol=0, atol=1e-12)


def test_a_span_that_saves_little_is_not_used() -> None:
    logits, _ = problem()
    found = ops.ctc_nbest_cotangents(logits[:1], LENGTHS[:1], num_hypotheses=2, span=1e-6)
    assert has_own_rows(found, 0)
    _, cotangents = ops.ctc_logits_cotangents(logits[:1], LENGTHS[:1], found.hypotheses)
    torch.testing.assert_close(found.cotangents, cotangents, rtol=0, atol=1e-15)
    assert torch.equal(found.combinations[0], torch.eye(2, dtype=torch.float64))


def test_a_certain_labeling_has_nothing_to_span() -> None:
    logits = torch.full((1, 3, 3), -torch.inf)
    logits[0, :, 1] = 0.0
    found = ops.ctc_nbest_cotangents(logits, torch.tensor([3]), num_hypotheses=4, span=1e-6)
    assert found.hypotheses.labelings(0) == [(1,)]
    assert int(found.num_directions) == 0
    assert not found.cotangents.any()


def test_batches_order_and_padding_change_nothing() -> None:
    logits, frame_gram = problem()
    options = {"num_hypotheses": K, "tolerance": 0.05}
    together = ops.ctc_nbest_cotangents(
        logits, LENGTHS, keys=KEYS, frame_gram=frame_gram, **options
    )
    for n in (1, 0):
        T = int(LENGTHS[n])
        alone = ops.ctc_nbest_cotangents(
            logits[n : n + 1, :T],
            LENGTHS[n : n + 1],
            keys=KEYS[n : n + 1],
            frame_gram=frame_gram[n : n + 1, :T, :T],
            **options,
        )
        assert int(alone.num_probes) == int(together.num_probes[n])
        # Padding makes a product's sums longer by zeros: the last bits may differ.
        torch.testing.assert_close(
            together.cotangents[n, : alone.cotangents.shape[1], :T],
            alone.cotangents[0],
            rtol=0,
            atol=1e-9,
        )
        assert not together.cotangents[n, alone.cotangents.shape[1] :].any()
        torch.testing.assert_close(together.output_sq_norms[n], alone.output_sq_norms[0])


def test_equal_eigenvalues_do_not_make_rounding_decide() -> None:
    # Four frames, each with a choice of its own among classes of its own: all alike.
    logits = torch.full((1, 9, 9), -torch.inf, dtype=torch.float64)
    logits[0, :, 0] = 0.0
    for choice in range(4):
        logits[0, 2 * choice + 1, 2 * choice + 1 : 2 * choice + 3] = 0.2
    lengths = torch.tensor([9])
    generator = torch.Generator().manual_seed(0)
    noise = 1e-14 * torch.randn(logits.shape, generator=generator, dtype=torch.float64)

    def probes(values: Tensor) -> Tensor:
        # All 3^4 labelings of any weight: no tie at the edge of the K.
        found = ops.ctc_nbest_cotangents(values, lengths, num_hypotheses=81, probes=3)
        split = int(found.num_directions)
        return found.cotangents[0, split : split + int(found.num_probes)]

    plain = probes(logits)
    assert plain.abs().max() > 0.01
    torch.testing.assert_close(probes(logits + noise), plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"span": 1e-6}, {"tolerance": 0.02}, {"probes": 4}])
def test_no_frames_and_no_utterances(options: dict[str, float]) -> None:
    frame_gram = torch.zeros(2, 0, 0, dtype=torch.float64)
    found = ops.ctc_nbest_cotangents(
        torch.zeros(2, 0, 3),
        torch.zeros(2, dtype=torch.int64),
        num_hypotheses=5,
        frame_gram=frame_gram,
        **options,
    )
    assert found.hypotheses.labelings(1) == [()]
    assert found.output_sq_norms is not None
    assert not found.output_sq_norms.any()
    none = ops.ctc_nbest_cotangents(
        torch.zeros(0, 4, 3), torch.zeros(0, dtype=torch.int64), num_hypotheses=5, **options
    )
    assert none.cotangents.shape == (0, 0, 4, 3)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 3, 2), torch.nan, "one finite value per frame; violated in utterance 0, frame 3"),
        ((1, 8, 0), torch.inf, "one finite value per frame; violated in utterance 1, frame 8"),
        ((0, 13), -torch.inf, "one finite value per frame; violated in utterance 0, frame 13"),
    ],
)
def test_bad_values_are_refused(place: tuple[int, ...], value: float, message: str) -> None:
    logits, _ = problem()
    logits[1, 9:] = torch.nan  # padding is not read
    ops.ctc_nbest_cotangents(logits, LENGTHS, num_hypotheses=5, tolerance=0.1)
    for length in (15, -1):
        lengths = torch.tensor([14, length, 0])
        with pytest.raises(ValueError, match=rf"in \[0, 14\], got {length} at position 1"):
            ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=5, tolerance=0.1)
    logits[place] = value
    with pytest.raises(ValueError, match=message):
        ops.ctc_nbest_cotangents(logits, LENGTHS, num_hypotheses=5, tolerance=0.1)


def test_normals_are_a_function_of_key_and_labeling() -> None:
    labelings = [(1, 2), (), (12,), (1, 22)]
    hypotheses = ops.Hypotheses.of([labelings, labelings[::-1]])
    normals = ops.ctc_hypothesis_normals(hypotheses, torch.tensor([5, 5]), num_normals=6)
    assert torch.equal(normals[0], normals[1].flip(0))
    for k, labels in enumerate(labelings):
        hashed = compression.hash_labeling(5, list(labels))
        expected = [compression.normal(hashed, i) for i in range(6)]
        assert normals[0, k].tolist() == pytest.approx(expected, rel=1e-12)
    many = ops.ctc_hypothesis_normals(
        ops.Hypotheses.of([[(i,) for i in range(2000)]] * 2), torch.tensor([1, 2]), num_normals=1
    )[:, :, 0]
    # 2,000 independent pairs: beyond 5 standard deviations once in a million.
    for product in (many[0] * many[1], many[0, 1:] * many[0, :-1]):
        assert abs(float(product.sum())) < 5 * math.sqrt(2000)


def test_meta_tensors_and_schema() -> None:
    logits, frame_gram = problem()
    for compression_options in ((0.0, 0, 0.0), (0.1, 0, 0.0), (0.0, 3, 0.0), (0.0, 0, 1e-6)):
        torch.library.opcheck(
            torch.ops.egl_fast.ctc_nbest_cotangents.default,
            (logits, LENGTHS, 10, 100, *compression_options, KEYS, frame_gram, 0),
        )
    hypotheses = ops.Hypotheses.of([[(1,), (2, 3)]])
    torch.library.opcheck(
        torch.ops.egl_fast.ctc_hypothesis_normals.default,
        (hypotheses.labels, hypotheses.label_lengths, hypotheses.counts, KEYS[:1], 4),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": 0.1, "probes": 3}, "tolerance, probes and span: expected one of them"),
        ({"span": 1e-6, "probes": 3}, "tolerance, probes and span: expected one of them"),
        ({"span": 1.0}, "span: expected a share between 0 and 1, got 1"),
        ({"span": 0.0}, "span: expected more than 0, got 0"),
        ({"tolerance": 1.5}, "tolerance: expected a share between 0 and 1, got 1.5"),
        ({"tolerance": -0.5}, "tolerance: expected more than 0, got -0.5"),
        ({"probes": 1}, "probes: expected at least 2, got 1"),
        ({"keys": torch.zeros(2, dtype=torch.int64)}, r"keys: expected int64 \[N=3\]"),
        ({"frame_gram": torch.zeros(3, 14, 3)}, r"frame_gram: expected float64 \[N=3, T=14, T=14"),
        ({"num_hypotheses": 0}, "num_hypotheses: expected 1 to 2147483647, got 0"),
        ({"blank": 6}, "blank: expected a class index"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, object], message: str) -> None:
    logits, _ = problem()
    arguments = {"num_hypotheses": 5, "beam_width": 50, **changes}
    with pytest.raises(ValueError, match=message):
        ops.ctc_nbest_cotangents(logits, LENGTHS, **arguments)
