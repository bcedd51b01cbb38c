"""NaN, infinities, huge and tiny numbers in every operator: refused, or visible in the results."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.compute.products import matrix_product
from egl_fast.ops.recurrent import _NUM_GATES, _RECURRENT_CELLS
from egl_fast.ops.recurrent_forward import _NUM_COEFFICIENTS

HUGE = [1e8, 1e16, 1e30, 1e300, 1.7e308]


@pytest.mark.parametrize(
    ("shift", "dtype"),
    [
        (sign * size, dtype)
        for dtype in (torch.float32, torch.float64)
        for size in HUGE
        for sign in (1, -1)
        if size <= torch.finfo(dtype).max
    ],
)
def test_logits_may_be_shifted_by_anything(shift: float, dtype: torch.dtype) -> None:
    """Only their differences count, and log(2) beside 1e16 is still log(2)."""
    less = shift - abs(shift) / 1024
    frames = [[shift, shift, less], [shift, less, shift], [less, shift, shift]]
    logits = torch.tensor([frames], dtype=dtype)
    differences = logits - logits.amax(2, keepdim=True)  # exact
    lengths = torch.tensor([3])
    hypotheses = ops.Hypotheses.of([[(1,), (2,), (1, 2), ()]])
    log_prob, cotangents = ops.ctc_logits_cotangents(logits, lengths, hypotheses)
    expected = ops.ctc_logits_cotangents(differences, lengths, hypotheses)
    assert torch.equal(log_prob, expected[0])
    assert torch.equal(cotangents, expected[1])
    # The empty labeling's occupancy is all blank, so elsewhere its cotangent is the softmax.
    softmax = logits[0].double().softmax(1)
    torch.testing.assert_close(cotangents[0, 3, :, 1:].double(), softmax[:, 1:], rtol=0, atol=1e-7)
    found = ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=5)
    assert float(found.cotangents.double().sum(3).abs().max()) < 1e-6
    assert float(found.hypotheses.log_prob.exp().sum()) < 1 + 1e-12


def _random_problem(seed: int) -> tuple[int, int, int, torch.dtype, torch.Generator]:
    """(cell, utterances, hidden units, dtype, generator)."""
    generator = torch.Generator().manual_seed(seed)
    cell, N, H = (int(torch.randint(high, (), generator=generator)) for high in (3, 12, 20))
    return cell, N + 2, H + 1, (torch.float32, torch.float64)[seed % 2], generator


def _normal(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


STRANGE = [torch.nan, torch.inf, -torch.inf, 3e38]


@pytest.mark.parametrize("seed", range(24))
def test_nan_in_one_utterance_of_a_scan_leaves_the_others(seed: int) -> None:
    cell, N, H, dtype, generator = _random_problem(seed)
    name, gates, value, T = _RECURRENT_CELLS[cell], _NUM_GATES[cell] * H, STRANGE[seed % 4], 4
    projected = _normal(generator, dtype, T, N, gates)
    weight_hh, bias_hh = (_normal(generator, dtype, gates, H), _normal(generator, dtype, gates))
    state, cells = _normal(generator, dtype, N, H), _normal(generator, dtype, N, H)
    strange = seed % N
    (projected[:, strange] if seed % 3 else state[strange]).fill_(value)

    def run(utterances: list[int]) -> ops.RecurrentStates:
        scan = ops.RecurrentScan(
            projected[:, utterances],
            weight_hh,
            bias_hh,
            state[utterances],
            cells[utterances] if name == "lstm" else None,
        )
        return ops.recurrent_forward(name, [scan], precise=seed % 5 < 2)[0]

    others = [n for n in range(N) if n != strange]
    together, apart = run(list(range(N))), run(others)
    assert torch.equal(together.states[:, others], apart.states)
    assert torch.equal(together.coefficients[:, others], apart.coefficients)
    if value != value:
        assert together.states[:, strange].isnan().all()


@pytest.mark.parametrize("seed", range(24))
def test_nan_in_one_row_of_a_pullback_leaves_the_others(seed: int) -> None:
    cell, N, H, dtype, generator = _random_problem(seed)
    name, T, R = _RECURRENT_CELLS[cell], 4, 1 + seed % 9
    coefficients = _normal(generator, dtype, T, N, _NUM_COEFFICIENTS[cell], H)
    weight_hh = _normal(generator, dtype, _NUM_GATES[cell] * H, H)
    plain = _normal(generator, dtype, T, R, N, H)
    strange = plain.clone()
    place = (seed % R, seed % N)
    strange[(seed % T, *place)] = STRANGE[seed % 4]
    found, expected = (
        ops.recurrent_backward(name, cotangents, coefficients, weight_hh, reverse=seed % 2 == 1)
        for cotangents in (strange, plain)
    )
    others = torch.ones(R, N, dtype=torch.bool)
    others[place] = False
    assert torch.equal(found.gates[:, others], expected.gates[:, others])
    assert torch.equal(found.state[others], expected.state[others])
    if seed % 4 == 0:  # NaN
        assert found.gates[(slice(None), *place)].isnan().any()


@pytest.mark.parametrize("value", STRANGE[:3])
@pytest.mark.parametrize("shape", [(5, 7, 3), (700, 33, 65), (64, 80, 96)])  # MKL's, and oneDNN's
def test_nan_stays_in_its_rows_of_a_product(value: float, shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    M, K, N = shape
    a, b = (_normal(generator, torch.float32, *size) for size in ((M, K), (K, N)))
    expected = a.double() @ b.double()
    a[2, 1] = value
    b[3, 1] = value
    found = matrix_product(a, b)
    assert not found[2].isfinite().any()
    assert not found[:, 1].isfinite().any()
    rows, columns = torch.arange(M) != 2, torch.arange(N) != 1
    rounding = (
        K
        * torch.finfo(torch.float32).eps
        * float(a[rows].abs().max() * b.nan_to_num(0, 0, 0).abs().max())
    )
    torch.testing.assert_close(
        found[rows][:, columns].double(), expected[rows][:, columns], rtol=0, atol=rounding
    )
