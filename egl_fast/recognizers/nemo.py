"""``nemo:FILE.nemo``: a CTC model of NVIDIA NeMo, where NeMo is installed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egl_fast.errors import MissingExtraError, ModelError, one_line
from egl_fast.recognizers.identity import identity_of
from egl_fast.recognizers.recognizer import Recognizer


class _WithLogits(nn.Module):
    """NeMo's model as one that returns (logits, lengths)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[N, S] samples and lengths [N] to log-probabilities [N, T, C] and lengths [N]."""
        log_probs, frames, _ = self.model(input_signal=samples, input_signal_length=lengths)
        return log_probs, frames


def load(path: str, *, device: torch.device) -> Recognizer:
    """The recognizer in a ``.nemo`` file.

    Raises:
        MissingExtraError: NeMo is not installed.
        ModelError: there is no such file, NeMo cannot load it, or it is not a CTC model.
    """
    name = f"model nemo:{path}"
    if not Path(path).is_file():
        raise ModelError(f"{name}: no such file; give a .nemo file")
    try:
        models: Any = import_module("nemo.collections.asr.models")
    except ImportError as error:
        raise MissingExtraError(
            f"{name}: needs NeMo ({one_line(error)}): pip install 'nemo_toolkit[asr]'"
        ) from None
    try:
        model = models.ASRModel.restore_from(path, map_location=device)
    except Exception as error:
        raise ModelError(
            f"{name}: NeMo cannot load it ({type(error).__name__}: {one_line(error)})"
        ) from error
    decoder = getattr(model, "decoder", None)
    names = list(getattr(decoder, "vocabulary", None) or ())
    if not names or not hasattr(model, "preprocessor"):
        raise ModelError(
            f"{name}: is a {type(model).__name__}, which has no CTC decoder; give a CTC model"
        )
    model.preprocessor.featurizer.dither = 0.0  # or scores would differ from run to run
    module = _WithLogits(model).to(device).eval()
    rate = int(model.cfg.preprocessor.sample_rate)
    settings = {"vocabulary": names, "sample_rate_hz": rate, "class": type(model).__name__}
    return Recognizer.of(
        module,
        [*names, "<blank>"],  # which is always the last class
        lambda samples: (samples[None], torch.tensor([samples.shape[0]])),
        sample_rate_hz=rate,
        blank=len(names),
        sha256=identity_of(module, settings),
    )
