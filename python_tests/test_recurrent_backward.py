"""The backward scan against its plain twin and autograd through torch's own layers."""

import pytest
import torch
from torch import Tensor, nn

from egl_fast.ops import RecurrentCell, RecurrentCotangents, recurrent, recurrent_backward
from egl_fast.reference.recurrent import recurrent_backward as reference_backward

CELLS: list[RecurrentCell] = ["rnn", "gru", "lstm"]
NUM_COEFFICIENTS = {"rnn": 1, "gru": 5, "lstm": 6}
NUM_HIDDEN_BLOCKS = {"rnn": 1, "gru": 3, "lstm": 4}
MODULES = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def random_arguments(
    cell: RecurrentCell, T: int, R: int, N: int, H: int, *, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Arguments of a stable recurrence: no coefficient above 1, a weight of norm about 1."""
    generator = torch.Generator().manual_seed(T + 10 * R + 100 * N + 1000 * H)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    G = NUM_HIDDEN_BLOCKS[cell]
    return {
        "cotangents": normal(T, R, N, H),
        "coefficients": normal(T, N, NUM_COEFFICIENTS[cell], H).sigmoid(),
        "weight_hh": normal(G * H, H) / (G * H) ** 0.5,
        **({"final_cell_cotangents": normal(R, N, H)} if cell == "lstm" else {}),
    }


def cpu_profile() -> torch.profiler.profile:
    # Without acc_events, torch 2.10 warns that events are lost between cycles; there is only one.
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True)


def all_of(result: RecurrentCotangents) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    return result.gates, result.hidden_gates, result.state, result.cell


def assert_close(
    actual: RecurrentCotangents, expected: tuple[Tensor, Tensor, Tensor, Tensor | None]
) -> None:
    """Equal up to the rounding of sums of G * H products taken in another order, T times over."""
    assert (actual.cell is None) == (expected[3] is None)
    for a, e in zip(all_of(actual), expected, strict=True):
        if a is None or e is None:
            continue
        T, width = actual.gates.shape[0], actual.gates.shape[3]
        scale = max(1.0, float(e.abs().max()) if e.numel() else 0.0)
        tolerance = max(1, T) * (width + 8) * torch.finfo(a.dtype).eps * scale
        torch.testing.assert_close(a, e, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
# One row, blocks of unequal size (130 rows), no frames, no rows, one hidden unit.
@pytest.mark.parametrize(
    "shape", [(3, 1, 1, 4), (5, 13, 10, 7), (0, 2, 3, 4), (4, 0, 2, 3), (4, 2, 1, 1)]
)
def test_equals_the_plain_loop(
    cell: RecurrentCell, shape: tuple[int, int, int, int], reverse: bool, dtype: torch.dtype
) -> None:
    arguments = random_arguments(cell, *shape, dtype=dtype)
    actual = recurrent_backward(cell, reverse=reverse, **arguments)
    expected = reference_backward(cell, reverse=reverse, **arguments)
    assert actual.gates.shape == expected[0].shape
    assert actual.gates.dtype == dtype
    assert_close(actual, expected)


def forward(
    module: nn.RNNBase, inputs: Tensor, state: Tensor, cell_state: Tensor
) -> tuple[Tensor, Tensor]:
    """(output [T, N, H], final state [1, N, H]): the cell's state where there is one."""
    if isinstance(module, nn.LSTM):
        output, (_, final) = module(inputs, (state, cell_state))
        return output, final
    return module(inputs, state)


def coefficients_of(
    cell: RecurrentCell, module: nn.RNNBase, inputs: Tensor, state: Tensor, cell_state: Tensor
) -> Tensor:
    """[T, N, P, H], one frame after the other, from the cell's textbook equations."""
    weight_ih, weight_hh, bias_ih, bias_hh = (
        getattr(module, name) for name in module._all_weights[0]
    )
    h, c = state[0], cell_state[0]
    frames = []
    for x in inputs:
        input_side = x @ weight_ih.T + bias_ih
        hidden_side = h @ weight_hh.T + bias_hh
        if cell == "rnn":
            h = torch.tanh(input_side + hidden_side)
            frames.append([1 - h**2])
        elif cell == "gru":
            x_r, x_z, x_n = input_side.chunk(3, dim=1)
            h_r, h_z, h_n = hidden_side.chunk(3, dim=1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            n = torch.tanh(x_n + r * h_n)
            a_n = (1 - z) * (1 - n**2)
            frames.append([a_n * h_n * r * (1 - r), (h - n) * z * (1 - z), a_n, a_n * r, z])
            h = (1 - z) * n + z * h
        else:
            i, f, g, o = (input_side + hidden_side).chunk(4, dim=1)
            i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
            c_before, c = c, f * c + i * g
            tanh_c = torch.tanh(c)
            h = o * tanh_c
            frames.append(
                [
                    o * (1 - tanh_c**2),
                    g * i * (1 - i),
                    c_before * f * (1 - f),
                    i * (1 - g**2),
                    tanh_c * o * (1 - o),
                    f,
                ]
            )
    return torch.stack([torch.stack(frame, dim=1) for frame in frames])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_equals_autograd_through_torchs_layers(cell: RecurrentCell, reverse: bool) -> None:
    T, R, N, D, H = 6, 3, 2, 5, 4
    torch.manual_seed(0)
    module = MODULES[cell](D, H).double()
    inputs = torch.randn(T, N, D, dtype=torch.float64, requires_grad=True)
    state = torch.randn(1, N, H, dtype=torch.float64, requires_grad=True)
    cell_state = torch.randn(1, N, H, dtype=torch.float64, requires_grad=True)
    # A backward direction is the forward one on frames in reverse.
    ordered = inputs.flip(0) if reverse else inputs
    output, final_cell = forward(module, ordered, state, cell_state)
    coefficients = coefficients_of(cell, module, ordered, state, cell_state).detach()
    if reverse:
        output, coefficients = output.flip(0), coefficients.flip(0)

    cotangents = torch.randn(T, R, N, H, dtype=torch.float64)
    final_cell_cotangents = torch.randn(R, N, H, dtype=torch.float64) if cell == "lstm" else None
    weight_hh = module.weight_hh_l0.detach()
    actual = recurrent_backward(
        cell, cotangents, coefficients, weight_hh, reverse=reverse,
        final_cell_cotangents=final_cell_cotangents,
    )  # fmt: skip

    before = torch.cat([state, ordered.new_zeros(0, N, H), output.flip(0) if reverse else output])[
        :-1
    ]
    before = (before.flip(0) if reverse else before).detach()  # h_prev of each frame
    # Sums over frames of products of numbers near 1: all errors are a few hundred roundings.
    tolerance = {"rtol": 0, "atol": 1000 * torch.finfo(torch.float64).eps}
    wanted = [inputs, state, *module.parameters()]
    wanted += [cell_state] if cell == "lstm" else []
    for r in range(R):
        outputs, grads = [output], [cotangents[:, r]]
        if final_cell_cotangents is not None:
            outputs, grads = (
                [output, final_cell],
                [cotangents[:, r], final_cell_cotangents[r][None]],
            )
        expected = torch.autograd.grad(outputs, wanted, grads, retain_graph=True)
        input_side, hidden_side = actual.gates[:, r], actual.hidden_gates[:, r]
        got = [
            input_side @ module.weight_ih_l0.detach(),
            actual.state[r][None],
            torch.einsum("tng,tnd->gd", input_side, inputs.detach()),
            torch.einsum("tng,tnh->gh", hidden_side, before),
            input_side.sum((0, 1)),
            hidden_side.sum((0, 1)),
        ]
        got += [actual.cell[r][None]] if actual.cell is not None else []
        for g, e in zip(got, expected, strict=True):
            torch.testing.assert_close(g, e, **tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_zero_coefficients_stop_everything_on_padding(cell: RecurrentCell) -> None:
    arguments = random_arguments(cell, 7, 3, 2, 5)
    arguments["coefficients"][4:, 1] = 0  # utterance 1 has 4 frames
    both = recurrent_backward(cell, reverse=False, **arguments)
    assert (both.gates[4:, :, 1] == 0).all()
    alone = {
        "cotangents": arguments["cotangents"][:4, :, 1:],
        "coefficients": arguments["coefficients"][:4, 1:],
        "weight_hh": arguments["weight_hh"],
    }
    expected = reference_backward(cell, reverse=False, **alone)
    cell_cotangents = both.cell[:, 1:] if both.cell is not None else None
    assert_close(
        RecurrentCotangents(
            both.gates[:4, :, 1:], both.hidden_gates[:4, :, 1:], both.state[:, 1:], cell_cotangents
        ),
        expected,
    )


@pytest.mark.parametrize("cell", CELLS)
def test_strides_change_nothing(cell: RecurrentCell) -> None:
    arguments = random_arguments(cell, 4, 3, 2, 5)
    expected = recurrent_backward(cell, reverse=False, **arguments)
    strided = {
        # R first in memory, as vmap makes it; then H not contiguous at all.
        "cotangents": arguments["cotangents"].transpose(0, 1).contiguous().transpose(0, 1),
        **{
            name: tensor.transpose(0, -1).contiguous().transpose(0, -1)
            for name, tensor in arguments.items()
            if name != "cotangents"
        },
    }
    for cotangents in (strided["cotangents"], arguments["cotangents"].mT.contiguous().mT):
        actual = recurrent_backward(cell, reverse=False, **{**strided, "cotangents": cotangents})
        assert_close(actual, all_of(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", CELLS)
def test_rows_are_the_same_whoever_shares_the_call(cell: RecurrentCell, dtype: torch.dtype) -> None:
    # More hidden units than a panel of the packed weight has columns, on every instruction set.
    arguments = random_arguments(cell, 3, 7, 1, 130, dtype=dtype)
    together = recurrent_backward(cell, reverse=False, **arguments)
    assert_close(together, reference_backward(cell, reverse=False, **arguments))
    final = arguments.pop("final_cell_cotangents", None)
    cotangents = arguments.pop("cotangents")
    for rows in (slice(0, 1), slice(1, 3), slice(3, 7)):
        own = {} if final is None else {"final_cell_cotangents": final[rows]}
        alone = recurrent_backward(cell, cotangents[:, rows], reverse=False, **arguments, **own)
        assert torch.equal(alone.gates, together.gates[:, rows])
        assert torch.equal(alone.state, together.state[rows])


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize(
    "R", [1, 2, 10, 50]
)  # rows for one thread, one row each, a few tiles, whole blocks
@pytest.mark.parametrize("cell", CELLS)
def test_threads_change_nothing(cell: RecurrentCell, R: int) -> None:
    arguments = random_arguments(cell, 5, R, 3, 64, dtype=torch.float32)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(recurrent_backward(cell, reverse=True, **arguments))
    for other in results[1:]:
        assert torch.equal(results[0].gates, other.gates)
        assert torch.equal(results[0].state, other.state)


@pytest.mark.parametrize("batch_dim", range(5))
@pytest.mark.parametrize("cell", CELLS)
def test_vmap_is_one_call_and_equals_a_loop(
    cell: RecurrentCell, batch_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = random_arguments(cell, 4, 6, 2, 3)
    final = arguments.pop("final_cell_cotangents", None)
    cotangents = arguments.pop("cotangents")
    # Three batch members with R = 2 each.
    batched = cotangents.unflatten(1, (3, 2)).movedim(1, batch_dim).contiguous()
    batched_final = None if final is None else final.unflatten(0, (3, 2)).contiguous()

    def call(u: Tensor, v: Tensor | None) -> tuple[Tensor, ...]:
        result = recurrent_backward(cell, u, **arguments, reverse=False, final_cell_cotangents=v)
        return tuple(x for x in all_of(result) if x is not None)

    expected = [call(c, f) for c, f in zip(
        cotangents.unflatten(1, (3, 2)).unbind(1),
        [None] * 3 if batched_final is None else batched_final, strict=True,
    )]  # fmt: skip
    with cpu_profile() as profile:
        actual = torch.func.vmap(call, in_dims=(batch_dim, None if final is None else 0))(
            batched, batched_final
        )
    # The rows of all batch members went through one native loop: one call is vmap's, the other its
    # rule's.
    name = "egl_fast::recurrent_backward"
    (calls,) = [event for event in profile.key_averages() if event.key == name]
    assert calls.count == 2
    for k, outputs in enumerate(zip(*expected, strict=True)):
        assert_close_stack(actual[k], torch.stack(outputs))


def assert_close_stack(actual: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of sums over 4 frames of at most 12 products."""
    scale = max(1.0, float(expected.abs().max()))
    atol = 4 * 20 * torch.finfo(expected.dtype).eps * scale
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def test_vmap_with_one_cotangent_each_makes_no_copy() -> None:
    arguments = random_arguments("gru", 4, 1, 2, 3)
    batched = torch.randn(5, 4, 1, 2, 3, dtype=torch.float64)

    def call(u: Tensor) -> Tensor:
        return recurrent_backward("gru", **{**arguments, "cotangents": u}, reverse=False).gates

    with cpu_profile() as profile:
        gates = torch.func.vmap(call)(batched)
    assert gates.shape == (5, 4, 1, 2, 9)
    copies = {"aten::copy_", "aten::clone"} & {e.key for e in profile.key_averages()}
    assert not copies


def test_vmap_of_one_of_two_cotangents() -> None:
    arguments = random_arguments("lstm", 4, 2, 2, 3)
    finals = torch.randn(3, 2, 2, 3, dtype=torch.float64)

    def call(v: Tensor) -> Tensor:
        return recurrent_backward(
            "lstm", **{**arguments, "final_cell_cotangents": v}, reverse=False
        ).gates

    assert_close_stack(torch.func.vmap(call)(finals), torch.stack([call(v) for v in finals]))


def test_vmap_over_the_forward_pass_is_refused() -> None:
    arguments = random_arguments("rnn", 4, 2, 2, 3)
    weights = arguments.pop("weight_hh").expand(2, 3, 3)
    with pytest.raises(NotImplementedError, match="vmap over cotangents only"):
        torch.func.vmap(
            lambda w: recurrent_backward("rnn", **arguments, weight_hh=w, reverse=False).gates
        )(weights)


@pytest.mark.parametrize("cell", CELLS)
def test_operator_is_registered_correctly(cell: RecurrentCell) -> None:
    arguments = random_arguments(cell, 3, 2, 2, 3)
    torch.library.opcheck(
        torch.ops.egl_fast.recurrent_backward.default,
        (
            CELLS.index(cell), arguments["cotangents"], arguments["coefficients"],
            arguments["weight_hh"], True, arguments.get("final_cell_cotangents"),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "transformer"}, "cell: expected one of rnn, gru, lstm, got 'transformer'"),
        (
            {"cotangents": torch.zeros(3, 2, 4)},
            r"cotangents: expected float32 or float64 \[T, R, N, H\], got float32 \[3, 2, 4\]",
        ),
        (
            {"coefficients": torch.zeros(3, 2, 1, 4)},
            r"coefficients: expected float64 \[T=3, N=2, P=5, H=4\], got float32 \[3, 2, 1, 4\]",
        ),
        (
            {"weight_hh": torch.zeros(4, 12, dtype=torch.float64)},
            r"weight_hh: expected float64 \[G\*H=12, H=4\], got float64 \[4, 12\]",
        ),
        (
            {"final_cell_cotangents": torch.zeros(2, 2, 4, dtype=torch.float64)},
            "final_cell_cotangents: expected None unless cell is lstm",
        ),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"cell": "gru", "reverse": False}
    arguments |= random_arguments("gru", 3, 2, 2, 4)
    with pytest.raises(ValueError, match=message):
        recurrent_backward(**{**arguments, **changes})  # type: ignore[arg-type]


def test_final_cell_cotangents_are_checked() -> None:
    arguments = random_arguments("lstm", 3, 2, 2, 4)
    arguments["final_cell_cotangents"] = arguments["final_cell_cotangents"][:1]
    with pytest.raises(ValueError, match=r"expected float64 \[R=2, N=2, H=4\], got .* \[1, 2, 4\]"):
        recurrent_backward("lstm", **arguments, reverse=False)


def test_cells_are_numbered_as_in_the_core() -> None:
    assert recurrent._RECURRENT_CELLS == ("rnn", "gru", "lstm")


def test_results_are_cut_off_from_the_graph() -> None:
    arguments = random_arguments("lstm", 3, 2, 2, 4)
    leaves = {name: tensor.requires_grad_() for name, tensor in arguments.items()}
    result = recurrent_backward("lstm", **leaves, reverse=False)
    assert result.cell is not None
    assert not any(x is not None and x.requires_grad for x in all_of(result))
