"""The K most probable labelings of one utterance, from a NumPy array, without torch.

For log-probabilities from ONNX Runtime, TensorRT, or any other runtime. For tensors and batches,
``egl_fast.ops.ctc_beam_search`` runs the same search.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from egl_fast import _native

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]


#: As in csrc/core/emissions.h: how far rounding in single precision may exceed 0.
_MOST_LOG_PROB = 1e-3

#: How far above 1 the sum of 16-bit probabilities may be.
_SUM_ROUNDING = 0.05

#: The search counts prefixes in 32 bits.
_MOST_HYPOTHESES = 2**31 - 1


@dataclass(frozen=True)
class DecodedHypothesis:
    """A labeling and its probability.

    Attributes:
        labels: class indices, never the blank.
        log_prob: natural logarithm of p(labeling | utterance), exact.
        search_log_prob: natural logarithm of the probability that the beam search found: a lower
            bound of ``log_prob``, up to rounding.
    """

    labels: tuple[int, ...]
    log_prob: float
    search_log_prob: float


def ctc_nbest(
    log_probs: npt.ArrayLike, *, k: int = 100, beam_width: int | None = None, blank: int = 0
) -> list[DecodedHypothesis]:
    """The k most probable labelings that a CTC prefix beam search finds.

    The search sums the probability of all alignments of a prefix (Graves et al., 2006; Hannun et
    al., 2014). The labelings it finds are ranked by exact probability; ties are in lexicographic
    order of class indices, a labeling before its own extensions.

    Args:
        log_probs: [T, C] natural logarithms of the classes' probabilities in each frame, including
            the blank, at most 0 except for rounding (0.001). float64 and float32 are used as they
            are, other real types as float32.
        k: labelings wanted, 1 to 2^31 - 1.
        beam_width: prefixes kept after each frame, at least k; None: 10 k, at least 100.
        blank: the blank's class index.

    Returns:
        At most k hypotheses, most probable first; fewer if no more have a probability above 0.

    Raises:
        ValueError: an argument has the wrong shape or value; or a frame's probabilities sum to
            more than 1.
        TypeError: ``k`` or ``blank`` is not an integer.
        ExtensionError: egl-fast's native code is missing or broken.

    Example:
        >>> probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2]])
        >>> best, second = ctc_nbest(np.log(probabilities), k=2)
        >>> best.labels, round(float(np.exp(best.log_prob)), 2)
        ((1,), 0.42)
        >>> second.labels, round(float(np.exp(second.log_prob)), 2)
        ((), 0.3)
    """
    frames = _checked(log_probs)
    k, blank = operator.index(k), operator.index(blank)
    if not 1 <= k <= _MOST_HYPOTHESES:
        raise ValueError(f"k: expected 1 to {_MOST_HYPOTHESES}, got {k}")
    # No width is too large: more than the search can count means all prefixes.
    width = default_beam_width(k) if beam_width is None else min(beam_width, 2**63 - 1)
    if width < k:
        raise ValueError(f"beam_width: expected at least k = {k}, got {width}")
    if not 0 <= blank < frames.shape[1]:
        raise ValueError(f"blank: expected a class in [0, {frames.shape[1]}), got {blank}")
    found = _native.module().ctc_nbest(frames, num_hypotheses=k, beam_width=width, blank=blank)
    return [DecodedHypothesis(one.labels, one.log_prob, one.search_log_prob) for one in found]


def default_beam_width(num_hypotheses: int) -> int:
    """The default beam width for a number of hypotheses.

    docs/beam-width.md says how many of the true K best each width finds, and what it costs.
    """
    return max(10 * num_hypotheses, 100)


def _checked(log_probs: npt.ArrayLike) -> FloatArray:
    values = np.asarray(log_probs)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"log_probs: expected [T, C], got shape {list(values.shape)}")
    if values.dtype.kind not in "fiu":
        raise ValueError(f"log_probs: expected real numbers, got {values.dtype}")
    dtype = np.float64 if values.dtype == np.float64 else np.float32
    # In structured arrays, strides may not be a multiple of the item size.
    if values.dtype != dtype or any(stride % values.itemsize for stride in values.strides):
        values = np.ascontiguousarray(values, dtype=dtype)
    wrong = np.argwhere(~(values <= _MOST_LOG_PROB))
    if len(wrong):
        frame, cls = wrong[0]
        raise ValueError(
            f"log_probs: expected at most 0, except for rounding, got {values[frame, cls]} in "
            f"frame {frame}, class {cls}; use log_softmax if these are logits"
        )
    sums = np.exp(values.astype(np.float64)).sum(axis=1)
    if (sums > 1 + _SUM_ROUNDING).any():
        frame = int(sums.argmax())
        raise ValueError(
            f"log_probs: the probabilities of frame {frame} sum to {sums[frame]:.4g}, not 1; give "
            "natural logarithms, with frames along the first axis"
        )
    return values
