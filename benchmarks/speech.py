"""Models and inputs that benchmarks share."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from egl_fast import Scorer
from egl_fast.benchmarking.recordings import Recording
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.features import FeatureConfig
from egl_fast.model import DeepSpeech2, preset


@cache
def trained_scorer(model_file: Path) -> Scorer:
    """A scorer of a model file."""
    return Scorer.from_checkpoint(model_file)


@cache
def random_scorer(preset_name: str, model_file: Path) -> Scorer:
    """A scorer of a preset with random weights, over the classes and features of a model file."""
    trained = trained_scorer(model_file)
    torch.manual_seed(0)
    model = DeepSpeech2(preset(preset_name)).eval()
    return Scorer(model, trained.classes.vocabulary, features=trained.features)


def clips_of_two_seconds(pool: Path, count: int, features: FeatureConfig) -> list[Recording]:
    """The recordings whose length is nearest to two seconds."""

    def distance(utterance: Utterance) -> float:
        return abs((utterance.duration_seconds or 0.0) - 2.0)

    nearest = sorted(read_manifest(pool), key=distance)[:count]
    return [Recording.of(one.id, partial(load_spectrogram, one, features)) for one in nearest]


def emissions(scorer: Scorer, pool: Path, *, count: int, num_frames: int) -> list[Tensor]:
    """``count`` logits [1, T, C] on real speech, clip after clip until there are enough frames."""
    assert scorer.features is not None
    utterances = read_manifest(pool)
    found = []
    for start in range(0, len(utterances), max(1, len(utterances) // count))[:count]:
        parts: list[Tensor] = []
        while sum(map(len, parts)) < num_frames:
            utterance = utterances[(start + len(parts)) % len(utterances)]
            inputs = pad_features([load_spectrogram(utterance, scorer.features).features])
            with torch.inference_mode():
                parts.append(scorer.model.eval()(*inputs)[0][0])
        found.append(torch.cat(parts)[None, :num_frames].clone())
    return found


def noise(seconds: float, features: FeatureConfig) -> tuple[Tensor, Tensor]:
    """Inputs of a model's call of a given length; what norms cost depends on lengths alone."""
    num_frames = features.num_frames(round(seconds * features.sample_rate_hz))
    generator = torch.Generator().manual_seed(0)
    spectrogram = torch.randn(1, num_frames, features.num_bins, generator=generator)
    return spectrogram, torch.tensor([num_frames])
