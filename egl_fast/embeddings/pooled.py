"""The embedding of an utterance: the output layer's input, pooled over frames."""

from __future__ import annotations

import torch
from torch import Tensor


def pooled(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Mean and standard deviation over an utterance's own frames.

    Args:
        inputs: [N, T, I], of the output layer; any values beyond an utterance's length.
        lengths: [N] frames, at least 1 each.

    Returns:
        [N, 2 I] float32 on the CPU, the means first. The sums run in float64, so that padding and
        neighbors change nothing beyond the rounding of ``inputs`` themselves.
    """
    frames = torch.arange(inputs.shape[1], device=inputs.device)
    lengths = lengths.to(inputs.device)
    valid = (frames < lengths[:, None])[:, :, None]
    values = torch.where(valid, inputs.detach(), 0).double()
    counts = lengths[:, None].double()
    mean = values.sum(1) / counts
    variance = (torch.where(valid, values - mean[:, None], 0)).square().sum(1) / counts
    return torch.cat([mean, variance.sqrt()], dim=1).float().cpu()
