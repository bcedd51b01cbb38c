"""What runs leave behind, without what differs between any two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from egl_fast.checkpoint import read_torch


def timeless(content: Any) -> Any:
    """The content with tensors as bytes, which compare to the bit, and without wall times."""
    if isinstance(content, torch.Tensor):
        return content.dtype, tuple(content.shape), content.numpy().tobytes()
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key != "seconds"}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def state_in(path: Path) -> Any:
    """The content of a torch file, in the same form."""
    return timeless(read_torch(path))
