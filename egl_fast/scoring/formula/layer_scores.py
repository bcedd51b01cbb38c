"""How much each layer of a model contributes to an utterance's scores.

Squared norms and inner products of gradients are sums over parameters, and scores are affine
functions of them. So a layer's part is the score of its own sums, minus the constant term. That
term is the output layer's known contribution, and is added to that layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from egl_fast.gradients.layers import layers_of
from egl_fast.records import ScoreRecord
from egl_fast.scoring.formula.estimates import estimates
from egl_fast.scoring.formula.search import Searched


@dataclass(frozen=True)
class LayerProducts:
    """Sums over each layer's parameters, of a batch."""

    products: dict[str, Tensor]  # [N, R] squared norms or [N, R, R] inner products, on the CPU
    output: str | None  # the output layer, if the method knows its norms in advance

    @classmethod
    def of(
        cls, model: nn.Module, by_parameter: Mapping[str, Tensor], output_layer: Sequence[str]
    ) -> LayerProducts:
        """From the sums of each parameter; ``output_layer`` names the output layer's parameters."""
        layers = layers_of(model, by_parameter)
        output = next((layer for layer, own in layers.items() if {*own} & {*output_layer}), None)
        products = {
            layer: sum(by_parameter[name] for name in own).cpu()  # type: ignore[union-attr]
            for layer, own in layers.items()
        }
        return cls(products, output)

    def divided(self, record: ScoreRecord, n: int, one: Searched, share: Tensor) -> ScoreRecord:
        """The record of utterance n, with its scores by layer.

        ``share`` is the output layer's contribution to the utterance's sums over all parameters.
        """
        nothing = torch.zeros_like(share)
        constant = _values(one, nothing, nothing)
        parts: tuple[dict[str, float], ...] = ({}, {})
        for layer, products in self.products.items():
            is_output = layer == self.output
            values = _values(one, products[n], share if is_output else nothing)
            for part, value, known in zip(parts, values, constant, strict=False):
                part[layer] = value if is_output else value - known
        return replace(record, by_layer=parts[0], by_layer_full=parts[1] or None)


def _values(one: Searched, products: Tensor, output_share: Tensor) -> tuple[float, ...]:
    """``egl``, and ``egl_full`` if it is asked for."""
    best, _, beyond = estimates(one, products, output_share)
    egl = float(one.log_prob.exp().sum()) * best.value
    return (egl,) if beyond is None else (egl, egl + beyond.value)
