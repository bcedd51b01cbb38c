"""Recurrent layers as one scan a direction, with backward through time in one call.

torch unrolls a recurrent layer into a graph node an operation and frame, and adds up a weight
gradient a frame. Here a direction of a layer is two nodes: the input projection, one matrix
product over all frames, and the scan over time, whose backward pass yields the cotangent of
every gate at every frame. With gate cotangents at hand, a weight gradient is one matrix product
(training), and its squared norm needs no gradient at all (``gradients``).

Shapes: T frames, N utterances, I inputs, H hidden units, G gates; time comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from egl_fast.errors import ModelError
from egl_fast.model import CLIP, ClippedReluRNN
from egl_fast.ops import recurrent_backward
from egl_fast.packing import gather_rows


class Cell(Protocol):
    """One step of a recurrent cell, and what its backward pass needs to know of a step.

    ``step`` takes the projected input [N, G*H] (a GRU's in the order n, r, z), the recurrent
    product [N, G*H] (bias included) and the previous state (and cell state), and returns the new
    ones with the values to keep.
    ``coefficients`` turns the kept values of all frames, [T, N, H] each, into the factors
    [T, N, P, H] of ``ops.recurrent_backward``.
    """

    kind: str
    num_gates: int

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]: ...

    def coefficients(
        self, kept: list[Tensor], states: Tensor, previous: Tensor
    ) -> list[Tensor]: ...


class TanhCell:
    """h_t = tanh(W x_t + U h_(t-1) + b)."""

    kind = "rnn"
    num_gates = 1

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        return (projected + recurrent).tanh(), cell_state, ()

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        return [1 - states.square()]


class ReluCell:
    """h_t = min(max(W x_t + U h_(t-1) + b, 0), clip)."""

    kind = "rnn"
    num_gates = 1

    def __init__(self, clip: float) -> None:
        self.clip = clip

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        total = projected + recurrent
        # torch passes a gradient through clamp at its very bounds, and none through relu at 0.
        inside = total > 0 if self.clip == torch.inf else (total >= 0) & (total <= self.clip)
        return total.clamp(0.0, self.clip), cell_state, (inside.to(total.dtype),)

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        return kept


class GruCell:
    """Gated recurrent unit in torch's form.

    torch's order of gates is r, z, n. The input side is projected in the order n, r, z: that is how
    backward through time leaves its cotangents, so that none is ever copied.
    """

    kind = "gru"
    num_gates = 3

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        hidden = state.shape[-1]
        gates = (projected[:, hidden:] + recurrent[:, : 2 * hidden]).sigmoid()
        r, z = gates[:, :hidden], gates[:, hidden:]
        candidate = recurrent[:, 2 * hidden :]
        n = torch.addcmul(projected[:, :hidden], r, candidate).tanh()
        return torch.lerp(n, state, z), cell_state, (r, z, n, candidate)

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        r, z, n, candidate = kept
        to_n = (1 - z) * (1 - n.square())
        to_r = to_n * candidate * r * (1 - r)
        to_z = (previous - n) * z * (1 - z)
        return [to_n, to_r, to_z, to_n * r, z]


class LstmCell:
    """Long short-term memory in torch's form, gates in the order i, f, g, o."""

    kind = "lstm"
    num_gates = 4

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        i, f, g, o = (projected + recurrent).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        new_cell = torch.addcmul(f * cell_state, i, g)
        squashed = new_cell.tanh()
        return o * squashed, new_cell, (i, f, g, o, cell_state, squashed)

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        i, f, g, o, cell_before, squashed = kept
        return [
            o * (1 - squashed.square()),
            g * i * (1 - i),
            cell_before * f * (1 - f),
            i * (1 - g.square()),
            squashed * o * (1 - o),
            f,
        ]


#: What a module must run to be run as a scan instead; others may have replaced it.
_KINDS: tuple[type[nn.RNNBase], ...] = (ClippedReluRNN, nn.RNN, nn.GRU, nn.LSTM)
_FORWARDS: dict[type[nn.RNNBase], Callable[..., Any]] = {kind: kind.forward for kind in _KINDS}


def cell_of(module: nn.RNNBase) -> Cell | None:
    """The cell of a torch recurrent module, or None where the scan has no form for it."""
    own_forward = (
        "forward" in vars(module) or _FORWARDS.get(type(module)) is not type(module).forward
    )
    if module.proj_size or own_forward:
        return None
    if type(module) is ClippedReluRNN:
        return ReluCell(CLIP)
    if type(module) is nn.RNN:
        return TanhCell() if module.nonlinearity == "tanh" else ReluCell(torch.inf)
    if type(module) is nn.GRU:
        return GruCell()
    return LstmCell() if type(module) is nn.LSTM else None


@dataclass(frozen=True)
class Direction:
    """One direction of one layer, as it ran: what norms and gradients are made of.

    Attributes:
        module: the torch module it belongs to.
        suffix: end of its parameters' names, such as "_l0_reverse".
        kind: "rnn", "gru" or "lstm".
        inputs: [T, N, I].
        projected: [T, N, G*H], the input's share of the gates before their nonlinearity; in the
            autograd graph, so that its gradient is the input-side cotangent of the gates.
        hidden_tap: [T, N, G*H], a zero in the graph at the recurrent product, so that its gradient
            is the hidden-side cotangent of the gates. The two differ in a GRU's candidate.
        previous: [T, N, H], the state each frame started from.
        order: utterance of each of the N columns, or None where they are in order.
    """

    module: nn.RNNBase
    suffix: str
    kind: str
    inputs: Tensor
    projected: Tensor
    hidden_tap: Tensor
    previous: Tensor
    order: Tensor | None


class Scan(torch.autograd.Function):
    """States of one direction from its projected input; backward through time in one call."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        hidden_tap: Tensor | None,
        weight_hh: Tensor,
        bias_hh: Tensor | None,
        initial_state: Tensor,
        initial_cell: Tensor,
        valid: Tensor | None,
        cell: Cell,
        reverse: bool,
        keep: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """States [T, N, H] and the final cell state [N, H].

        Args:
            ctx: of autograd.
            projected: [T, N, G*H].
            hidden_tap: [T, N, G*H], taken to be zero; None where nobody asks for its cotangent.
            weight_hh: [G*H, H].
            bias_hh: [G*H] or None.
            initial_state: [N, H].
            initial_cell: [N, H]; ignored but by an LSTM.
            valid: [T, N, 1], 0 on padding, where states are held at zero; None: no padding.
            cell: the recurrent cell.
            reverse: run from the last frame to the first.
            keep: receives "previous", [T, N, H].
        """
        num_frames = projected.shape[0]
        frames = range(num_frames - 1, -1, -1) if reverse else range(num_frames)
        state, cell_state = initial_state, initial_cell
        weight = weight_hh.t()
        before: list[Tensor] = [state] * num_frames
        after: list[Tensor] = [state] * num_frames
        kept: list[tuple[Tensor, ...]] = [()] * num_frames
        for t in frames:
            before[t] = state
            product = state @ weight if bias_hh is None else torch.addmm(bias_hh, state, weight)
            state, cell_state, kept[t] = cell.step(projected[t], product, state, cell_state)
            if valid is not None:
                state, cell_state = state * valid[t], cell_state * valid[t]
            after[t] = state
        states, previous = torch.stack(after), torch.stack(before)
        values = [torch.stack(series) for series in zip(*kept, strict=True)]
        coefficients = torch.stack(cell.coefficients(values, states, previous), dim=2)
        if valid is not None:
            coefficients *= valid.unsqueeze(2)
        keep["previous"] = previous
        ctx.save_for_backward(coefficients, weight_hh, previous)
        ctx.kind, ctx.reverse, ctx.has_bias = cell.kind, reverse, bias_hh is not None
        ctx.set_materialize_grads(False)
        return states, cell_state

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Cotangents of the projected input, the weights where asked for, the initial states."""
        coefficients, weight_hh, previous = ctx.saved_tensors
        of_states, of_cell = cotangents
        if of_states is None:
            of_states = torch.zeros_like(previous)
        result = recurrent_backward(
            ctx.kind,
            of_states.unsqueeze(1),
            coefficients,
            weight_hh,
            reverse=ctx.reverse,
            final_cell_cotangents=None if of_cell is None else of_cell.unsqueeze(0),
        )
        gates = input_side = hidden_side = result.gates.squeeze(1)
        if ctx.kind == "gru":  # four blocks: n of the input side, r, z, n of the hidden side
            hidden = previous.shape[-1]
            input_side, hidden_side = gates[..., : 3 * hidden], gates[..., hidden:]
        of_weight = of_bias = None
        if ctx.needs_input_grad[2] or (ctx.has_bias and ctx.needs_input_grad[3]):
            rows = hidden_side.flatten(0, 1)
            of_weight = rows.t() @ previous.flatten(0, 1)
            of_bias = rows.sum(0) if ctx.has_bias else None
        return (
            input_side,
            hidden_side if ctx.needs_input_grad[1] else None,
            of_weight,
            of_bias,
            result.state.squeeze(0),
            None if result.cell is None else result.cell.squeeze(0),
            *(None,) * 4,
        )


Recorder = Callable[[Direction], None]


@contextmanager
def scanned_recurrence(
    model: nn.Module,
    *,
    record: Recorder | None = None,
    weights_need_grad: bool = True,
    ragged: bool = True,
) -> Iterator[None]:
    """Let the recurrent modules of a model run as scans while the context is open.

    Results are the same to rounding. Modules the scan has no form for (projections, foreign
    subclasses) run as they are.

    Args:
        model: any module; found in it are torch.nn.RNN, GRU, LSTM and ``ClippedReluRNN``.
        record: called for each direction of each layer as it runs.
        weights_need_grad: whether the scan is to give gradients of recurrent weights; without,
            they count as constants, unless they are computed from other parameters.
        ragged: run packed sequences of unequal length too. Their final states are None, so this is
            for models that have no use for them.

    Raises:
        ModelError: when a bidirectional module runs over packed utterances of unequal length
            with initial states.
    """
    patched = [
        (module, cell)
        for module in model.modules()
        if isinstance(module, nn.RNNBase)
        and not isinstance(module, torch.jit.ScriptModule)
        and (cell := cell_of(module)) is not None
    ]
    for module, cell in patched:
        module.__dict__["forward"] = _forward_as_scan(
            module, cell, record, weights_need_grad, ragged
        )
    try:
        yield
    finally:
        for module, _ in patched:
            del module.__dict__["forward"]


def _forward_as_scan(
    module: nn.RNNBase, cell: Cell, record: Recorder | None, weights_need_grad: bool, ragged: bool
) -> Callable[..., Any]:
    def constant(weight: Tensor) -> Tensor:
        return weight.detach() if weight.is_leaf else weight

    def forward(input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        layout = _Layout.of(module, input)
        if layout.valid is not None and not ragged:
            whole: tuple[Any, Any] = _FORWARDS[type(module)](module, input, hx)
            return whole
        inputs = layout.time_first
        initial = _initial_states(module, cell, inputs, hx, layout)
        finals: list[tuple[Tensor, Tensor]] = []
        num_directions = 2 if module.bidirectional else 1
        for layer in range(module.num_layers):
            outputs = []
            for direction in range(num_directions):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                state, cell_state = initial[layer * num_directions + direction]
                w_ih, w_hh, b_ih, b_hh = _weights(module, suffix)
                if not weights_need_grad:
                    w_ih, w_hh = constant(w_ih), constant(w_hh)
                    b_ih = None if b_ih is None else constant(b_ih)
                    b_hh = None if b_hh is None else constant(b_hh)
                if cell.kind == "gru":
                    w_ih = w_ih.roll(module.hidden_size, 0)
                    b_ih = None if b_ih is None else b_ih.roll(module.hidden_size, 0)
                projected = F.linear(inputs, w_ih, b_ih)
                if not weights_need_grad and not projected.requires_grad:
                    projected.requires_grad_()
                hidden_tap = None
                if record is not None:
                    hidden_tap = torch.zeros_like(projected, requires_grad=torch.is_grad_enabled())
                keep: dict[str, Tensor] = {}
                states, final_cell = Scan.apply(  # type: ignore[no-untyped-call]
                    projected,
                    hidden_tap,
                    w_hh,
                    b_hh,
                    state,
                    cell_state,
                    layout.valid,
                    cell,
                    bool(direction),
                    keep,
                )
                if record is not None and hidden_tap is not None:
                    record(
                        Direction(
                            module=module,
                            suffix=suffix,
                            kind=cell.kind,
                            inputs=inputs,
                            projected=projected,
                            hidden_tap=hidden_tap,
                            previous=keep["previous"],
                            order=layout.order,
                        )
                    )
                outputs.append(states)
                finals.append((states[0] if direction else states[-1], final_cell))
            inputs = torch.cat(outputs, dim=2) if num_directions == 2 else outputs[0]
            if module.training and module.dropout and layer + 1 < module.num_layers:
                inputs = F.dropout(inputs, module.dropout)
        return layout.restore(inputs), layout.final_states(finals, lstm=cell.kind == "lstm")

    return forward


def _weights(
    module: nn.RNNBase, suffix: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    bias_ih = getattr(module, f"bias_ih{suffix}") if module.bias else None
    bias_hh = getattr(module, f"bias_hh{suffix}") if module.bias else None
    return (
        getattr(module, f"weight_ih{suffix}"),
        getattr(module, f"weight_hh{suffix}"),
        bias_ih,
        bias_hh,
    )


def _initial_states(
    module: nn.RNNBase, cell: Cell, inputs: Tensor, hx: Any, layout: _Layout
) -> list[tuple[Tensor, Tensor]]:
    count = module.num_layers * (2 if module.bidirectional else 1)
    if hx is None:
        zeros = inputs.new_zeros(inputs.shape[1], module.hidden_size)
        return [(zeros, zeros)] * count
    if layout.valid is not None and module.bidirectional:
        # In reverse a scan starts on the padding, which would wipe an initial state.
        raise ModelError(
            "a bidirectional layer is given initial states with packed utterances of unequal "
            "length; score one utterance at a time"
        )
    h, c = hx if cell.kind == "lstm" else (hx, hx)
    if h.dim() == 2:  # unbatched input
        h, c = h.unsqueeze(1), c.unsqueeze(1)
    if layout.order is not None:
        h, c = h.index_select(1, layout.order), c.index_select(1, layout.order)
    return list(zip(h, c.detach() if cell.kind != "lstm" else c, strict=True))


@dataclass(frozen=True)
class _Layout:
    """How a module was given its input, to give its output back the same way.

    Attributes:
        time_first: [T, N, I], zero on padding.
        valid: [T, N, 1], or None where there is no padding.
        order: utterance of each column, or None where they are in order.
        packed: the packed sequence that came in, if one did.
        batch_first: the tensor that came in was [N, T, I].
        batched: it had a batch dimension.
        to_padded: [T*N] row of the packed data, or its length for padding.
        to_packed: [rows of the packed data] row of the padded data.
    """

    time_first: Tensor
    valid: Tensor | None
    order: Tensor | None
    packed: PackedSequence | None
    batch_first: bool
    batched: bool
    to_padded: Tensor | None = None
    to_packed: Tensor | None = None

    @staticmethod
    def of(module: nn.RNNBase, x: Tensor | PackedSequence) -> _Layout:
        if isinstance(x, Tensor):
            batched = x.dim() == 3
            batch_first = module.batch_first and batched
            time_first = x if batched else x.unsqueeze(1)
            if batch_first:
                time_first = x.transpose(0, 1)
            return _Layout(time_first, None, None, None, batch_first, batched)
        sizes = x.batch_sizes
        num_frames, num_columns = len(sizes), int(sizes[0])
        if int(sizes[-1]) == num_columns:
            time_first = x.data.view(num_frames, num_columns, -1)
            return _Layout(time_first, None, x.sorted_indices, x, False, True)
        column = torch.arange(num_columns)
        starts = sizes.cumsum(0) - sizes
        present = column[None, :] < sizes[:, None]
        total = int(sizes.sum())
        to_padded = torch.where(present, starts[:, None] + column[None, :], total).flatten()
        to_packed = present.flatten().nonzero().squeeze(1)
        to_padded, to_packed = to_padded.to(x.data.device), to_packed.to(x.data.device)
        padded = gather_rows(x.data, to_padded, to_packed)
        valid = present.to(x.data.device, x.data.dtype).unsqueeze(2)
        time_first = padded.view(num_frames, num_columns, -1)
        return _Layout(time_first, valid, x.sorted_indices, x, False, True, to_padded, to_packed)

    def restore(self, outputs: Tensor) -> Tensor | PackedSequence:
        """Outputs [T, N, D] in the form that the input came in."""
        if self.packed is None:
            if self.batch_first:
                return outputs.transpose(0, 1)
            return outputs if self.batched else outputs.squeeze(1)
        rows = outputs.flatten(0, 1)
        if self.to_packed is not None and self.to_padded is not None:
            rows = gather_rows(rows, self.to_packed, self.to_padded)
        return PackedSequence(
            rows, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices
        )

    def final_states(self, finals: list[tuple[Tensor, Tensor]], *, lstm: bool) -> Any:
        """Final states as torch gives them; None where padding hides them (see below)."""
        if self.valid is not None:
            # Utterances of unequal length end at different frames. Only the built-in model is
            # run so, and it has no use for final states; a user of None fails at once.
            return (None, None) if lstm else None
        h, c = (torch.stack(series) for series in zip(*finals, strict=True))
        if self.packed is not None and self.packed.unsorted_indices is not None:
            h = h.index_select(1, self.packed.unsorted_indices)
            c = c.index_select(1, self.packed.unsorted_indices)
        if not self.batched:
            h, c = h.squeeze(1), c.squeeze(1)
        return (h, c) if lstm else h
