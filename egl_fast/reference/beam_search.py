"""Textbook CTC prefix beam search: a dictionary of prefixes, every extension scored."""

from __future__ import annotations

import math

from torch import Tensor

Labeling = tuple[int, ...]


def ctc_prefix_beam_search(
    log_probs: Tensor, *, beam_width: int, blank: int = 0
) -> list[tuple[Labeling, float]]:
    """The ``beam_width`` best labelings that a prefix beam search finds.

    Algorithm 1 of Hannun, Maas, Jurafsky and Ng, "First-Pass Large Vocabulary Continuous Speech
    Recognition using Bi-Directional Recurrent DNNs" (2014), without a language model, and with
    sums in the log domain.

    Args:
        log_probs: [T, C], log-softmax over C; T may be 0, entries may be -inf.
        beam_width: prefixes kept after each frame.
        blank: the blank's class index.

    Returns:
        (labeling, log-probability) pairs, best first, ties in the order of Python's tuples. The
        log-probability, never -inf, is that of the alignments the search kept: a lower bound.

    Example:
        >>> import torch
        >>> frames = torch.tensor([[0.6, 0.4], [0.5, 0.5]]).log()
        >>> [labeling for labeling, _ in ctc_prefix_beam_search(frames, beam_width=2)]
        [(1,), ()]
    """
    beam: dict[Labeling, tuple[float, float]] = {(): (0.0, -math.inf)}
    for frame in log_probs.double().tolist():
        grown: dict[Labeling, tuple[float, float]] = {}
        for prefix, (in_blank, in_label) in beam.items():
            total = _log_add(in_blank, in_label)
            for cls, log_prob in enumerate(frame):
                if cls == blank:
                    _add(grown, prefix, blank_mass=total + log_prob)
                elif prefix and cls == prefix[-1]:
                    _add(grown, prefix, label_mass=in_label + log_prob)
                    _add(grown, (*prefix, cls), label_mass=in_blank + log_prob)
                else:
                    _add(grown, (*prefix, cls), label_mass=total + log_prob)
        beam = dict(_best(grown, beam_width))
    return [(prefix, _log_add(*masses)) for prefix, masses in _best(beam, beam_width)]


def _add(
    beam: dict[Labeling, tuple[float, float]],
    prefix: Labeling,
    *,
    blank_mass: float = -math.inf,
    label_mass: float = -math.inf,
) -> None:
    """Adds log mass to the (ends in blank, ends in label) pair of a prefix."""
    in_blank, in_label = beam.get(prefix, (-math.inf, -math.inf))
    beam[prefix] = (_log_add(in_blank, blank_mass), _log_add(in_label, label_mass))


def _best(
    beam: dict[Labeling, tuple[float, float]], beam_width: int
) -> list[tuple[Labeling, tuple[float, float]]]:
    possible = [item for item in beam.items() if _log_add(*item[1]) > -math.inf]
    return sorted(possible, key=lambda item: (-_log_add(*item[1]), item[0]))[:beam_width]


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))
