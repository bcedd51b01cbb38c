"""The embedding of an utterance, from the forward pass that scores it."""

from __future__ import annotations

from torch import Tensor

from egl_fast.embeddings.pooled import pooled
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.gradients.tape import Tape


def embeddings_of(tape: Tape, lengths: Tensor) -> Tensor:
    """[N, d] float32 on the CPU: the output layer's input, pooled over each utterance's frames.

    If the output layer is not a plain linear layer, or its parameters do not count, the
    log-probabilities are pooled instead, which say less.

    Args:
        tape: of a forward pass whose first output is logits [N, T, C].
        lengths: [N] valid frames.
    """
    layer = output_layer_of(tape)
    inputs = tape.logits.detach().double().log_softmax(2) if layer is None else layer.inputs
    return pooled(inputs, lengths)
