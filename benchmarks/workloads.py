"""Models and inputs that benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from egl_fast import Scorer
from egl_fast.benchmarking.recordings import Recording
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.features import FeatureConfig
from egl_fast.model import DeepSpeech2, preset
from egl_fast.recognizers.recognizer import Recognizer


@cache
def trained_scorer(model_file: Path) -> Scorer:
    """A scorer of a model file."""
    return Scorer.from_checkpoint(model_file)


@cache
def random_scorer(preset_name: str, model_file: Path) -> Scorer:
    """A scorer of a preset with random weights, over the classes and features of a model file."""
    return with_random_weights(trained_scorer(model_file), preset_name)


def with_random_weights(trained: Scorer, preset_name: str, *, sharp: bool = False) -> Scorer:
    """A preset with random weights in the place of a trained model.

    Args:
        trained: says which classes, features, device, and precision.
        preset_name: of the model.
        sharp: whether to ``sharpen`` it.
    """
    torch.manual_seed(0)
    model = DeepSpeech2(preset(preset_name)).eval().to(trained.device)
    if sharp:
        sharpen(model)
    vocabulary = trained.classes.vocabulary
    return Scorer(model, vocabulary, features=trained.features, precision=trained.precision)


def sharpen(model: nn.Module) -> None:
    """Scale up the output layer of random weights, whose logits are flatter than a trained model's.

    A search in flat logits is the hardest there is, and would dominate whatever is timed.
    """
    *_, output = (module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        output.weight.mul_(30)


def inputs_of(scorer: Scorer, *utterances: Utterance) -> tuple[Tensor, Tensor]:
    """Inputs of a model's call: padded features [N, T, F] and lengths [N]."""
    assert scorer.features is not None
    return pad_features([load_spectrogram(one, scorer.features).features for one in utterances])


def evenly(pool: list[Utterance], count: int) -> list[Utterance]:
    """At most ``count`` utterances, at equal distances from the first on."""
    return pool[:: max(1, len(pool) // count)][:count]


def recordings_of_two_seconds(pool: Path, count: int, recognizer: Recognizer) -> list[Recording]:
    """The recordings whose length is nearest to two seconds."""

    def distance(utterance: Utterance) -> float:
        return abs((utterance.duration_seconds or 0.0) - 2.0)

    nearest = sorted(read_manifest(pool), key=distance)[:count]
    return [Recording.of(one.id, partial(recognizer.load, one)) for one in nearest]


def emissions(scorer: Scorer, pool: Path, *, count: int, num_frames: int) -> list[Tensor]:
    """``count`` logits [1, T, C] of real speech, from as many recordings as it takes."""
    utterances = read_manifest(pool)
    found = []
    for start in range(0, len(utterances), max(1, len(utterances) // count))[:count]:
        parts: list[Tensor] = []
        while sum(map(len, parts)) < num_frames:
            inputs = inputs_of(scorer, utterances[(start + len(parts)) % len(utterances)])
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


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with this many of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
