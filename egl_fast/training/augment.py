"""Augmentation of training audio; all randomness comes from generators that the caller seeds."""

from __future__ import annotations

import numpy as np
import soxr
import torch
from torch import Tensor

from egl_fast.data.audio import Waveform
from egl_fast.hashing import hashed


def spec_augment(
    features: Tensor,
    rng: np.random.Generator,
    *,
    num_frequency_masks: int = 2,
    max_bins: int = 27,
    num_time_masks: int = 2,
    max_frames: int = 40,
    max_time_fraction: float = 0.1,
) -> Tensor:
    """A copy of ``features`` [T, F] with some bands and spans set to 0, the mean by construction.

    A span is at most ``max_frames`` long, and ``max_time_fraction`` of the utterance. Source: Park
    et al., "SpecAugment", 2019, without time warping.
    """
    masked = features.clone()
    num_frames, num_bins = features.shape
    for _ in range(num_frequency_masks):
        width = int(rng.integers(0, min(max_bins, num_bins) + 1))
        start = int(rng.integers(0, num_bins - width + 1))
        masked[:, start : start + width] = 0.0
    longest = min(max_frames, int(max_time_fraction * num_frames))
    for _ in range(num_time_masks):
        width = int(rng.integers(0, longest + 1))
        start = int(rng.integers(0, num_frames - width + 1))
        masked[start : start + width] = 0.0
    return masked


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """Play a waveform ``factor`` times faster, pitch included (Ko et al., 2015)."""
    resampled: Waveform = soxr.resample(waveform, factor, 1.0, quality="MQ")
    return resampled


def utterance_rng(seed: int, epoch: int, identity: str) -> np.random.Generator:
    """Random numbers for one utterance in one epoch, independent of the others' order."""
    return np.random.default_rng(int.from_bytes(hashed(seed, epoch, identity)[:8], "little"))


def seed_epoch(seed: int, epoch: int) -> np.random.Generator:
    """Seed torch (dropout) for an epoch; numpy's generator for the order of its batches."""
    epoch_seed = int.from_bytes(hashed(seed, epoch)[:7], "little")
    torch.manual_seed(epoch_seed)
    return np.random.default_rng(epoch_seed)


def seed_step(seed: int, epoch: int, batch: int, rank: int) -> None:
    """Seed torch (dropout) for one of several processes that share a batch."""
    torch.manual_seed(int.from_bytes(hashed(seed, epoch, batch, rank)[:7], "little"))
