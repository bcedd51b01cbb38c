"""The forward scan against its plain twin and torch's own layers; its gradients are elsewhere.

``test_recurrent.py`` has the scans of whole modules, with their gradients.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from egl_fast.ops import RecurrentCell, RecurrentScan, RecurrentStates, recurrent_forward
from egl_fast.reference.recurrent import recurrent_forward as reference_forward

#: Cell and relu_clip; states reach the bound.
CELLS: dict[str, tuple[RecurrentCell, float | None]] = {
    "tanh": ("rnn", None),
    "relu": ("rnn", math.inf),
    "clipped": ("rnn", 0.75),
    "gru": ("gru", None),
    "lstm": ("lstm", None),
}
NUM_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
NUM_COEFFICIENTS = {"rnn": 1, "gru": 5, "lstm": 6}


def random_scans(
    cell: RecurrentCell, T: int, N: int, H: int, *, dtype: torch.dtype = torch.float64
) -> list[RecurrentScan]:
    """Two directions of a stable recurrence: weights of norm about 1."""
    generator = torch.Generator().manual_seed(T + 100 * N + 1000 * H)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    G = NUM_GATES[cell]
    return [
        RecurrentScan(
            projected=normal(T, N, G * H),
            weight_hh=normal(G * H, H) / (G * H) ** 0.5,
            bias_hh=normal(G * H),
            initial_state=normal(N, H),
            initial_cell=normal(N, H) if cell == "lstm" else None,
            reverse=reverse,
        )
        for reverse in (False, True)
    ]


def ragged(T: int, N: int) -> Tensor:
    """[T, N] bool: utterance n lacks its last n frames."""
    return torch.arange(T)[:, None] < T - torch.arange(N)[None, :]


def tensors_of(result: RecurrentStates) -> list[Tensor]:
    values = (result.states, result.previous, result.coefficients, result.final_cell)
    return [value for value in values if value is not None]


def in_float64(scan: RecurrentScan) -> dict[str, Any]:
    """Arguments of the plain twin; what is left out is zero."""
    N, H = scan.initial_state.shape
    values = dataclasses.asdict(scan)
    values["bias_hh"] = scan.weight_hh.new_zeros(len(scan.weight_hh)) if scan.bias_hh is None \
        else scan.bias_hh  # fmt: skip
    values["initial_cell"] = (
        scan.initial_state.new_zeros(N, H) if scan.initial_cell is None else scan.initial_cell
    )
    return {k: v.double() if isinstance(v, Tensor) else v for k, v in values.items()}


def tolerance(scan: RecurrentScan, carried: torch.dtype) -> dict[str, float]:
    """What rounding may do to a scan of ``random_scans`` that carries its states in ``carried``.

    Each frame rounds a product of H terms and a dozen operations, on numbers up to 4; an error
    grows by the norm of weight and slopes, about 1.25, from frame to frame. Results are
    then rounded to the tensors' own dtype.
    """
    T, _, width = scan.projected.shape
    H = width // (len(scan.weight_hh) // scan.initial_state.shape[1])
    a_frame = 4 * (H + 12) * torch.finfo(carried).eps
    return {"rtol": torch.finfo(scan.projected.dtype).eps / 2, "atol": a_frame * T * 1.25**T}


def assert_same(
    scan: RecurrentScan, got: RecurrentStates, expected: list[Tensor], carried: torch.dtype
) -> None:
    for ours, theirs in zip(tensors_of(got), expected, strict=False):
        assert ours.dtype == scan.projected.dtype
        torch.testing.assert_close(ours.double(), theirs, **tolerance(scan, carried))


@pytest.mark.parametrize(
    ("dtype", "precise"),
    [(torch.float64, False), (torch.float64, True), (torch.float32, False), (torch.float32, True)],
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CELLS)
# One frame, utterance, and hidden unit; sizes next to those of vectors, tiles, blocks, panels.
@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 1, 13), (5, 3, 7), (4, 11, 40), (3, 2, 150)])
def test_equals_the_plain_loop(
    shape: tuple[int, int, int], name: str, masked: bool, dtype: torch.dtype, precise: bool
) -> None:
    cell, relu_clip = CELLS[name]
    scans = random_scans(cell, *shape, dtype=dtype)
    valid = ragged(*shape[:2]) if masked else None
    results = recurrent_forward(cell, scans, relu_clip=relu_clip, valid=valid, precise=precise)
    carried = torch.float64 if precise else dtype
    for scan, result in zip(scans, results, strict=True):
        expected = reference_forward(cell, **in_float64(scan), relu_clip=relu_clip, valid=valid)
        assert (result.final_cell is None) == (cell != "lstm")
        assert result.coefficients.shape[2] == NUM_COEFFICIENTS[cell]
        assert_same(scan, result, list(expected), carried)


@pytest.mark.parametrize("name", ["tanh", "relu", "gru", "lstm"])
@pytest.mark.parametrize("N", [1, 3])
def test_equals_torchs_layers(name: str, N: int) -> None:
    T, D, H = 7, 4, 19
    torch.manual_seed(1)
    kinds: dict[str, type[nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM}
    options = {} if name in kinds else {"nonlinearity": name}
    module = kinds.get(name, nn.RNN)(D, H, bidirectional=True, **options).double()
    x = torch.randn(T, N, D, dtype=torch.float64)
    h, c = torch.randn(2, 2, N, H, dtype=torch.float64).unbind()
    with torch.no_grad():
        outputs, final = module(x, (h, c) if name == "lstm" else h)
    scans = []
    for direction, suffix in enumerate(["_l0", "_l0_reverse"]):
        w_ih, w_hh, b_ih, b_hh = (
            getattr(module, part + suffix)
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        cell_state = c[direction] if name == "lstm" else None
        scans.append(
            RecurrentScan(x @ w_ih.T + b_ih, w_hh, b_hh, h[direction], cell_state, bool(direction))
        )
    cell, relu_clip = CELLS[name]
    results = recurrent_forward(cell, scans, relu_clip=relu_clip)
    for direction, (scan, result) in enumerate(zip(scans, results, strict=True)):
        limits = tolerance(scan, torch.float64)
        states = outputs[:, :, direction * H : (direction + 1) * H]
        torch.testing.assert_close(result.states, states, **limits)
        assert not result.states.requires_grad
        if result.final_cell is not None:
            torch.testing.assert_close(result.final_cell, final[1][direction], **limits)


# At the bounds of a clamp torch had a slope of 1, and from 2.14 on has 0; ours stays at 1.
@pytest.mark.parametrize(
    ("relu_clip", "slopes"),
    [(2.0, [0.0, 1.0, 1.0, 1.0, 0.0]), (math.inf, [0.0, 0.0, 1.0, 1.0, 1.0])],
)
def test_slopes_at_the_corners_of_a_relu(relu_clip: float, slopes: list[float]) -> None:
    corners = torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0])[:, None, None]
    scan = RecurrentScan(corners, torch.zeros(1, 1), None, torch.zeros(1, 1))
    (result,) = recurrent_forward("rnn", [scan], relu_clip=relu_clip)
    assert result.coefficients.flatten().tolist() == slopes


@pytest.mark.parametrize("name", CELLS)
def test_precise_states_are_those_of_float64_rounded_once(name: str) -> None:
    cell, relu_clip = CELLS[name]
    scans = random_scans(cell, 30, 2, 24, dtype=torch.float32)
    precise = recurrent_forward(cell, scans, relu_clip=relu_clip, precise=True)
    wide = [RecurrentScan(**fields_in(torch.float64, scan)) for scan in scans]
    for ours, exact in zip(
        precise, recurrent_forward(cell, wide, relu_clip=relu_clip), strict=True
    ):
        # Weights are float32 in both, so their products are the same bits.
        for a, b in zip(tensors_of(ours), tensors_of(exact), strict=True):
            assert torch.equal(a, b.float())


def fields_in(dtype: torch.dtype, scan: RecurrentScan) -> dict[str, Any]:
    values = dataclasses.asdict(scan)
    return {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in values.items()}


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("name", CELLS)
def test_threads_and_company_change_nothing(name: str) -> None:
    cell, relu_clip = CELLS[name]
    scans = random_scans(cell, 6, 19, 33, dtype=torch.float32)
    valid = ragged(6, 19)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(recurrent_forward(cell, scans, relu_clip=relu_clip, valid=valid))
    alone = [
        recurrent_forward(
            cell,
            [dataclasses.replace(
                scan,
                projected=scan.projected[:, 4:5],
                initial_state=scan.initial_state[4:5],
                initial_cell=None if scan.initial_cell is None else scan.initial_cell[4:5],
            )],
            relu_clip=relu_clip, valid=valid[:, 4:5],
        )[0]
        for scan in scans
    ]  # fmt: skip
    for direction in range(2):
        for other in results[1:]:
            for a, b in zip(
                tensors_of(results[0][direction]), tensors_of(other[direction]), strict=True
            ):
                assert torch.equal(a, b)
        assert torch.equal(results[0][direction].states[:, 4:5], alone[direction].states)
        assert torch.equal(
            results[0][direction].coefficients[:, 4:5], alone[direction].coefficients
        )


@pytest.mark.parametrize("name", CELLS)
def test_strides_change_nothing(name: str) -> None:
    cell, relu_clip = CELLS[name]
    scans = random_scans(cell, 4, 3, 10)
    expected = recurrent_forward(cell, scans, relu_clip=relu_clip, valid=ragged(4, 3))

    def turned(tensor: Tensor, *axes: int) -> Tensor:
        """The same values with two axes swapped in memory."""
        return tensor.transpose(*axes).contiguous().transpose(*axes)

    for axes in ((0, 1), (1, 2)):  # utterances first in memory; gates not contiguous
        strided = [
            dataclasses.replace(
                scan,
                projected=turned(scan.projected, *axes),
                weight_hh=turned(scan.weight_hh, 0, 1),
                initial_state=turned(scan.initial_state, 0, 1),
                bias_hh=torch.stack([scan.bias_hh, scan.bias_hh], dim=1)[:, 0],
            )
            for scan in scans
            if scan.bias_hh is not None
        ]
        got = recurrent_forward(
            cell, strided, relu_clip=relu_clip, valid=turned(ragged(4, 3), 0, 1)
        )
        for ours, theirs in zip(got, expected, strict=True):
            for a, b in zip(tensors_of(ours), tensors_of(theirs), strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("name", CELLS)
def test_no_bias_is_a_bias_of_zero(name: str) -> None:
    cell, relu_clip = CELLS[name]
    scans = random_scans(cell, 3, 2, 5)
    without = [dataclasses.replace(scan, bias_hh=None) for scan in scans]
    for scan, result in zip(
        without, recurrent_forward(cell, without, relu_clip=relu_clip), strict=True
    ):
        expected = reference_forward(cell, **in_float64(scan), relu_clip=relu_clip)
        assert_same(scan, result, list(expected), torch.float64)


@pytest.mark.parametrize("cell", NUM_GATES)
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3)])
def test_no_frames_and_no_utterances(cell: RecurrentCell, shape: tuple[int, int, int]) -> None:
    scans = random_scans(cell, *shape)
    T, N, H = shape
    for scan, result in zip(scans, recurrent_forward(cell, scans), strict=True):
        assert result.states.shape == result.previous.shape == (T, N, H)
        assert result.coefficients.shape == (T, N, NUM_COEFFICIENTS[cell], H)
        if cell == "lstm":
            assert result.final_cell is not None
            assert scan.initial_cell is not None
            assert torch.equal(result.final_cell, scan.initial_cell)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_padding_is_zero_and_never_read(cell: RecurrentCell) -> None:
    scans = random_scans(cell, 5, 3, 9)
    valid = ragged(5, 3)
    expected = recurrent_forward(cell, scans, valid=valid)
    for scan in scans:
        scan.projected[~valid] = math.nan
    for ours, theirs in zip(recurrent_forward(cell, scans, valid=valid), expected, strict=True):
        for a, b in zip(tensors_of(ours), tensors_of(theirs), strict=True):
            assert torch.equal(a, b)
        assert not ours.states[~valid].any()
        assert not ours.coefficients[~valid].any()


def test_what_is_not_a_number_stays_so() -> None:
    for name, (cell, relu_clip) in CELLS.items():
        scans = random_scans(cell, 3, 2, 4)
        scans[0].projected[1, 0] = math.nan
        states = recurrent_forward(cell, scans, relu_clip=relu_clip)[0].states
        assert states[1:, 0].isnan().all(), name
        assert not states[0].isnan().any()
        assert not states[:, 1].isnan().any()


@pytest.mark.parametrize("cell", NUM_GATES)
def test_operator_is_registered_correctly(cell: RecurrentCell) -> None:
    scans = random_scans(cell, 3, 2, 4)
    torch.library.opcheck(
        torch.ops.egl_fast.recurrent_forward.default,
        (
            list(NUM_GATES).index(cell), None,
            [scan.projected for scan in scans], [scan.weight_hh for scan in scans],
            [scan.bias_hh for scan in scans], [scan.initial_state for scan in scans],
            [scan.initial_cell for scan in scans if scan.initial_cell is not None],
            ragged(3, 2), [False, True], True,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "of_second", "message"),
    [
        ({"cell": "transformer"}, {}, "cell: expected one of rnn, gru, lstm, got 'transformer'"),
        ({"relu_clip": 20.0}, {}, "relu_clip: expected None unless cell is rnn, got 20"),
        ({"scans": []}, {}, "scans: expected at least one, got none"),
        ({"valid": torch.ones(3, 2)}, {}, r"valid: expected bool \[T=3, N=2\], got float32"),
        (
            {},
            {"projected": torch.zeros(3, 12, dtype=torch.float64)},
            r"projected: expected float64 \[T=3, N=2, G\*H=12\], got float64 \[3, 12\]",
        ),
        (
            {},
            {"weight_hh": torch.zeros(12, 4)},
            r"weight_hh: expected float64 \[G\*H=12, H=4\], got float32 \[12, 4\]",
        ),
        ({}, {"bias_hh": torch.zeros(4)}, r"bias_hh: expected float64 \[G\*H=12\], got float32"),
        ({}, {"bias_hh": None}, "bias_hh: expected 2 tensors, got 1"),
        (
            {},
            {"initial_state": torch.zeros(2, 5, dtype=torch.float64)},
            r"initial_state: expected float64 \[N=2, H=4\], got float64 \[2, 5\]",
        ),
        ({}, {"initial_cell": torch.zeros(2, 4)}, "initial_cell: expected 0 tensors, got 1"),
    ],
)
def test_wrong_arguments_are_named(
    options: dict[str, Any], of_second: dict[str, Any], message: str
) -> None:
    first, second = random_scans("gru", 3, 2, 4)
    scans = [first, dataclasses.replace(second, **of_second)]
    with pytest.raises(ValueError, match=message):
        recurrent_forward(**{"cell": "gru", "scans": scans, **options})


@pytest.mark.parametrize("relu_clip", [0.0, -1.0, math.nan])
def test_a_clip_that_leaves_nothing_is_refused(relu_clip: float) -> None:
    with pytest.raises(ValueError, match="relu_clip: expected a number above 0"):
        recurrent_forward("rnn", random_scans("rnn", 3, 2, 4), relu_clip=relu_clip)


def test_half_precision_is_refused() -> None:
    scans = [RecurrentScan(**fields_in(torch.float16, s)) for s in random_scans("rnn", 3, 2, 4)]
    with pytest.raises(ValueError, match="projected: expected float32 or float64"):
        recurrent_forward("rnn", scans)
