"""The settings of a training run, shared by the command line and `simulate`'s TOML files."""

from __future__ import annotations

from dataclasses import dataclass

from egl_fast import kinds
from egl_fast.kinds import of_kind
from egl_fast.training.schedule import SCHEDULES


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the weights, except for data, model, and initialization.

    The help of each field says what it means. Raises ``ValueError``, naming the field, for a value
    that is not of its kind.
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
    batch_seconds: float = of_kind(
        80.0, kinds.Number(above=0), "Seconds of padded audio per batch."
    )
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
    max_grad_norm: float = of_kind(
        100.0, kinds.Number(above=0), "Clip gradients to this Euclidean norm."
    )
    spec_augment: bool = of_kind(False, kinds.boolean, "Mask bands and spans of the spectrogram.")
    speed_perturb: float = of_kind(
        0.0, kinds.Number(at_least=0, at_most=0.5), "Draw the playback speed from 1 -+ this."
    )
    seed: int = of_kind(0, kinds.Integer(), "Seed of everything random.")

    def __post_init__(self) -> None:
        kinds.check_fields(self)
