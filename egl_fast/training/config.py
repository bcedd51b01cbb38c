"""The settings of a training run, shared by the command line and `simulate`'s TOML files."""

from __future__ import annotations

from dataclasses import dataclass

from egl_fast import kinds
from egl_fast.kinds import of_kind
from egl_fast.training.schedule import SCHEDULES


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the weights, except for data, model, and initialization.

    Attributes:
        max_epochs: upper limit of epochs.
        patience: stop after this many epochs without a better ``monitor``; 0: never.
        monitor: "loss" or "cer" on the validation set.
        batch_seconds: padded audio per batch.
        optimizer: "adamw", or "sgd" with Nesterov momentum 0.9.
        learning_rate: peak rate.
        weight_decay: decoupled for AdamW, L2 for SGD; not applied to biases and norms.
        schedule: see ``schedule.rate_factor``.
        warm_up_epochs: length of the linear warm-up.
        max_grad_norm: gradients are scaled down to this Euclidean norm.
        spec_augment: masks over frequency and time.
        speed_perturb: playback speed is drawn from 1 -+ this.
        seed: of all random draws.

    Raises:
        ValueError: a value is not of its kind; the message names the field.
    """

    max_epochs: int = of_kind(
        40, kinds.Integer(1), "Maximum number of epochs; the cosine schedule ends there."
    )
    patience: int = of_kind(
        5,
        kinds.Integer(0),
        "Stop after this many epochs without a better validation metric; 0: never.",
    )
    monitor: str = of_kind(
        "loss",
        kinds.OneOf("loss", "cer"),
        "Validation metric that decides which epoch to keep, and when to stop.",
    )
    batch_seconds: float = of_kind(80.0, kinds.Number(above=0))
    optimizer: str = of_kind(
        "adamw", kinds.OneOf("adamw", "sgd"), "AdamW, or SGD with Nesterov momentum 0.9."
    )
    learning_rate: float = of_kind(1e-3, kinds.Number(above=0), "Peak rate.")
    weight_decay: float = of_kind(
        1e-2, kinds.Number(at_least=0), "Decoupled for AdamW, L2 for SGD; not on biases and norms."
    )
    schedule: str = of_kind("cosine", kinds.OneOf(*SCHEDULES), "Learning rate after the warm-up.")
    warm_up_epochs: float = of_kind(
        1.0,
        kinds.Number(at_least=0),
        "Epochs, or a fraction of one, over which the learning rate rises.",
    )
    max_grad_norm: float = of_kind(100.0, kinds.Number(above=0), "Clip gradients to this norm.")
    spec_augment: bool = of_kind(False, kinds.boolean, "Mask bands and spans of the spectrogram.")
    speed_perturb: float = of_kind(
        0.0, kinds.Number(at_least=0, at_most=0.5), "Draw the playback speed from 1 -+ this."
    )
    seed: int = of_kind(0, kinds.Integer())

    def __post_init__(self) -> None:
        kinds.check_fields(self)
