"""A user's own recognizer: a module, its classes, its front end."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn

WINDOW = 400


class Small(nn.Module):
    """Frames of 400 samples, two layers, logits of five classes, the blank last."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.inner = nn.Linear(WINDOW, 8)
        self.output = nn.Linear(8, num_classes)

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        num_frames = samples.shape[1] // WINDOW
        frames = samples[:, : num_frames * WINDOW].reshape(samples.shape[0], num_frames, WINDOW)
        return self.output((5 * self.inner(frames)).tanh()), lengths // WINDOW


def built(seed: int = 0) -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Small()
    with torch.no_grad():
        model.output.weight.mul_(10)
    return model


def front_end(samples: Tensor) -> tuple[Tensor, Tensor]:
    return samples[None], torch.tensor([samples.shape[0]])


NAMES = ["a", "b", "n", "o", "<blank>"]


def as_tuple() -> Any:
    return built(), {name: index for index, name in enumerate(NAMES) if index < 4} | {"_": 4}


def recognizer() -> dict[str, Any]:
    """What the tests score with; its seed stands for other weights."""
    return {
        "module": built(int(os.environ.get("SMALL_SEED", "0"))),
        "vocabulary": NAMES,
        "blank": "<blank>",
        "front_end": front_end,
        "sample_rate_hz": 16000,
        "frame_seconds": 0.025,
    }


def without_front_end() -> Any:
    return built(), NAMES, None


def module_alone() -> Any:
    return built()


def failing() -> Any:
    raise KeyError("weights")


def misspelled() -> Any:
    return {"module": built(), "vocabulary": NAMES, "font_end": front_end}


def deaf() -> dict[str, Any]:
    """Its front end fails on what is longer than half a second."""

    def hear(samples: Tensor) -> tuple[Tensor, Tensor]:
        if samples.shape[0] > 8000:
            raise ValueError("too long for me")
        return front_end(samples)

    return {**recognizer(), "front_end": hear}


class Scaled(Small):
    """With a parameter that no norm rule covers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(samples * self.scale.cos(), lengths)


def scaled() -> dict[str, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {**recognizer(), "module": Scaled()}


def weight_normed() -> dict[str, Any]:
    """By the older of torch's functions: the weight is a tensor with a graph."""
    model = built()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(model.inner)
    return {**recognizer(), "module": model}


not_a_function = 5
