"""Training batches: decoded ahead, augmented, padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from egl_fast.data.audio import load_audio
from egl_fast.data.loading import pad_features, spectrogram_of
from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.data.reading import decoders_beside, read_ahead
from egl_fast.errors import EglError
from egl_fast.features import FeatureConfig
from egl_fast.training.augment import change_speed, spec_augment, utterance_rng
from egl_fast.training.examples import Example


class Batch(NamedTuple):
    """N utterances that share a step.

    Attributes:
        examples: the utterances; none if there are fewer than processes. ``features`` then are a
            frame of silence, since every process takes part in every step.
        features: [N, max T, F], zero on padding, on the model's device.
        lengths: [N] int64 on the CPU.
        labels: int64, those of all utterances, concatenated.
        label_lengths: [N].
    """

    examples: Sequence[Example]
    features: Tensor
    lengths: Tensor
    labels: Tensor
    label_lengths: Tensor


def training_batches(
    plan: Sequence[Sequence[Example]],
    features: FeatureConfig,
    *,
    epoch: int,
    seed: int,
    speed_perturb: float,
    with_masks: bool,
    device: torch.device,
) -> Iterator[Batch]:
    """The batches of a plan, in order; all randomness depends on seed, epoch, and utterance alone.

    Args:
        plan: the examples of each batch.
        features: how to make the model's input.
        epoch: from 1.
        seed: of all random draws.
        speed_perturb: playback speed is drawn from 1 -+ this.
        with_masks: apply ``spec_augment``.
        device: the model's.

    Raises:
        AudioError: a recording cannot be read.
    """

    def load(utterance: Utterance) -> Tensor:
        rng = utterance_rng(seed, epoch, utterance.id)
        waveform = load_audio(utterance, sample_rate_hz=features.sample_rate_hz)
        if speed_perturb > 0:
            changed = change_speed(waveform, 1 + speed_perturb * rng.uniform(-1, 1))
            # A recording of one frame has none left if it is played back faster.
            if features.num_frames(changed.shape[0]) > 0:
                waveform = changed
        name = recording_name(utterance.audio_path)
        found = spectrogram_of(waveform, features, name=name).features
        return spec_augment(found, rng) if with_masks else found

    order = [example.utterance for batch in plan for example in batch]
    loaded = read_ahead(load, order, num_threads=decoders_beside(device))
    for batch in plan:
        spectrograms = []
        for found in islice(loaded, len(batch)):
            if isinstance(found, EglError):
                raise found
            spectrograms.append(found)
        texts = [example.labels for example in batch]
        if not batch:
            spectrograms, texts = [torch.zeros(1, features.num_bins)], [[]]
        padded, lengths = pad_features(spectrograms, device=device)
        yield Batch(
            batch,
            padded,
            lengths,
            torch.tensor([label for text in texts for label in text], dtype=torch.int64),
            torch.tensor([len(text) for text in texts]),
        )
