"""Turns a waveform into the log-spectrogram that the model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from egl_fast import kinds

#: The longest window, and so the largest Fourier transform: 1.4 s at 48 kHz.
MAX_WINDOW_SAMPLES: Final = 2**16

#: How many windows may overlap at a sample, which bounds the memory for a second of audio.
MAX_OVERLAP: Final = 100


@dataclass(frozen=True)
class FeatureConfig:
    """How a waveform becomes a spectrogram; part of the checkpoint, so that the two always match.

    Attributes:
        sample_rate_hz: rate that audio is resampled to.
        window_seconds: length of the Hann window and the Fourier transform.
        hop_seconds: distance between the starts of frames.
        power_floor: added to the power before the logarithm; about the power of one quantization
            step of 16-bit audio, so that digital silence stays finite.
        std_floor: smallest standard deviation (nats) that a recording is divided by, so that
            silence is not amplified into noise.

    Raises:
        ValueError: a field has the wrong type or is out of range, the window or the hop is less
            than one sample, the window is too long, or too many windows overlap.
    """

    sample_rate_hz: int = kinds.of_kind(16000, kinds.Integer(1, at_most=384_000))
    window_seconds: float = kinds.of_kind(0.02, kinds.Number(above=0, at_most=1e5))
    hop_seconds: float = kinds.of_kind(0.01, kinds.Number(above=0, at_most=1e5))
    power_floor: float = kinds.of_kind(1e-7, kinds.Number(at_least=1e-30, at_most=1))
    std_floor: float = kinds.of_kind(0.1, kinds.Number(at_least=1e-6, at_most=1e6))

    def __post_init__(self) -> None:
        kinds.check_fields(self)
        for name, samples in (("window", self.window_samples), ("hop", self.hop_samples)):
            if samples < 1:
                seconds = getattr(self, f"{name}_seconds")
                raise ValueError(
                    f"{name}_seconds: {seconds:g} s is less than a sample at "
                    f"{self.sample_rate_hz} Hz"
                )
        if self.window_samples > MAX_WINDOW_SAMPLES:
            raise ValueError(
                f"window_seconds: expected at most {MAX_WINDOW_SAMPLES} samples, "
                f"got {self.window_samples}"
            )
        if self.window_samples > MAX_OVERLAP * self.hop_samples:
            raise ValueError(
                f"hop_seconds: expected at least 1/{MAX_OVERLAP} of the window's "
                f"{self.window_seconds:g} s, got {self.hop_seconds:g} s"
            )

    @property
    def window_samples(self) -> int:
        """Samples of one frame."""
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples between the starts of two frames."""
        return round(self.hop_seconds * self.sample_rate_hz)

    @property
    def num_bins(self) -> int:
        """Frequency bins F of the spectrogram."""
        return self.window_samples // 2 + 1

    def num_frames(self, num_samples: int) -> int:
        """Whole windows in ``num_samples`` samples."""
        return max(0, 1 + (num_samples - self.window_samples) // self.hop_samples)


def log_spectrogram(waveform: Tensor, config: FeatureConfig) -> Tensor:
    """Log power spectrogram, each bin centered over the recording, which has unit variance.

    A recording is normalized by itself, so its features never depend on its batch.

    Args:
        waveform: [S] float, mono, at ``config.sample_rate_hz``, full scale = 1.
        config: window, hop, and floors.

    Returns:
        [T, F] in the waveform's dtype, T = ``config.num_frames(S)``.

    Raises:
        ValueError: the waveform is not one-dimensional, or shorter than one window.
    """
    if waveform.dim() != 1:
        raise ValueError(f"waveform: expected shape [S], got {list(waveform.shape)}")
    if config.num_frames(waveform.shape[0]) == 0:
        raise ValueError(
            f"waveform: {waveform.shape[0]} samples are fewer than the "
            f"{config.window_samples} of one frame"
        )
    window = torch.hann_window(config.window_samples, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.stft(
        waveform,
        n_fft=config.window_samples,
        hop_length=config.hop_samples,
        window=window,
        center=False,
        return_complex=True,
    )
    # Divided by the window's energy, so that the floor does not depend on the window's length.
    power = spectrum.abs().square() / window.square().sum()
    log_power = (power + config.power_floor).log().transpose(0, 1)
    centered = log_power - log_power.mean(dim=0)
    std = centered.square().mean().sqrt().clamp_min(config.std_floor)
    return (centered / std).contiguous()
