"""Squared gradient norms of any CTC model, for many cotangents of its logits at once.

The parameter gradient of a loss with logits cotangent delta is g = J^T delta, J the Jacobian of
the logits. J depends only on the utterance: the model runs once, and R cotangents are pulled back
through the same stored activations in one vectorized pass, only as far as the outputs of the
modules with parameters. ``tape`` says what is recorded, ``rules`` what follows.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

import egl_fast.gradients.rules  # noqa: F401  (importing registers them)
from egl_fast.compute.devices import start_backward_thread
from egl_fast.compute.precision import check_precision, matmul_precision
from egl_fast.errors import ModelError
from egl_fast.gradients.backward import VectorizedBackward, inside, leaves
from egl_fast.gradients.calls import Call, Computed
from egl_fast.gradients.contributions import (
    Contribution,
    Explicit,
    combined,
    inner_products,
    sq_norms,
)
from egl_fast.gradients.counted import counted_parameters
from egl_fast.gradients.coverage import Coverage, warn_of_16_bits
from egl_fast.gradients.memory import GradientMemory
from egl_fast.gradients.model_call import ModelInputs, call_model
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.gradients.rules.rule import Pullback
from egl_fast.gradients.running import alone, running, unwrapped
from egl_fast.gradients.stages import Stage
from egl_fast.gradients.tape import Tape, declares_utterances_first, record
from egl_fast.gradients.verification import check_against_autograd

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
        coverage: what share of them has a rule; None before the first norms.

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
        self.coverage: Coverage | None = None
        self._covered: Set[str] = set()
        self._reported_uncovered: set[str] = set()
        self._autograd = VectorizedBackward(self.model)
        self._output_layer: tuple[str, ...] | None = None  # names; None before they are known
        self._verified: set[tuple[frozenset[int], bool]] = set()

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
        # On every run, since training pipelines freeze, unfreeze and replace layers.
        with alone(self.model):  # during another thread's run, parameters are missing
            self.parameters = counted_parameters(self.model, self.params)
            start_backward_thread(self.device)
            with self._products():
                return record(self.model, ModelInputs(inputs, named), self.parameters)

    def run_output_layer(self, *inputs: Any, **named: Any) -> Tape:
        """``run``, with only the output layer's parameters counting.

        Nothing below that layer is kept for a backward pass, so this costs about as much as
        ``infer``, and records the output layer's inputs.
        """
        names, counted = self._output_layer, {}
        with alone(self.model):
            if names is not None:
                counted = counted_parameters(self.model, self.params)
            if names is None or not counted.keys() >= set(names):  # only a complete graph tells
                tape = self.run(*inputs, **named)
                layer = output_layer_of(tape)
                self._output_layer = () if layer is None else layer.names
                return tape
            own = {name: counted[name] for name in names}
            with self._products():
                return record(self.model, ModelInputs(inputs, named), own)

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
        stages = self.memory.stages(tape, R)
        with matmul_precision("float32", self.device):  # only once: this takes as long as a product
            for name, n, rows, coordinates in self._gradients(tape, cotangents, stages):
                totals[name][n, rows] = sq_norms(coordinates)[: _size(rows)]
        norms = {name: totals[name] for name in tape.parameters if name in totals}
        self._verify(tape, cotangents, norms, in_stages=len(stages) > 1)
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
        stages = self.memory.stages(tape, R)
        kept: dict[tuple[str, int], list[tuple[slice, list[Tensor]]]] = defaultdict(list)
        with matmul_precision("float32", self.device):
            for name, n, rows, own in self._gradients(tape, cotangents, stages):
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
        self._verify(tape, cotangents, norms, in_stages=len(stages) > 1)
        return grams

    def _gradients(
        self, tape: Tape, cotangents: Tensor, stages: Sequence[Stage]
    ) -> Iterator[_Gradients]:
        """Gradients of all parameters, pass by pass.

        All passes have the same number of rows, so that all gradients of a parameter are in the
        same basis; the last rows may be zero padding. In stages, there is one pass.
        """
        tape.check_unmodified()
        calls, direct = tape.reachable
        if not calls and not direct:
            raise ModelError(
                "the model's logits depend on no parameter that counts; are they detached, "
                "quantized, or computed under no_grad()?"
            )
        if self.coverage is None or tape.parameters.keys() != self._covered:
            self.coverage = Coverage.of(self.model, tape)
            self._covered = tape.parameters.keys()
            warn_of_16_bits(tape.parameters)
        self._report_uncovered(direct)
        num_cotangents = cotangents.shape[1]
        passes = [slice(0, num_cotangents)]
        if len(stages) == 1:
            passes = self.memory.passes(tape, num_cotangents)
        last_use = {name: i for i, stage in enumerate(stages) for name in stage.names}
        pullbacks: dict[int, list[list[Pullback]]] = {}
        for carried in passes:
            rows = cotangents[:, carried].transpose(0, 1).contiguous()
            missing = _size(passes[0]) - _size(carried)
            if missing:
                rows = torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])
            found: list[dict[str, list[Contribution]]]
            found = [defaultdict(list) for _ in self._utterances(tape)]
            at_start = [rows]
            for i, stage in enumerate(stages):
                if i not in pullbacks:  # those of the previous stage are no longer needed
                    pullbacks = {
                        i: [
                            [call.prepare(n) for call in stage.calls]
                            for n in self._utterances(tape)
                        ]
                    }
                at_start = self._run_stage(stage, tape, rows, at_start, pullbacks[i], found)
                for position, own in enumerate(found):
                    for name in [name for name in own if last_use[name] == i]:
                        with self._products():
                            coordinates = combined(own.pop(name)).coordinates()
                        yield name, position, carried, coordinates

    def _utterances(self, tape: Tape) -> list[int | None]:
        """The tape's utterances, as its calls know them."""
        return list(range(tape.logits.shape[0])) if self.shares_batches else [None]

    def _run_stage(
        self,
        stage: Stage,
        tape: Tape,
        rows: Tensor,
        at_start: list[Tensor],
        pullbacks: list[list[Pullback]],
        found: list[dict[str, list[Contribution]]],
    ) -> list[Tensor]:
        """Add a stage's contributions to those found for each utterance.

        Takes and returns the cotangents where the stage starts and ends, in a list.
        """
        # Gradients of parameters without a rule are summed over all utterances. If there is only
        # one, they come with the cotangents.
        one = tape.logits.shape[0] == 1
        wanted = [(call.edge, call.output) for call in stage.calls]
        if one:
            wanted += leaves(stage.direct)
        if stage.end is not None:
            wanted.append(inside(stage.end))
        with self._products():
            pulled = self._autograd.pull_back(stage.start, at_start.pop(), wanted)
            for position, utterance in enumerate(self._utterances(tape)):
                at_calls = [
                    call.slice_cotangent(cotangent, utterance)
                    for call, cotangent in zip(stage.calls, pulled, strict=False)
                ]
                self._contribute(found[position], stage.calls, pullbacks[position], at_calls)
                gradients = pulled[len(at_calls) :]
                if not one:
                    own_rows = _only(rows, position)
                    gradients = self._autograd.pull_back(
                        tape.logits, own_rows, leaves(stage.direct)
                    )
                for name, gradient in zip(stage.direct, gradients, strict=False):
                    found[position][name].append(Explicit(gradient))
        return [] if stage.end is None else [pulled[-1]]

    def _contribute(
        self,
        found: dict[str, list[Contribution]],
        calls: list[Call],
        pullbacks: list[Pullback],
        cotangents: list[Tensor],
    ) -> None:
        """Add to the gradient of each parameter what calls contribute, from [R, *output]."""
        of_computed: dict[int, tuple[Computed, list[Contribution]]] = {}
        for call, pull, cotangent in zip(calls, pullbacks, cotangents, strict=True):
            for local, contribution in pull(cotangent).items():
                if local in call.parameters:
                    found[call.parameters[local]].append(contribution)
                else:
                    weight = call.computed[local]
                    of_computed.setdefault(id(weight.value), (weight, []))[1].append(contribution)
        # Through the functions that made the weights, to the parameters they were made of.
        for weight, contributions in of_computed.values():
            rows = combined(contributions).gradient().view(-1, *weight.value.shape)
            gradients = self._autograd.pull_back(weight.value, rows, leaves(weight.parameters))
            for name, gradient in zip(weight.parameters, gradients, strict=True):
                found[name].append(Explicit(gradient))

    def _verify(
        self,
        tape: Tape,
        cotangents: Tensor,
        norms: dict[str, Tensor],
        *,
        in_stages: bool = False,
    ) -> None:
        """Compare one cotangent with plain autograd, once for a set of parameters.

        Done once more in the first pass that runs in stages.
        """
        counted = (frozenset(map(id, tape.parameters.values())), in_stages)
        if counted in self._verified or cotangents.shape[1] == 0:
            return
        if self.precision != "float32":
            # Rounding may cause errors of several percent, so the comparison excludes it.
            exact = GradientEngine(
                self.model, params=self.params, memory_bytes=self.memory.total_bytes
            )
            again = exact.run(*tape.inputs.positional, **tape.inputs.named)
            exact.sq_norms(again, cotangents[:, :1])
        else:
            with self._products():
                check_against_autograd(self.model, tape, cotangents, norms)
        # Those from before some parameters were frozen may be wrong by now.
        self._verified = {known for known in self._verified if known[0] == counted[0]} | {counted}
        self._autograd.keeps_gradients = False

    def _report_uncovered(self, direct: dict[str, nn.Parameter]) -> None:
        new = [name for name in direct if name not in self._reported_uncovered]
        if new:
            self._reported_uncovered.update(new)
            _log.info("no norm rule covers %s: exact gradients by autograd", ", ".join(new))


#: A parameter, an utterance's position, the cotangents of a pass, and their gradients' coordinates.
_Gradients: TypeAlias = tuple[str, int, slice, list[Tensor]]


def _size(rows: slice) -> int:
    return int(rows.stop - rows.start)


def _only(rows: Tensor, utterance: int) -> Tensor:
    """Rows [R, N, ...] with all utterances but one at zero."""
    own = torch.zeros_like(rows)
    own[:, utterance] = rows[:, utterance]
    return own
