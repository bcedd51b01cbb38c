"""Embeddings by another way than the command's: each recording alone, with a hook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from egl_fast.checkpoint import load_checkpoint
from egl_fast.data.audio import load_audio
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest
from egl_fast.embeddings.pooled import pooled
from egl_fast.embeddings.spectrum import SIZE, spectrum


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
        row = pooled(seen["x"], torch.tensor([seen["x"].shape[1]])).numpy()[0]
        rate = checkpoint.features.sample_rate_hz
        rows.append(
            np.concatenate([row, spectrum(load_audio(utterance, sample_rate_hz=rate), rate)])
        )
    return np.stack(rows)


def with_spectra(seen: np.ndarray) -> np.ndarray:
    """Embeddings float32 [n, d + SIZE] whose spectra are all the same."""
    return np.pad(seen, ((0, 0), (0, SIZE))).astype(np.float32)
