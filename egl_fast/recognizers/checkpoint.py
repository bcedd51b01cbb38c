"""``FILE``: a model file that ``egl-fast train`` wrote."""

from __future__ import annotations

from pathlib import Path

import torch

from egl_fast.checkpoint import Checkpoint, load_checkpoint
from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.front_end import Spectrograms
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.recognizers.vocabulary import Spelling


def load(path: str | Path, *, device: torch.device) -> Recognizer:
    """The recognizer in a model file. Nothing in it is executed.

    Raises:
        CheckpointError: the file is missing, damaged, or not an egl-fast checkpoint.
    """
    return recognizer_of(load_checkpoint(path, device=device))


def recognizer_of(checkpoint: Checkpoint) -> Recognizer:
    """A checkpoint as a recognizer; they share the model."""
    stride = 1
    for shape in checkpoint.model.config.conv_shapes:
        stride *= shape.stride[1]
    features = checkpoint.features
    return Recognizer(
        checkpoint.model,
        classes_of(checkpoint),
        Spectrograms(features),
        sha256=checkpoint.sha256,
        frame_seconds=stride * features.hop_samples / features.sample_rate_hz,
        case="lower" if checkpoint.training.get("lowercase") is True else None,
        trusted=checkpoint.trusted,
    )


def classes_of(checkpoint: Checkpoint) -> Classes:
    """The meaning of the model's outputs; their names are text."""
    names = checkpoint.vocabulary
    return Classes(names, 0, Spelling.literal(names, blank=0))
