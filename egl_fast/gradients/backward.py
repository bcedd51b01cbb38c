"""Autograd for many cotangents at once: rows at one place of a graph, pulled back to others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from egl_fast.compute.memory import is_out_of_memory
from egl_fast.errors import one_line
from egl_fast.gradients.verification import kept_gradients
from egl_fast.warning import warn

#: Where a cotangent arrives, and its shape.
Place: TypeAlias = tuple[GradientEdge, torch.Size]


def leaves(parameters: Mapping[str, nn.Parameter]) -> list[Place]:
    """Where the gradients of parameters arrive."""
    return [(get_gradient_edge(parameter), parameter.shape) for parameter in parameters.values()]


def inside(edge: GradientEdge) -> Place:
    """A place inside the graph."""
    return edge, torch.Size(edge.node._input_metadata[edge.output_nr].shape)


class VectorizedBackward:
    """Backward passes of one model, vectorized over rows unless the model prevents that.

    Attributes:
        keeps_gradients: whether the parameters' ``.grad`` is restored after each pass. The
            comparison with autograd refuses custom functions that set it; before it runs, there
            may be some.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._vectorizes = True
        self.keeps_gradients = True

    def pull_back(
        self, output: Tensor | GradientEdge, rows: Tensor, wanted: Sequence[Place]
    ) -> Sequence[Tensor]:
        """Pull cotangents [R, *] of ``output`` back to other places: [R, *shape] at each.

        At a parameter, that is its gradient, summed over all utterances in ``rows``.
        """
        if not wanted:
            return []
        inputs = [edge for edge, _ in wanted]

        def pull_one(cotangent: Tensor) -> tuple[Tensor, ...]:
            found = torch.autograd.grad(
                output, inputs, cotangent, retain_graph=True, allow_unused=True
            )
            # A custom function may return None to stop the gradient, an embedding a sparse one.
            return tuple(
                cotangent.new_zeros(shape)
                if gradient is None
                else (gradient.to_dense() if gradient.layout != torch.strided else gradient)
                for gradient, (_, shape) in zip(found, wanted, strict=True)
            )

        with kept_gradients(self._model.parameters() if self.keeps_gradients else ()):
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
        if self._vectorizes:  # so the vectorization failed
            self._vectorizes = False
            warn(
                "this model's backward pass cannot be vectorized, so cotangents are pulled back "
                f"one at a time ({reason})"
            )
        return [torch.stack(series) for series in zip(*one_by_one, strict=True)]
