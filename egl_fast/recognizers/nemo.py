"""``nemo:FILE.nemo``: a CTC model of NVIDIA NeMo, where NeMo is installed."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egl_fast.errors import MissingExtraError, ModelError, one_line
from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.identity import identity_of
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.recognizers.tokenizer_file import Encode, refusing_unknown


class _EncoderAndDecoder(nn.Module):
    """What NeMo's own ``forward`` runs after the preprocessor, in evaluation mode."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[N, F, S] features and lengths [N] to log-probabilities [N, T, C] and lengths [N]."""
        # More follows where a streaming encoder also returns its cache.
        encoded, frames, *_ = self.encoder(audio_signal=features, length=lengths)
        return self.decoder(encoder_output=encoded), frames


def load(path: str, *, device: torch.device) -> Recognizer:
    """The recognizer in a ``.nemo`` file: a CTC model, or the CTC half of a hybrid one.

    Raises:
        MissingExtraError: NeMo is not installed.
        ModelError: there is no such file, NeMo cannot load it, or it is not a CTC model.
    """
    name = f"model nemo:{path}"
    if not Path(path).is_file():
        raise ModelError(f"{name}: no such file; give a .nemo file")
    with redirect_stdout(sys.stderr):  # NeMo's log would end up among our results
        try:
            models: Any = import_module("nemo.collections.asr.models")
        except ImportError as error:
            raise MissingExtraError(
                f"{name}: needs NeMo ({one_line(error)}): pip install 'nemo_toolkit[asr]'"
            ) from None
        import_module("nemo.utils").logging.setLevel("ERROR")
        try:
            model = models.ASRModel.restore_from(path, map_location="cpu")
        except Exception as error:
            raise ModelError(
                f"{name}: NeMo cannot load it ({type(error).__name__}: {one_line(error)[:300]})"
            ) from error
    decoder = getattr(model, "ctc_decoder", None) or getattr(model, "decoder", None)
    names = list(getattr(decoder, "vocabulary", None) or ())
    if not names or not hasattr(model, "preprocessor"):
        raise ModelError(
            f"{name}: is a {type(model).__name__}, which has no CTC decoder; give a CTC model, or "
            "a hybrid one"
        )
    assert decoder is not None
    # Without what only training runs: losses, metrics, and the other half of a hybrid.
    module = _EncoderAndDecoder(model.encoder, decoder).to(device).eval()
    preprocessor, config = model.preprocessor.eval(), model.cfg.preprocessor

    def features(samples: Tensor) -> Any:
        return preprocessor(input_signal=samples[None], length=torch.tensor([samples.shape[0]]))

    classes = Classes.of([*names, "<blank>"], len(names), encode=_encode(model))
    settings = {
        "class": type(model).__name__,
        "vocabulary": names,
        "preprocessor": {key: str(value) for key, value in config.items()},
        "encoder": {key: str(value) for key, value in model.cfg.encoder.items()},
    }
    recognizer = Recognizer.of(
        module,
        classes.vocabulary,
        features,
        sample_rate_hz=int(config.sample_rate),
        blank=classes.blank,
        sha256=identity_of(module, settings),
        frame_seconds=_frame_seconds(model),
    )
    return replace(recognizer, classes=classes, case=classes.case, presets={"head": "decoder.*"})


def _encode(model: Any) -> Encode | None:
    """From a text to its labels; None for models of characters, and of several languages."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or hasattr(tokenizer, "tokenizers_dict"):
        return None
    return refusing_unknown(tokenizer.text_to_ids, getattr(tokenizer, "unk_id", None))


def _frame_seconds(model: Any) -> float | None:
    hop = model.cfg.preprocessor.get("window_stride")
    factor = getattr(model.encoder, "subsampling_factor", None)
    return None if hop is None or factor is None else float(hop * factor)
