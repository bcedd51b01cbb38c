"""Runs the recurrent modules of a model as scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from egl_fast.compute.process_wide import SharedChange
from egl_fast.errors import ModelError
from egl_fast.ops import RecurrentScan, recurrent_forward
from egl_fast.recurrent.cells import TORCH_FORWARDS, Cell, cell_of, is_projected_lstm
from egl_fast.recurrent.layout import Layout
from egl_fast.recurrent.scan import Projection, Scan


@dataclass(frozen=True)
class Direction:
    """One direction of one layer, as it ran: what norms and gradients are computed from."""

    module: nn.RNNBase  # the torch module it belongs to
    suffix: str  # end of its parameters' names, such as "_l0_reverse"
    inputs: Tensor  # [T, N, I]
    # [T, N, G*H], the input's share of the gates before their nonlinearity; its gradient in the
    # autograd graph is the cotangent of that share.
    projected: Tensor
    # [T, N, G*H], a zero that the graph adds to the recurrent product; its gradient is the
    # cotangent of the previous state's share, which differs in a GRU's candidate.
    hidden_tap: Tensor
    previous: Tensor  # [T, N, H], the state each frame started from
    # Utterance of each of the N columns, or None if they are in order.
    columns: tuple[int, ...] | None


Recorder = Callable[[Direction], None]


def _set_cudnn(enabled: bool) -> Callable[[], None]:
    cudnn: Any = torch.backends.cudnn
    before = cudnn.enabled
    cudnn.enabled = enabled

    def put_back() -> None:
        cudnn.enabled = before

    return put_back


_cudnn = SharedChange(_set_cudnn)


def without_cudnn() -> AbstractContextManager[None]:
    """Run recurrent layers on a GPU with torch's own kernels while the context is open.

    cuDNN's kernels have no backward pass in evaluation mode.
    """
    return _cudnn(False)


@contextmanager
def scanned_recurrence(
    model: nn.Module,
    *,
    record: Recorder | None = None,
    weights_need_grad: bool = True,
    ragged: bool = True,
    precise: bool = False,
) -> Iterator[None]:
    """Run the recurrent modules of a model as scans while the context is open.

    Results are the same to rounding. Modules that cannot run as a scan (projections, foreign
    subclasses) run as they are, but without cuDNN in evaluation mode; or, to be recorded, an LSTM
    with projections in linear layers.

    Args:
        model: any module; its torch.nn.RNN, GRU, LSTM and ``ClippedReluRNN`` run as scans.
        record: called for each direction of each layer as it runs.
        weights_need_grad: whether recurrent weights get gradients; if not, they are constants,
            unless they are computed from other parameters.
        ragged: also run packed sequences of unequal length. Their final states are None, so this
            is for models that do not use them.
        precise: carry states from frame to frame in float64. A float32 scan accumulates rounding
            over its frames, which some recordings (loud noise, two speakers at once) amplify until
            squared gradient norms are off by 2e-4.

    Raises:
        ModelError: a bidirectional module runs over packed utterances of unequal length with
            initial states.
    """
    patched = [
        module
        for module in model.modules()
        if isinstance(module, nn.RNNBase)
        and not isinstance(module, torch.jit.ScriptModule)
        and "forward" not in vars(module)
    ]
    for module in patched:
        cell = cell_of(module)
        if cell is not None:
            forward = _forward_as_scan(module, cell, record, weights_need_grad, ragged, precise)
        elif record is not None and is_projected_lstm(module):
            forward = _forward_by_frames(module)
        else:
            forward = _forward_with_backward(module)
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in patched:
            del module.__dict__["forward"]


def _forward_with_backward(module: nn.RNNBase) -> Callable[..., Any]:
    """The module's own forward pass, differentiable in evaluation mode, too."""
    own = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with nullcontext() if module.training else without_cudnn():
            return own(*args, **kwargs)

    return forward


def _forward_as_scan(
    module: nn.RNNBase,
    cell: Cell,
    record: Recorder | None,
    weights_need_grad: bool,
    ragged: bool,
    precise: bool,
) -> Callable[..., Any]:
    num_directions = 2 if module.bidirectional else 1

    def forward(input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        layout = Layout.of(module, input)
        refused = layout.valid is not None and not ragged
        if refused or not _computes_as_written(module, layout.time_first):
            with without_cudnn():
                whole: tuple[Any, Any] = TORCH_FORWARDS[type(module)](module, input, hx)
            return whole
        inputs = layout.time_first
        initial = _initial_states(module, cell, inputs, hx, layout)
        finals: list[tuple[Tensor, Tensor | None]] = []
        for layer in range(module.num_layers):
            suffixes = [f"_l{layer}", f"_l{layer}_reverse"][:num_directions]
            scans = [
                _projected(module, suffix, inputs, initial.pop(0), weights_need_grad)
                for suffix in suffixes
            ]
            results = recurrent_forward(
                cell.kind, scans, relu_clip=cell.relu_clip, valid=layout.valid, precise=precise
            )
            outputs = []
            for suffix, scan, result in zip(suffixes, scans, results, strict=True):
                tap = _tap_of(scan.projected) if record is not None else None
                states, final_cell = Scan.apply(  # type: ignore[no-untyped-call]
                    scan.projected,
                    tap,
                    scan.weight_hh,
                    scan.bias_hh,
                    scan.initial_state,
                    scan.initial_cell,
                    cell.kind,
                    scan.reverse,
                    result,
                )
                if record is not None and tap is not None:
                    ran = (inputs, scan.projected, tap, result.previous)
                    record(Direction(module, suffix, *ran, layout.columns))
                outputs.append(states)
                finals.append((states[0] if scan.reverse else states[-1], final_cell))
            inputs = torch.cat(outputs, dim=2) if num_directions == 2 else outputs[0]
            if module.training and module.dropout and layer + 1 < module.num_layers:
                inputs = F.dropout(inputs, module.dropout)
        return layout.restore(inputs), layout.final_states(finals)

    return forward


def _forward_by_frames(module: nn.RNNBase) -> Callable[..., Any]:
    """An LSTM with projections in calls of ``torch.nn.functional.linear``, which have a rule."""
    directions = ["", "_reverse"] if module.bidirectional else [""]

    def forward(input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        layout = Layout.of(module, input)
        inputs = layout.time_first
        if layout.valid is not None or module.training or not _computes_as_written(module, inputs):
            with without_cudnn():
                whole: tuple[Any, Any] = TORCH_FORWARDS[nn.LSTM](module, input, hx)
            return whole
        initial = _initial_states(module, Cell("lstm"), inputs, hx, layout)
        finals: list[tuple[Tensor, Tensor | None]] = []
        for layer in range(module.num_layers):
            outputs = []
            for direction in directions:
                own: dict[str, Any] = {
                    name: getattr(module, f"{name}_l{layer}{direction}", None)
                    for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh", "weight_hr")
                }
                projected = F.linear(inputs, own["weight_ih"], own["bias_ih"])
                state, cell = initial.pop(0)
                states = []
                for frame in projected.flip(0) if direction else projected:
                    gates = frame + F.linear(state, own["weight_hh"], own["bias_hh"])
                    i, f, g, o = gates.chunk(4, dim=1)
                    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
                    state = F.linear(o.sigmoid() * cell.tanh(), own["weight_hr"])
                    states.append(state)
                outputs.append(torch.stack(states[::-1] if direction else states))
                finals.append((state, cell))
            inputs = torch.cat(outputs, dim=2)
        return layout.restore(inputs), layout.final_states(finals)

    return forward


def _computes_as_written(module: nn.RNNBase, inputs: Tensor) -> bool:
    """Whether a scan computes what the module would: float32 or float64, no ``torch.autocast``."""
    dtypes = {inputs.dtype, *(parameter.dtype for parameter in module.parameters())}
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return not autocast and dtypes in ({torch.float32}, {torch.float64})


def _projected(
    module: nn.RNNBase,
    suffix: str,
    inputs: Tensor,
    initial: tuple[Tensor, Tensor | None],
    weights_need_grad: bool,
) -> RecurrentScan:
    """A direction of a layer, ready to run."""

    def weight(name: str) -> Tensor:
        values: Tensor = getattr(module, name + suffix)
        return values if weights_need_grad or not values.is_leaf else values.detach()

    bias_ih = weight("bias_ih") if module.bias else None
    projected: Tensor = Projection.apply(inputs, weight("weight_ih"), bias_ih)  # type: ignore[no-untyped-call]
    if not weights_need_grad and not projected.requires_grad:
        projected.requires_grad_()
    bias_hh = weight("bias_hh") if module.bias else None
    return RecurrentScan(
        projected, weight("weight_hh"), bias_hh, *initial, reverse=suffix.endswith("_reverse")
    )


def _tap_of(projected: Tensor) -> Tensor:
    """A zero of the same shape, for the graph; its values are never read."""
    zero = projected.new_zeros(()).expand_as(projected)
    return zero.requires_grad_(torch.is_grad_enabled())


def _initial_states(
    module: nn.RNNBase, cell: Cell, inputs: Tensor, hx: Any, layout: Layout
) -> list[tuple[Tensor, Tensor | None]]:
    """Initial hidden (or projected) and cell states [N, H] of each direction of each layer."""
    count = module.num_layers * (2 if module.bidirectional else 1)
    if hx is None:
        zeros = inputs.new_zeros(inputs.shape[1], module.hidden_size)
        state = zeros[:, : module.proj_size] if module.proj_size else zeros
        return [(state, zeros if cell.kind == "lstm" else None)] * count
    if layout.valid is not None and module.bidirectional:
        # In reverse a scan starts on the padding, which would wipe an initial state.
        raise ModelError(
            "a bidirectional layer gets initial states with packed utterances of unequal length; "
            "score one utterance at a time"
        )

    def columns(states: Tensor) -> Tensor:
        if states.dim() == 2:  # unbatched input
            states = states.unsqueeze(1)
        return states if layout.order is None else states.index_select(1, layout.order)

    if cell.kind != "lstm":
        return [(h, None) for h in columns(hx)]
    return list(zip(*map(columns, hx), strict=True))
