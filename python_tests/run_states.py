"""What runs leave, without what no two runs have alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from egl_fast.checkpoint import read_torch


def timeless(content: Any) -> Any:
    """Tensors as their bytes, so that all compares equal only to the bit; no wall times."""
    if isinstance(content, torch.Tensor):
        return content.dtype, tuple(content.shape), content.numpy().tobytes()
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key != "seconds"}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def state_in(path: Path) -> Any:
    """What a torch file holds, likewise."""
    return timeless(read_torch(path))
