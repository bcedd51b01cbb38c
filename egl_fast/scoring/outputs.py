"""What a model has to return, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from egl_fast.errors import ModelError


def model_outputs(
    outputs: Any, *, ids: Sequence[str] | None, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Check what a model returned.

    Args:
        outputs: to be (logits [N, T, C], lengths [N]).
        ids: names of the N utterances; None where N is yet unknown.
        num_classes: C.

    Returns:
        The logits as they are, in the autograd graph, and the lengths as int64 on the CPU.

    Raises:
        ModelError: they have another form; the message says what was expected and what came.
    """
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2:
        raise ModelError(
            f"the model must return (logits [N, T, C], lengths [N]), got {_form(outputs)}"
        )
    logits, lengths = outputs
    if not isinstance(logits, Tensor) or logits.dim() != 3:
        raise ModelError(f"the model's logits: expected [N, T, C], got {_form(logits)}")
    if logits.dtype not in (torch.float32, torch.float64):
        raise ModelError(f"the model's logits: expected float32 or float64, got {logits.dtype}")
    if logits.shape[2] != num_classes:
        raise ModelError(
            f"the model's logits have {logits.shape[2]} classes, the vocabulary has {num_classes}"
        )
    lengths = torch.as_tensor(lengths)
    if lengths.dim() != 1 or lengths.is_floating_point() or lengths.shape[0] != logits.shape[0]:
        raise ModelError(
            f"the model's lengths: expected [{logits.shape[0]}] integers, got {_form(lengths)}"
        )
    lengths = lengths.to("cpu", torch.int64)
    if ids is None:
        return logits, lengths
    if len(ids) != logits.shape[0]:
        raise ModelError(f"got {len(ids)} ids for {logits.shape[0]} utterances")
    for name, length in zip(ids, lengths.tolist(), strict=True):
        if not 1 <= length <= logits.shape[1]:
            raise ModelError(
                f"utterance {name!r}: the model gives it {length} frames of {logits.shape[1]}"
            )
    # -inf rules a class out; a frame needs one that is not. NaN and +inf make a largest of itself.
    broken = ~logits.detach().amax(dim=2).isfinite().cpu()
    broken &= torch.arange(logits.shape[1]) < lengths[:, None]
    for n in broken.any(dim=1).nonzero()[:, 0].tolist():
        raise ModelError(f"utterance {ids[n]!r}: the model's logits are NaN or infinite")
    return logits, lengths


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
