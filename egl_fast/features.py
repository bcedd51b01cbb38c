"""From a waveform to the log-spectrogram that the model reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureConfig:
    """How a waveform becomes a spectrogram; stored in the checkpoint, so that both always fit.

    Attributes:
        sample_rate_hz: rate that audio is resampled to.
        window_seconds: length of the Hann window, and of the Fourier transform.
        hop_seconds: distance between the starts of two frames.
        power_floor: added to the power before the logarithm; about the power of one
            quantisation step of 16-bit audio, so that digital silence stays finite.
        std_floor: smallest standard deviation (nats) that a clip is divided by, so that
            silence is not blown up into noise.
    """

    sample_rate_hz: int = 16000
    window_seconds: float = 0.02
    hop_seconds: float = 0.01
    power_floor: float = 1e-7
    std_floor: float = 0.1

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
        """Whole windows that fit into ``num_samples`` samples; 0 where not even one does."""
        return max(0, 1 + (num_samples - self.window_samples) // self.hop_samples)


def log_spectrogram(waveform: Tensor, config: FeatureConfig) -> Tensor:
    """Log power spectrogram, each bin centred over the clip, the clip scaled to unit variance.

    A clip is normalised by itself alone, so its features never depend on its batch.

    Args:
        waveform: [S] float, mono, at ``config.sample_rate_hz``, full scale = 1.
        config: window, hop and floors.

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
    # Dividing by the window's energy makes the floor mean the same for every window length.
    power = spectrum.abs().square() / window.square().sum()
    log_power = (power + config.power_floor).log().transpose(0, 1)
    centred = log_power - log_power.mean(dim=0)
    std = centred.square().mean().sqrt().clamp_min(config.std_floor)
    return (centred / std).contiguous()
