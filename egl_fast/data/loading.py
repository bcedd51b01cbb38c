"""Utterances to spectrograms, and spectrograms to padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egl_fast.data.audio import Waveform, load_audio
from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.errors import AudioError
from egl_fast.features import FeatureConfig, log_spectrogram


@dataclass(frozen=True)
class Spectrogram:
    """The model's input for one utterance.

    Attributes:
        features: [T, F] float32.
        seconds: length of its audio.
    """

    features: Tensor
    seconds: float


def load_spectrogram(
    utterance: Utterance, config: FeatureConfig, *, max_seconds: float | None = None
) -> Spectrogram:
    """Decode an utterance and compute its features.

    Raises ``AudioError`` if the audio cannot be read, is longer than ``max_seconds``, or shorter
    than one frame.
    """
    waveform = load_audio(utterance, sample_rate_hz=config.sample_rate_hz, max_seconds=max_seconds)
    return spectrogram_of(waveform, config, name=recording_name(utterance.audio_path))


def spectrogram_of(waveform: Waveform, config: FeatureConfig, *, name: str) -> Spectrogram:
    """Features of a mono waveform at the configuration's rate.

    Raises ``AudioError``, calling the waveform ``name``, if it is shorter than one frame or
    overflows.
    """
    seconds = waveform.shape[0] / config.sample_rate_hz
    if config.num_frames(waveform.shape[0]) == 0:
        raise AudioError(
            f"{name}: {seconds * 1000:.1f} ms is too short; one frame takes "
            f"{config.window_seconds * 1000:g} ms"
        )
    features = log_spectrogram(torch.from_numpy(waveform), config)
    if not torch.isfinite(features).all():
        raise AudioError(
            f"{name}: samples of up to {abs(waveform).max():g} overflow (full scale is 1)"
        )
    return Spectrogram(features, seconds)


def pad_features(
    features: Sequence[Tensor], *, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Stack spectrograms of different lengths.

    Args:
        features: N tensors [T_n, F] on the CPU.
        device: where to put the stack; None: on the CPU. A copy to a GPU is asynchronous.

    Returns:
        [N, max T_n, F], zero on padding, and the lengths [N] int64 on the CPU.
    """
    lengths = torch.tensor([f.shape[0] for f in features])
    padded = torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True)
    if device is None:
        return padded, lengths
    if device.type == "cuda":
        # Asynchronous only from pinned memory, which torch keeps until the copy is done.
        return padded.pin_memory().to(device, non_blocking=True), lengths
    return padded.to(device), lengths
