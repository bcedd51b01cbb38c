"""How any model is called: with positional and named inputs, for logits and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from egl_fast.errors import ModelError

#: The method of Hugging Face models that maps input lengths to numbers of logits frames.
_FRAMES_OF = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")


class ModelInputs(NamedTuple):
    """The arguments of a model's call."""

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = {}

    def items(self) -> list[tuple[int | str, Any]]:
        """All arguments, by position or name."""
        return [*enumerate(self.positional), *self.named.items()]


def call_model(model: nn.Module, inputs: ModelInputs) -> Any:
    """Run a model once.

    Returns:
        (logits, lengths) if the model returns an object with ``logits``, as models of Hugging Face
        do: their lengths are those of ``attention_mask`` in frames or, without a mask, all frames.
        Otherwise whatever the model returns.

    Raises:
        ModelError: there is a mask, but no way to tell how many frames it stands for.
    """
    outputs = model(*inputs.positional, **inputs.named)
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
    if not isinstance(logits, Tensor) or logits.dim() != 3:
        return outputs
    return logits, _lengths(model, inputs.named.get("attention_mask"), logits)


def _lengths(model: nn.Module, mask: Any, logits: Tensor) -> Tensor:
    num_utterances, num_frames = logits.shape[:2]
    if not isinstance(mask, Tensor):
        return logits.new_full((num_utterances,), num_frames).long()
    lengths = mask.sum(dim=-1).long()
    for name in _FRAMES_OF:
        frames_of = getattr(model, name, None)
        if frames_of is not None:
            frames: Tensor = frames_of(lengths)
            return frames.long()
    if mask.shape[-1] == num_frames:
        return lengths
    raise ModelError(
        f"the model returns {num_frames} frames for a mask of {mask.shape[-1]} and does not say "
        "how long each utterance is; wrap it in a module that returns (logits, lengths)"
    )
