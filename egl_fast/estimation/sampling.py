"""Labelings drawn from the model's own distribution."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from egl_fast.estimation.keys import digest


def sample_labelings(
    log_probs: Tensor, num_samples: int, *, seed: int, name: str, blank: int = 0
) -> list[tuple[int, ...]]:
    """Labelings drawn exactly from p(y|x).

    Frames are conditionally independent under CTC, so one class a frame, collapsed (repeats merged,
    blanks dropped), is a draw from p(y|x) (Graves et al., 2006, eq. 2 and 3).

    Args:
        log_probs: [T, C] of one utterance.
        num_samples: n.
        seed: of the run.
        name: the utterance's id; with the seed it decides the random numbers.
        blank: index of the blank.

    Returns:
        n labelings, in the order drawn; they may repeat.

    Raises:
        ValueError: a frame has NaN or +inf, or no possible class.
    """
    key = int.from_bytes(digest("labelings", seed, name)[:16], "little")
    random = np.random.Generator(np.random.Philox(key=key))
    num_frames, num_classes = log_probs.shape
    cumulative = log_probs.detach().double().exp().cumsum(1).cpu().numpy()
    total = cumulative[:, -1]
    bad = np.flatnonzero(~(np.isfinite(total) & (total > 0)))
    if len(bad):
        raise ValueError(
            f"log_probs: expected probabilities, frame {bad[0]} adds up to {total[bad[0]]}"
        )
    uniform = random.random((num_samples, num_frames)) * total
    # The first class whose cumulative probability exceeds the number. One draw at a time: all of
    # them against all classes would take n T C bytes.
    paths = [
        (draw[:, None] >= cumulative).sum(axis=1).clip(max=num_classes - 1) for draw in uniform
    ]
    return [_collapsed(path.tolist(), blank) for path in paths]


def _collapsed(path: list[int], blank: int) -> tuple[int, ...]:
    pairs = zip([blank, *path], path, strict=False)
    return tuple(label for before, label in pairs if label not in (blank, before))
