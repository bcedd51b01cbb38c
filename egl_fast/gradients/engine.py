"""Squared gradient norms of any CTC model, for many cotangents of its logits at once.

The parameter gradient of a loss with logits cotangent delta is g = J^T delta, J the Jacobian of
the logits. J belongs to the utterance: the model runs once, and R cotangents are pulled back
through the same stored activations in one vectorised pass, only as far as the outputs of the
modules with parameters. See ``tape`` for what is recorded, ``rules`` for what follows.
"""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

import egl_fast.gradients.convolution
import egl_fast.gradients.linear
import egl_fast.gradients.normalization  # noqa: F401  (importing registers the rules)
from egl_fast.devices import start_backward_thread
from egl_fast.errors import ModelError, one_line
from egl_fast.gradients.contributions import (
    Contribution,
    Explicit,
    combined,
    inner_products,
    sq_norms,
)
from egl_fast.gradients.counted import counted_parameters
from egl_fast.gradients.rules import Pullback
from egl_fast.gradients.running import alone, unwrapped
from egl_fast.gradients.tape import Call, Tape, declares_utterances_first, infer, record
from egl_fast.gradients.verification import check_against_autograd, kept_gradients
from egl_fast.memory import is_out_of_memory
from egl_fast.precision import check_precision, products_in

_log = logging.getLogger("egl_fast")

#: Cotangent rows (utterances x cotangents) that one backward pass carries at most. More rows make
#: larger matrix products; beyond this they gain nothing.
ROWS_PER_PASS = 50

#: The same on a GPU. On an H200 a frame of a GRU of 512 units takes 17 TMAC/s of 2,048 rows, 18 of
#: 4,096, 20 of 8,192 (benchmarks/gpu_timings.py); more rows cost memory.
CUDA_ROWS_PER_PASS = 4096

#: Bytes that gradients may take unless somebody says otherwise: half of them the intermediate
#: results of one backward pass, as far as they are known beforehand, so that long recordings get
#: fewer rows a pass; and half what is kept from pass to pass.
MEMORY_BYTES = 2**31

#: The same on a GPU, as a share of its memory.
CUDA_MEMORY_SHARE = 0.5

#: Below this, one row at a time is pulled back whatever it takes: less changes nothing.
LEAST_MEMORY_BYTES = 2**24


class GradientEngine:
    """Squared gradient norms over the parameters of one model.

    The first norms of a model are compared with plain autograd through the untouched model, one
    backward pass, so that what rules and tape cannot foresee in a stranger's code ends in an error
    and not in a wrong number.

    Args:
        model: any module; only parameters that require a gradient count.
        params: shell pattern (or several, separated by commas) of the names of parameters that
            count; None for all.
        memory_bytes: what gradients may take, beside the forward pass and the cotangents; None:
            2 GiB, or half of a GPU's memory. A single row is pulled back whatever it takes.
        precision: how products of float32 numbers are taken, see ``precision``; but inner products
            of gradients, which are what is asked for.

    Attributes:
        parameters: those that count, by qualified name, in the model's order, as of the last run.
        memory_bytes: see above.

    Raises:
        ModelError: no parameter is left.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        params: str | None = None,
        memory_bytes: int | None = None,
        precision: str = "float32",
    ) -> None:
        self.model = unwrapped(model)
        self.params = params
        with alone(self.model):
            self.parameters = counted_parameters(self.model, params)
        if memory_bytes is None:
            memory_bytes = default_memory_bytes(self.device)
        self.use_memory(memory_bytes)
        check_precision(precision, self.device)
        self.precision = precision
        self._said_unruled: set[str] = set()
        self._vectorises = True
        self._verified: frozenset[int] = frozenset()

    @property
    def shares_batches(self) -> bool:
        """Whether utterances may share a forward pass: the model's own class declares it."""
        return declares_utterances_first(self.model)

    @property
    def rows_per_pass(self) -> int:
        """Cotangent rows (utterances x cotangents) that one backward pass carries at most."""
        return CUDA_ROWS_PER_PASS if self.device.type == "cuda" else ROWS_PER_PASS

    def use_memory(self, memory_bytes: int) -> None:
        """Let gradients take so much from now on.

        Raises:
            ValueError: it is not a number of bytes.
        """
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool) or memory_bytes < 1:
            raise ValueError(f"memory_bytes: expected at least 1, got {memory_bytes!r}")
        self.memory_bytes = memory_bytes
        self.pass_bytes = memory_bytes // 2

    def halve_memory(self) -> bool:
        """Make do with half the memory from now on; False where that is next to nothing."""
        if self.memory_bytes <= LEAST_MEMORY_BYTES:
            return False
        self.use_memory(self.memory_bytes // 2)
        return True

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.parameters.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """What the parameters are, and so the model's input."""
        dtypes = [parameter.dtype for parameter in self.parameters.values()]
        return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)

    def _products(self) -> AbstractContextManager[None]:
        return products_in(self.precision, self.device)

    def run(self, *inputs: Any) -> Tape:
        """Run the model once, in evaluation mode, and keep what gradient norms need.

        The model's training mode, hooks and parameters, and the random state, are as they were
        afterwards, also after an exception.

        Raises:
            ModelError: no parameter counts (any more), or a module insists on training mode.
        """
        # Anew each time: a training pipeline freezes, unfreezes and replaces layers.
        with alone(self.model):  # another thread's run holds parameters back
            parameters = counted_parameters(self.model, self.params)
            self.parameters = parameters
            start_backward_thread(self.device)
            with self._products():
                return record(self.model, inputs, parameters)

    def infer(self, *inputs: Any) -> Any:
        """Outputs of the model in evaluation mode, without a graph; leaves everything as it was."""
        with self._products():
            return infer(self.model, inputs)

    def row_bytes(self, tape: Tape, logits: Tensor) -> int:
        """Bytes that a backward pass takes for one cotangent of each of the tape's utterances."""
        return self._row_bytes(*tape.reachable(logits), logits)

    @torch.inference_mode(False)
    @torch.no_grad()
    def sq_norms(self, tape: Tape, logits: Tensor, cotangents: Tensor) -> dict[str, Tensor]:
        """Squared norm of each parameter's gradient, for each cotangent.

        Args:
            tape: what ``run`` returned.
            logits: [N, T, C], the first of the tape's outputs.
            cotangents: [N, R, T, C], zero on padding. N > 1 only for a model whose class
                declares ``utterances_first``.

        Returns:
            By qualified name, [N, R] float64 on the cotangents' device; the gradient's squared norm
            is their sum. A parameter that the logits do not depend on is left out.

        Raises:
            ModelError: the logits depend on no parameter that counts, or a norm differs from plain
                autograd's.
        """
        shape = cotangents.shape[:2]
        totals: dict[str, Tensor] = defaultdict(
            lambda: cotangents.new_zeros(shape, dtype=torch.float64)
        )
        with self._products():  # once for all: setting it takes as long as a small product
            for name, n, rows, coordinates in self._gradients(tape, logits, cotangents):
                totals[name][n, rows] = sq_norms(coordinates)[: _size(rows)]
        norms = {name: totals[name] for name in tape.parameters if name in totals}
        self._verify(tape, cotangents, norms)
        return norms

    @torch.inference_mode(False)
    @torch.no_grad()
    def gram(self, tape: Tape, logits: Tensor, cotangents: Tensor) -> dict[str, Tensor]:
        """Inner products of each parameter's gradients, for all pairs of cotangents.

        Args:
            tape: see ``sq_norms``.
            logits: see ``sq_norms``.
            cotangents: see ``sq_norms``.

        Returns:
            By qualified name, [N, R, R] float64 on the cotangents' device, with the squared norms
            on the diagonal. Unless ``holds_gradients``, NaN for pairs whose cotangents did not fit
            into one backward pass.

        Raises:
            ModelError: see ``sq_norms``.
        """
        N, R = cotangents.shape[:2]
        totals: dict[str, Tensor] = defaultdict(
            lambda: cotangents.new_full((N, R, R), torch.nan, dtype=torch.float64)
        )
        holds = self.holds_gradients(tape, logits, R)
        kept: dict[tuple[str, int], list[tuple[slice, list[Tensor]]]] = defaultdict(list)
        with self._products():
            for name, n, rows, own in self._gradients(tape, logits, cotangents):
                earlier = kept[name, n]
                for others, coordinates in [*earlier, (rows, own)]:
                    with products_in("float32", self.device):
                        products = inner_products(own, coordinates)
                    products = products[: _size(rows), : _size(others)].double()
                    totals[name][n, rows, others] = products
                    totals[name][n, others, rows] = products.t()
                if holds and rows.stop < R:
                    earlier.append((rows, own))
        grams = {name: totals[name] for name in tape.parameters if name in totals}
        norms = {name: total.diagonal(dim1=1, dim2=2) for name, total in grams.items()}
        self._verify(tape, cotangents, norms)
        return grams

    def holds_gradients(self, tape: Tape, logits: Tensor, num_rows: int) -> bool:
        """Whether ``gram`` gives all inner products of so many cotangents an utterance."""
        calls, direct = tape.reachable(logits)
        passes = self._passes(calls, direct, logits, num_rows)
        if len(passes) <= 1:
            return True
        # Coordinates of a gradient are no more than its numbers, nor than the cotangents it is of.
        numbers = sum(parameter.numel() for parameter in direct.values())
        for call in calls:
            of_parameters = sum(tape.parameters[name].numel() for name in call.parameters.values())
            numbers += min(call.output.numel(), of_parameters)
        return bool(passes[-1].start * numbers * logits.element_size() <= self.pass_bytes)

    def _passes(
        self, calls: Sequence[Call], direct: dict[str, nn.Parameter], logits: Tensor, num_rows: int
    ) -> list[slice]:
        """Which of an utterance's cotangents go together: as few passes as fit, of like size."""
        fitting = self.pass_bytes // max(1, self._row_bytes(calls, direct, logits))
        most = max(1, min(self.rows_per_pass // logits.shape[0], fitting))
        size = -(-num_rows // max(1, -(-num_rows // most)))
        return [
            slice(start, min(start + size, num_rows)) for start in range(0, num_rows, max(1, size))
        ]

    def _gradients(
        self, tape: Tape, logits: Tensor, cotangents: Tensor
    ) -> Iterator[tuple[str, int, slice, list[Tensor]]]:
        """(parameter, utterance, cotangents of a pass, their gradients' coordinates), by passes.

        All passes carry as many rows, so that all gradients of a parameter have coordinates in one
        basis; the last of them may be zero, beyond those asked for.
        """
        tape.check_unmodified()
        calls, direct = tape.reachable(logits)
        if not calls and not direct:
            raise ModelError(
                "the model's logits depend on no parameter that counts; are they detached, "
                "quantized, or computed under no_grad?"
            )
        self._say_unruled(direct)
        num_utterances, num_cotangents = cotangents.shape[:2]
        utterances: list[int | None] = (
            list(range(num_utterances)) if self.shares_batches else [None]
        )
        pullbacks = [[call.prepare(n) for n in utterances] for call in calls]
        passes = self._passes(calls, direct, logits, num_cotangents)
        for carried in passes:
            rows = cotangents[:, carried].transpose(0, 1).contiguous()
            missing = _size(passes[0]) - _size(carried)
            if missing:
                rows = torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])
            with self._products():
                at_calls = self._pull_back(logits, rows, calls, {})
            for position, utterance in enumerate(utterances):
                with self._products():
                    found = self._contributions(
                        calls,
                        [prepared[position] for prepared in pullbacks],
                        at_calls,
                        utterance,
                    )
                    own_rows = rows if utterance is None else _only(rows, utterance)
                    for name, value in zip(
                        direct, self._pull_back(logits, own_rows, [], direct), strict=True
                    ):
                        found[name].append(Explicit(value))
                for name, contributions in found.items():
                    with self._products():
                        coordinates = combined(contributions).coordinates()
                    yield name, position, carried, coordinates

    @staticmethod
    def _row_bytes(calls: Sequence[Call], direct: dict[str, nn.Parameter], logits: Tensor) -> int:
        numbers = sum(call.output.numel() for call in calls)
        numbers += sum(parameter.numel() for parameter in direct.values())
        # At its widest, a pass holds the cotangents it will return, and about as much under way.
        return 2 * numbers * logits.element_size()

    def _contributions(
        self,
        calls: Sequence[Call],
        pullbacks: Sequence[Pullback],
        at_calls: Sequence[Tensor],
        utterance: int | None,
    ) -> dict[str, list[Contribution]]:
        found: dict[str, list[Contribution]] = defaultdict(list)
        for call, pullback, cotangent in zip(calls, pullbacks, at_calls, strict=True):
            of_call = pullback(call.slice_cotangent(cotangent, utterance))
            for local, contribution in of_call.items():
                found[call.parameters[local]].append(contribution)
        return found

    def _pull_back(
        self, logits: Tensor, rows: Tensor, calls: list[Call], direct: dict[str, nn.Parameter]
    ) -> Sequence[Tensor]:
        """Cotangents [R, *shape] at the calls' outputs, then gradients of ``direct``.

        What is ``direct`` gets the gradient of all utterances in ``rows`` together.
        """
        edges = [call.edge for call in calls]
        inputs = [*edges, *(get_gradient_edge(parameter) for parameter in direct.values())]
        shapes = [*(call.output for call in calls), *(p.shape for p in direct.values())]
        if not inputs:
            return []

        def pull_one(cotangent: Tensor) -> tuple[Tensor, ...]:
            found = torch.autograd.grad(
                logits, inputs, cotangent, retain_graph=True, allow_unused=True
            )
            # A function of the model's may stop the gradient by returning None, and an embedding
            # return a sparse one.
            return tuple(
                cotangent.new_zeros(shape)
                if gradient is None
                else (gradient.to_dense() if gradient.layout != torch.strided else gradient)
                for gradient, shape in zip(found, shapes, strict=True)
            )

        # Functions that the comparison with autograd will refuse may set .grad.
        leaves = () if self._verified else self.model.parameters()
        with kept_gradients(leaves):
            return self._each_row(pull_one, rows)

    def _each_row(
        self, pull_one: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor
    ) -> Sequence[Tensor]:
        if self._vectorises:
            try:
                with warnings.catch_warnings():
                    # An operator without a batching rule is looped over inside torch: slower
                    # there, exact all the same, and nothing a user can do about.
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    pulled: Sequence[Tensor] = torch.func.vmap(pull_one)(rows)
                return pulled
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                reason = one_line(error)[:200]
        one_by_one = [pull_one(row) for row in rows]
        if self._vectorises:  # and so it was vectorizing that failed
            self._vectorises = False
            _log.warning(
                "this model's backward pass cannot be vectorized, so cotangents are pulled back "
                "one at a time (%s)",
                reason,
            )
        return [torch.stack(series) for series in zip(*one_by_one, strict=True)]

    def _verify(self, tape: Tape, cotangents: Tensor, norms: dict[str, Tensor]) -> None:
        """Compare one cotangent with plain autograd, once for a set of parameters."""
        counted = frozenset(map(id, tape.parameters.values()))
        if counted == self._verified or cotangents.shape[1] == 0:
            return
        if self.precision != "float32":
            # Rounding may err by per cents. What the model does can be told without it.
            exact = GradientEngine(self.model, params=self.params, memory_bytes=self.memory_bytes)
            exact_tape = exact.run(*tape.inputs)
            exact.sq_norms(exact_tape, exact_tape.outputs[0], cotangents[:, :1])
            self._verified = counted
            return
        with self._products():
            check_against_autograd(self.model, tape, cotangents, norms)
        self._verified = counted

    def _say_unruled(self, direct: dict[str, nn.Parameter]) -> None:
        new = [name for name in direct if name not in self._said_unruled]
        if new:
            self._said_unruled.update(new)
            _log.info("no norm rule covers %s: exact gradients by autograd", ", ".join(new))


def default_memory_bytes(device: torch.device) -> int:
    """What gradients may take where nobody says otherwise."""
    if device.type == "cuda":
        return int(CUDA_MEMORY_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return MEMORY_BYTES


def _size(rows: slice) -> int:
    return int(rows.stop - rows.start)


def _only(rows: Tensor, utterance: int) -> Tensor:
    """Rows [R, N, ...] with all utterances but one at zero."""
    own = torch.zeros_like(rows)
    own[:, utterance] = rows[:, utterance]
    return own
