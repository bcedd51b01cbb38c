"""Checks what a model returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from egl_fast.compute.devices import computes_on
from egl_fast.errors import ModelError


def model_outputs(
    outputs: Any, *, ids: Sequence[str] | None, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Check what a model returned: (logits [N, T, C], lengths [N]).

    ``ids`` names the utterances; without it, N is not known, and less is checked.

    Returns:
        The logits, unchanged and in the autograd graph, and the lengths as int64 on the CPU.

    Raises:
        ModelError: they have another form; the message says what was expected.
    """
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2:
        raise ModelError(
            f"the model must return (logits [N, T, C], lengths [N]), got {_form(outputs)}"
        )
    logits, lengths = outputs
    if not isinstance(logits, Tensor) or logits.dim() != 3 or logits.layout != torch.strided:
        raise ModelError(f"the model's logits: expected [N, T, C], got {_form(logits)}")
    if logits.dtype not in (torch.float32, torch.float64):
        raise ModelError(
            f"the model's logits: expected float32 or float64, got {logits.dtype}; score the model "
            "in float32, as after model.float()"
        )
    if logits.shape[2] != num_classes:
        raise ModelError(
            f"the model's logits have {logits.shape[2]} classes, the vocabulary has {num_classes}"
        )
    lengths = _integers(lengths, logits)
    if ids is None:
        return logits, lengths
    if len(ids) != logits.shape[0]:
        raise ModelError(f"got {len(ids)} ids for {logits.shape[0]} utterances")
    for name, length in zip(ids, lengths.tolist(), strict=True):
        if not 1 <= length <= logits.shape[1]:
            raise ModelError(
                f"utterance {name!r}: the model's length is {length}, of {logits.shape[1]} frames"
            )
    # -inf excludes a class, but not all of a frame. NaN and +inf are always the maximum.
    broken = ~logits.detach().amax(dim=2).isfinite().cpu()
    broken &= torch.arange(logits.shape[1]) < lengths[:, None]
    for n in broken.any(dim=1).nonzero()[:, 0].tolist():
        raise ModelError(f"utterance {ids[n]!r}: the model's logits are NaN or infinite")
    _refuse_other_scales(logits.detach(), lengths)
    return logits, lengths


def _integers(lengths: Any, logits: Tensor) -> Tensor:
    with suppress(TypeError, ValueError, RuntimeError):  # None, text, ragged lists
        lengths = torch.as_tensor(lengths)
    if (
        not isinstance(lengths, Tensor)
        or lengths.dtype not in _INTEGERS
        or not computes_on(lengths.device)
        or lengths.shape != logits.shape[:1]
    ):
        hint = ""
        if isinstance(lengths, Tensor) and lengths.shape == logits.shape[1:2]:
            hint = f"; are the logits [T, N, C] = {list(logits.shape)}? transpose(0, 1) them"
        raise ModelError(
            f"the model's lengths: expected [{logits.shape[0]}] integers, got {_form(lengths)}"
            + hint
        )
    return lengths.to("cpu", torch.int64)


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

#: Outputs returned by mistake -> how to get probabilities from them, and what to return instead.
_OTHER_SCALES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "probabilities (none is below 0, and those of a frame sum to 1)": (
        lambda x: x,
        "their logarithm",
    ),
    "negated log-probabilities": (lambda x: (-x).exp(), "their negative"),
    "logarithms of probabilities to base 10": (lambda x: 10**x, "natural logarithms"),
    "logarithms of probabilities to base 2": (torch.exp2, "natural logarithms"),
}

#: How far the sum of a frame's probabilities may be from 1 after a softmax in bfloat16.
_SIXTEEN_BITS = 2**-8


def _refuse_other_scales(logits: Tensor, lengths: Tensor) -> None:
    """Refuse outputs that are a distribution over the classes in every frame, but not by softmax.

    Their scores would be wrong, but look plausible. One frame of logits may be a distribution by
    chance, but not all frames of an utterance. The others are checked only if the first frame is
    one, so the check costs little.
    """
    if logits.shape[0] == 0 or logits.shape[2] < 2:
        return
    first = logits[0, 0].double().cpu()
    if _distributions(first.exp(), _SIXTEEN_BITS):
        return  # log-softmax
    for name, (probabilities, remedy) in _OTHER_SCALES.items():
        if not _distributions(probabilities(first), _SIXTEEN_BITS):
            continue
        valid = (torch.arange(logits.shape[1]) < lengths[:, None]).to(logits.device)
        frames = logits[valid].double()
        frames = probabilities(frames[frames.any(dim=1)])  # masked frames may be zero
        # A few frames may be close by chance.
        rounding = logits.shape[2] * torch.finfo(logits.dtype).eps
        if _distributions(frames, _SIXTEEN_BITS if len(frames) >= 4 else rounding):
            raise ModelError(
                f"the model returns {name}, not logits; return {remedy}, or the softmax's input"
            )


def _distributions(values: Tensor, tolerance: float) -> bool:
    return bool((values >= 0).all() and ((values.sum(dim=-1) - 1).abs() <= tolerance).all())


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
