"""Loading a training state from a file, once all of it fits the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from egl_fast.checkpoint import Checkpoint, checkpoint_from_content
from egl_fast.display import shown
from egl_fast.errors import CheckpointError, one_line
from egl_fast.training.run_folder import TrainingState

#: An optimizer's state for a parameter: a number of steps, or numbers of the parameter's shape.
_STEP: Final = "step"
_KEPT: Final[dict[type, tuple[str, ...]]] = {
    torch.optim.AdamW: (_STEP, "exp_avg", "exp_avg_sq"),
    torch.optim.SGD: ("momentum_buffer",),
}


def load_state(
    state: TrainingState, checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, path: Path
) -> None:
    """Give model and optimizer what a state contains of them.

    Args:
        state: read from ``path``.
        checkpoint: the model that is trained; gets weights and facts.
        optimizer: of its parameters; gets its state for each, but keeps its options.
        path: for messages.

    Raises:
        CheckpointError: a part is damaged, or belongs to another model or optimizer; neither has
            changed then.
    """
    loaded = checkpoint_from_content(state.checkpoint, path)
    try:
        if loaded.features != checkpoint.features:
            raise ValueError("belongs to a model with other features")
        if loaded.vocabulary != checkpoint.vocabulary:
            raise ValueError("belongs to a model with another vocabulary")
        if loaded.model.config != checkpoint.model.config:
            raise ValueError("belongs to a model with other sizes")
        for place, metrics in enumerate(state.history, start=1):
            if metrics.epoch != place:
                raise ValueError(f"history: epoch {metrics.epoch} is in place {place}")
        if state.unfinished is not None:
            _check_random_state(state.unfinished.random_state)
        kept = _kept_by(optimizer, state.optimizer)
    except ValueError as error:
        raise CheckpointError(
            f"run state {path}: is damaged ({one_line(error)}); give another --run-dir"
        ) from None
    checkpoint.model.load_state_dict(loaded.model.state_dict())
    checkpoint.training = loaded.training
    optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})


def _check_random_state(value: Tensor) -> None:
    try:
        torch.Generator().set_state(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"random_state: {one_line(error)}") from None


def _kept_by(optimizer: torch.optim.Optimizer, content: Any) -> dict[int, dict[str, Tensor]]:
    """The entries of an optimizer's ``state_dict``, by the parameter's number."""
    kept = content.get("state") if isinstance(content, dict) else None
    if not isinstance(kept, dict):
        raise ValueError(f"optimizer: expected a state for each weight, got {shown(content)}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if kept and set(kept) != set(range(len(parameters))):
        raise ValueError(f"optimizer: expected a state for each of {len(parameters)} weights")
    names = _KEPT[type(optimizer)]
    for number, entry in kept.items():
        if not isinstance(entry, dict) or set(entry) != set(names):
            raise ValueError(f"optimizer: weight {number}: expected {', '.join(names)}")
        for name in names:
            shape = () if name == _STEP else parameters[number].shape
            _check_kept(f"optimizer: weight {number}: {name}", entry[name], shape)
    return kept


def _check_kept(label: str, value: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape != shape:
        raise ValueError(f"{label}: expected numbers of shape {list(shape)}")
    if not bool(value.isfinite().all()):
        raise ValueError(f"{label}: contains NaN or infinity")
    if label.endswith((_STEP, "_sq")) and bool((value < 0).any()):
        raise ValueError(f"{label}: contains a number below 0")
