"""One utterance of a batch for a model that cannot share its forward pass."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

_log = logging.getLogger("egl_fast")


def sliced(model_inputs: tuple[Any, ...], index: int, num_utterances: int) -> tuple[Any, ...]:
    """The inputs of one utterance: tensors whose first dimension is N are sliced, others whole."""
    return tuple(
        x[index : index + 1]
        if isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == num_utterances
        else x
        for x in model_inputs
    )


def compare_with_batch(alone: Any, together: Any, n: int, name: str) -> None:
    """Warn where an utterance's own logits are not those it has in the caller's batch.

    Its neighbours or its padding reach it, or an input that all utterances share has been sliced
    because its first dimension happens to be N.
    """
    (own, [length]), (logits, lengths) = alone, together
    same = int(length) == int(lengths[n])
    if same:
        rows = logits[n, : int(length)]
        # A thousandth of the largest logit is far beyond rounding.
        gap = (own.detach()[0, : int(length)] - rows).abs().nan_to_num(0.0, 0.0, 0.0).amax()
        same = bool(gap <= 1e-3 * rows.abs().nan_to_num(0.0, 0.0, 0.0).amax() + 1e-6)
    if not same:
        _log.warning(
            "utterance %r has other logits alone than in its batch: it is scored alone", name
        )
