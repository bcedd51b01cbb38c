"""Embeddings by another way than the command's: each recording alone, with a hook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from egl_fast.checkpoint import load_checkpoint
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest
from egl_fast.embeddings.pooled import pooled


def alone(model: Path, manifest: Path) -> np.ndarray:
    """[n, d] embeddings of a manifest's recordings by a model file."""
    checkpoint = load_checkpoint(model)
    seen: dict[str, torch.Tensor] = {}
    checkpoint.model.output.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    rows = []
    for utterance in read_manifest(manifest):
        spectrogram = load_spectrogram(utterance, checkpoint.features)
        features, lengths = pad_features([spectrogram.features], device=torch.device("cpu"))
        with torch.inference_mode():
            checkpoint.model.eval()(features, lengths)
        rows.append(pooled(seen["x"], torch.tensor([seen["x"].shape[1]])).numpy()[0])
    return np.stack(rows)
