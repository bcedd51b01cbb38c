"""Squared gradient norms of any CTC model, for many cotangents of its logits at once.

The parameter gradient of a loss with logits cotangent delta is g = J^T delta, J the Jacobian of
the logits. J depends only on the utterance: the model runs once, and R cotangents are pulled back
through the same stored activations in one vectorized pass, only as far as the outputs of the
modules with parameters. ``tape`` says what is recorded, ``rules`` what follows.
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

import egl_fast.gradients.rules  # noqa: F401  (importing registers them)
from egl_fast.compute.devices import start_backward_thread
from egl_fast.compute.memory import is_out_of_memory
from egl_fast.compute.precision import check_precision, matmul_precision
from egl_fast.errors import ModelError, one_line
from egl_fast.gradients.contributions import (
    Contribution,
    Explicit,
    combined,
    inner_products,
    sq_norms,
)
from egl_fast.gradients.counted import counted_parameters
from egl_fast.gradients.memory import GradientMemory
from egl_fast.gradients.model_call import ModelInputs, call_model
from egl_fast.gradients.running import alone, running, unwrapped
from egl_fast.gradients.tape import Call, Tape, declares_utterances_first, record
from egl_fast.gradients.verification import check_against_autograd, kept_gradients

_log = logging.getLogger("egl_fast")


class GradientEngine:
    """Squared gradient norms over the parameters of one model.

    The first norms of a model are compared with one backward pass of plain autograd through the
    untouched model. So if a model does something that rules and tape do not foresee, there is an
    error, not a wrong number.

    Args:
        model: any module; only parameters that require a gradient count.
        params: shell patterns, separated by commas, of the names of parameters that count; None
            for all.
        memory_bytes: for gradients, see ``GradientMemory``.
        precision: of the model's float32 products. Norms and inner products of gradients are always
            in float32 or better.

    Attributes:
        parameters: those that count, by qualified name, in the model's order, as of the last run.

    Raises:
        ModelError: no parameter counts.
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
        self.memory = GradientMemory(memory_bytes, self.device)
        check_precision(precision, self.device)
        self.precision = precision
        self._reported_uncovered: set[str] = set()
        self._vectorizes = True
        self._verified: frozenset[int] = frozenset()

    @property
    def shares_batches(self) -> bool:
        """Whether utterances may share a forward pass: the model's class declares it."""
        return declares_utterances_first(self.model)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.parameters.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters, and so of the model's input."""
        dtypes = [parameter.dtype for parameter in self.parameters.values()]
        return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)

    def _products(self) -> AbstractContextManager[None]:
        return matmul_precision(self.precision, self.device)

    def run(self, *inputs: Any, **named: Any) -> Tape:
        """Run the model once, in evaluation mode, and record what gradient norms need.

        Restores training mode, hooks, parameters and random state, also after an exception.

        Raises:
            ModelError: no parameter counts (anymore), or a module insists on training mode.
        """
        # For every run, as training pipelines freeze, unfreeze and replace layers.
        with alone(self.model):  # during another thread's run, parameters are missing
            self.parameters = counted_parameters(self.model, self.params)
            start_backward_thread(self.device)
            with self._products():
                return record(self.model, ModelInputs(inputs, named), self.parameters)

    def infer(self, *inputs: Any, **named: Any) -> Any:
        """Outputs of the model in evaluation mode, without a graph; restores everything."""
        with self._products(), running(self.model), torch.no_grad():
            return call_model(self.model, ModelInputs(inputs, named))

    @torch.inference_mode(False)
    @torch.no_grad()
    def sq_norms(self, tape: Tape, cotangents: Tensor) -> dict[str, Tensor]:
        """Squared norm of each parameter's gradient, for each cotangent.

        Args:
            tape: what ``run`` returned.
            cotangents: [N, R, T, C] of the tape's logits, zero on padding. N > 1 only if
                ``shares_batches``.

        Returns:
            By qualified name, [N, R] float64 on the cotangents' device. Parameters that the logits
            do not depend on are left out.

        Raises:
            ModelError: the logits depend on no parameter that counts, or a norm differs from plain
                autograd's.
        """
        N, R = cotangents.shape[:2]
        totals: dict[str, Tensor] = defaultdict(
            lambda: cotangents.new_zeros(N, R, dtype=torch.float64)
        )
        with matmul_precision("float32", self.device):  # once: this takes as long as a product
            for name, n, rows, coordinates in self._gradients(tape, cotangents):
                totals[name][n, rows] = sq_norms(coordinates)[: _size(rows)]
        norms = {name: totals[name] for name in tape.parameters if name in totals}
        self._verify(tape, cotangents, norms)
        return norms

    @torch.inference_mode(False)
    @torch.no_grad()
    def gram(self, tape: Tape, cotangents: Tensor) -> dict[str, Tensor]:
        """Inner products of each parameter's gradients, for all pairs of cotangents.

        As ``sq_norms``, but [N, R, R], with the squared norms on the diagonal. Unless
        ``memory.holds_gradients``, NaN for pairs that were in different backward passes.
        """
        N, R = cotangents.shape[:2]
        totals: dict[str, Tensor] = defaultdict(
            lambda: cotangents.new_full((N, R, R), torch.nan, dtype=torch.float64)
        )
        holds = self.memory.holds_gradients(tape, R)
        kept: dict[tuple[str, int], list[tuple[slice, list[Tensor]]]] = defaultdict(list)
        with matmul_precision("float32", self.device):
            for name, n, rows, own in self._gradients(tape, cotangents):
                earlier = kept[name, n]
                for others, coordinates in [*earlier, (rows, own)]:
                    products = inner_products(own, coordinates)
                    products = products[: _size(rows), : _size(others)]
                    totals[name][n, others, rows] = products.t()
                    if coordinates is not own:
                        totals[name][n, rows, others] = products
                if holds and rows.stop < R:
                    earlier.append((rows, own))
        grams = {name: totals[name] for name in tape.parameters if name in totals}
        norms = {name: total.diagonal(dim1=1, dim2=2) for name, total in grams.items()}
        self._verify(tape, cotangents, norms)
        return grams

    def _gradients(
        self, tape: Tape, cotangents: Tensor
    ) -> Iterator[tuple[str, int, slice, list[Tensor]]]:
        """(parameter, utterance, cotangents of a pass, their gradients' coordinates), by passes.

        All passes have the same number of rows, so that all gradients of a parameter are in the
        same basis; the last rows may be zero padding.
        """
        tape.check_unmodified()
        calls, direct = tape.reachable
        if not calls and not direct:
            raise ModelError(
                "the model's logits depend on no parameter that counts; are they detached, "
                "quantized, or computed under no_grad()?"
            )
        self._report_uncovered(direct)
        num_utterances, num_cotangents = cotangents.shape[:2]
        utterances: list[int | None] = (
            list(range(num_utterances)) if self.shares_batches else [None]
        )
        pullbacks = [[call.prepare(n) for n in utterances] for call in calls]
        passes = self.memory.passes(tape, num_cotangents)
        for carried in passes:
            rows = cotangents[:, carried].transpose(0, 1).contiguous()
            missing = _size(passes[0]) - _size(carried)
            if missing:
                rows = torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])
            with self._products():
                at_calls = self._pull_back(tape.logits, rows, calls, {})
            for position, utterance in enumerate(utterances):
                found: dict[str, list[Contribution]] = defaultdict(list)
                with self._products():
                    for call, prepared, cotangent in zip(calls, pullbacks, at_calls, strict=True):
                        own = call.slice_cotangent(cotangent, utterance)
                        for local, contribution in prepared[position](own).items():
                            found[call.parameters[local]].append(contribution)
                    own_rows = rows if utterance is None else _only(rows, utterance)
                    gradients = self._pull_back(tape.logits, own_rows, [], direct)
                for name, gradient in zip(direct, gradients, strict=True):
                    found[name].append(Explicit(gradient))
                for name, contributions in found.items():
                    with self._products():
                        coordinates = combined(contributions).coordinates()
                    yield name, position, carried, coordinates

    def _pull_back(
        self, logits: Tensor, rows: Tensor, calls: list[Call], direct: dict[str, nn.Parameter]
    ) -> Sequence[Tensor]:
        """Cotangents [R, *shape] at the calls' outputs, then gradients of ``direct``.

        The gradients of ``direct`` are of all utterances in ``rows`` together.
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
            # A custom function may return None to stop the gradient, an embedding a sparse one.
            return tuple(
                cotangent.new_zeros(shape)
                if gradient is None
                else (gradient.to_dense() if gradient.layout != torch.strided else gradient)
                for gradient, shape in zip(found, shapes, strict=True)
            )

        # Functions that set .grad are refused by the comparison with autograd, which comes later.
        leaves = () if self._verified else self.model.parameters()
        with kept_gradients(leaves):
            return self._each_row(pull_one, rows)

    def _each_row(
        self, pull_one: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor
    ) -> Sequence[Tensor]:
        if self._vectorizes:
            try:
                with warnings.catch_warnings():
                    # torch loops over an operator without a batching rule: slow, but exact, and
                    # users cannot change it.
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    pulled: Sequence[Tensor] = torch.func.vmap(pull_one)(rows)
                return pulled
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                reason = one_line(error)[:200]
        one_by_one = [pull_one(row) for row in rows]
        if self._vectorizes:  # so it was vectorizing that failed
            self._vectorizes = False
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
            # Rounding may cause errors of percents, so the comparison is without it.
            exact = GradientEngine(
                self.model, params=self.params, memory_bytes=self.memory.total_bytes
            )
            again = exact.run(*tape.inputs.positional, **tape.inputs.named)
            exact.sq_norms(again, cotangents[:, :1])
        else:
            with self._products():
                check_against_autograd(self.model, tape, cotangents, norms)
        self._verified = counted

    def _report_uncovered(self, direct: dict[str, nn.Parameter]) -> None:
        new = [name for name in direct if name not in self._reported_uncovered]
        if new:
            self._reported_uncovered.update(new)
            _log.info("no norm rule covers %s: exact gradients by autograd", ", ".join(new))


def _size(rows: slice) -> int:
    return int(rows.stop - rows.start)


def _only(rows: Tensor, utterance: int) -> Tensor:
    """Rows [R, N, ...] with all utterances but one at zero."""
    own = torch.zeros_like(rows)
    own[:, utterance] = rows[:, utterance]
    return own
