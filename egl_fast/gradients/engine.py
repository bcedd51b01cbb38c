"""Squared gradient norms of any CTC model, for many cotangents of its logits at once.

The parameter gradient of a loss with logits cotangent delta is g = J^T delta, J the Jacobian of
the logits. J belongs to the utterance: the model runs once, and R cotangents are pulled back
through the same stored activations in one vectorised pass, only as far as the outputs of the
modules with parameters. See ``tape`` for what is recorded, ``rules`` for what follows.
"""

from __future__ import annotations

import fnmatch
import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

import egl_fast.gradients.convolution
import egl_fast.gradients.linear
import egl_fast.gradients.normalization  # noqa: F401  (importing registers the rules)
from egl_fast.errors import ModelError
from egl_fast.gradients.contributions import Contribution, Explicit, combined_sq_norms
from egl_fast.gradients.rules import Pullback
from egl_fast.gradients.tape import Call, Tape, infer, record

_log = logging.getLogger("egl_fast")

#: Cotangent rows (utterances x cotangents) that one backward pass carries. More rows make larger
#: matrix products, but their intermediate results leave the cache.
ROWS_PER_PASS = 128


class GradientEngine:
    """Squared gradient norms over the parameters of one model.

    Args:
        model: any module; only parameters that require a gradient count.
        params: shell pattern (or several, separated by commas) of the names of parameters that
            count; None for all.

    Attributes:
        parameters: those that count, by qualified name, in the model's order.

    Raises:
        ModelError: no parameter is left.
    """

    def __init__(self, model: nn.Module, *, params: str | None = None) -> None:
        self.model = model
        self.parameters = _matching_parameters(model, params)
        self.shares_batches = bool(getattr(model, "utterances_first", False))
        self._said_unruled: set[str] = set()
        self._vectorises = True

    def run(self, *inputs: Any) -> Tape:
        """Run the model once, in evaluation mode, and keep what gradient norms need.

        The model's training mode, hooks and parameters, and the random state, are as they were
        afterwards, also after an exception.
        """
        return record(self.model, inputs, self.parameters)

    def infer(self, *inputs: Any) -> Any:
        """Outputs of the model in evaluation mode, without a graph; leaves everything as it was."""
        return infer(self.model, inputs)

    @torch.no_grad()
    def sq_norms(self, tape: Tape, logits: Tensor, cotangents: Tensor) -> dict[str, Tensor]:
        """Squared norm of each parameter's gradient, for each cotangent.

        Args:
            tape: what ``run`` returned.
            logits: [N, T, C], the tensor among the tape's outputs to pull back from.
            cotangents: [N, R, T, C], zero on padding. N > 1 only for a model that declares
                ``utterances_first``.

        Returns:
            By qualified name, [N, R] float64; the gradient's squared norm is their sum. A
            parameter that the logits do not depend on is left out.

        Raises:
            ModelError: the logits depend on no parameter that counts.
        """
        tape.check_unmodified()
        calls, direct = tape.reachable(logits)
        if not calls and not direct:
            raise ModelError(
                "the model's logits depend on no parameter that counts; are they detached?"
            )
        self._say_unruled(direct)
        num_utterances, num_cotangents = cotangents.shape[:2]
        utterances: list[int | None] = (
            list(range(num_utterances)) if self.shares_batches else [None]
        )
        pullbacks = [[call.prepare(n) for n in utterances] for call in calls]
        totals: dict[str, Tensor] = defaultdict(
            lambda: torch.zeros(num_utterances, num_cotangents, dtype=torch.float64)
        )
        chunk = max(1, ROWS_PER_PASS // num_utterances)
        for start in range(0, num_cotangents, chunk):
            rows = cotangents[:, start : start + chunk].transpose(0, 1)
            at_calls, at_parameters = self._pull_back(logits, rows, calls, direct)
            for position, utterance in enumerate(utterances):
                found = self._contributions(
                    calls,
                    [prepared[position] for prepared in pullbacks],
                    at_calls,
                    utterance,
                )
                for name, value in zip(direct, at_parameters, strict=True):
                    found[name].append(Explicit(value))
                for name, contributions in found.items():
                    totals[name][position, start : start + chunk] = combined_sq_norms(contributions)
        return {name: totals[name] for name in self.parameters if name in totals}

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
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Cotangents [R, *shape] at the calls' outputs, gradients [R, *shape] of ``direct``."""
        edges = [call.edge for call in calls]
        inputs = [*edges, *(get_gradient_edge(parameter) for parameter in direct.values())]

        def pull_one(cotangent: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(logits, inputs, cotangent, retain_graph=True)

        pulled = self._each_row(pull_one, rows.contiguous())
        return list(pulled[: len(calls)]), list(pulled[len(calls) :])

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
                self._vectorises = False
                _log.warning(
                    "this model's backward pass cannot be vectorised, cotangents are pulled back "
                    "one at a time (%s)",
                    str(error).splitlines()[0],
                )
        one_by_one = [pull_one(row) for row in rows]
        return [torch.stack(series) for series in zip(*one_by_one, strict=True)]

    def _say_unruled(self, direct: dict[str, nn.Parameter]) -> None:
        new = [name for name in direct if name not in self._said_unruled]
        if new:
            self._said_unruled.update(new)
            _log.info("no norm rule covers %s: exact gradients by autograd", ", ".join(new))


def _matching_parameters(model: nn.Module, params: str | None) -> dict[str, nn.Parameter]:
    patterns = [p.strip() for p in params.split(",")] if params is not None else ["*"]
    found = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and any(fnmatch.fnmatchcase(name, p) for p in patterns)
    }
    if not found:
        if params is None:
            raise ModelError("the model has no parameter that requires a gradient")
        names = ", ".join(name for name, _ in model.named_parameters())
        raise ModelError(f"params {params!r} matches no trainable parameter of: {names}")
    return found
