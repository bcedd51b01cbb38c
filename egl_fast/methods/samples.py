"""Labelings drawn from the model."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from torch import Tensor

from egl_fast.methods.keys import labelings_key

Labels: TypeAlias = tuple[int, ...]


def sample_labelings(
    log_probs: Tensor, num_samples: int, *, seed: int, name: str, blank: int = 0
) -> list[Labels]:
    """Labelings drawn exactly from p(y|x), in the order drawn; they may repeat.

    Frames are conditionally independent under CTC, so one class drawn per frame, collapsed (repeats
    merged, blanks dropped), is a draw from p(y|x) (Graves et al., 2006, eq. 2 and 3). The first
    draws do not depend on how many follow.

    Args:
        log_probs: [T, C] of one utterance.
        num_samples: n.
        seed: of the run.
        name: the utterance's id.
        blank: index of the blank.

    Raises:
        ValueError: a frame has NaN or +inf, or no possible class.
    """
    random = np.random.Generator(np.random.Philox(key=labelings_key(seed, name)))
    num_frames, num_classes = log_probs.shape
    cumulative = log_probs.detach().double().exp().cumsum(1).cpu().numpy()
    total = cumulative[:, -1]
    bad = np.flatnonzero(~(np.isfinite(total) & (total > 0)))
    if len(bad):
        raise ValueError(
            f"log_probs: expected probabilities, frame {bad[0]} adds up to {total[bad[0]]}"
        )
    uniform = random.random((num_samples, num_frames)) * total
    paths = np.empty((num_samples, num_frames), dtype=np.int64)
    for t in range(num_frames):
        # The first class whose cumulative probability exceeds the random number.
        paths[:, t] = np.searchsorted(cumulative[t], uniform[:, t], side="right")
    np.minimum(paths, num_classes - 1, out=paths)
    kept = paths != blank
    kept[:, 1:] &= paths[:, 1:] != paths[:, :-1]
    return [tuple(path[own].tolist()) for path, own in zip(paths, kept, strict=True)]
