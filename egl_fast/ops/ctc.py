"""Search for labelings, their exact probabilities, and the cotangents of their losses."""

from __future__ import annotations

import torch
from torch import Tensor

from egl_fast import _extension, decoder
from egl_fast.ops.arguments import check_integers, check_same_device
from egl_fast.ops.hypotheses import Hypotheses

#: On a GPU, a beam must fit into the shared memory of a block.
MAX_CUDA_BEAM_WIDTH = 1024

_INT64 = torch.iinfo(torch.int64)


def default_beam_width(num_hypotheses: int, device: torch.device | None = None) -> int:
    """The default ``beam_width`` of ``ctc_beam_search`` on a device; None: the CPU."""
    width = decoder.default_beam_width(num_hypotheses)
    if device is not None and device.type == "cuda":
        # A K beyond the limit is refused by the search.
        width = max(num_hypotheses, min(width, MAX_CUDA_BEAM_WIDTH))
    return width


def as_beam_width(beam_width: int | None, num_hypotheses: int, log_probs: Tensor) -> int:
    """A ``beam_width`` for the operators; one that is too large for them becomes their limit."""
    if beam_width is None:
        beam_width = default_beam_width(num_hypotheses, log_probs.device)
    if isinstance(beam_width, int):
        beam_width = min(beam_width, _INT64.max)
    check_integers(beam_width=beam_width)
    return beam_width


def ctc_beam_search(
    log_probs: Tensor,
    lengths: Tensor,
    *,
    num_hypotheses: int,
    beam_width: int | None = None,
    blank: int = 0,
) -> Hypotheses:
    """The most probable labelings of each utterance under CTC.

    An exact log-add prefix beam search (Graves et al., 2006; Hannun et al., 2014) keeps the
    ``beam_width`` best prefixes after each frame. Those left at the end are ranked by their exact
    probability, ties by labeling order (lexicographic by class index, a labeling before its own
    extensions), and the first ``num_hypotheses`` are returned. If ``beam_width`` is at least the
    number of prefixes with any mass, these are the true best, however small their probabilities:
    a probability counts as 0 only if its logarithm is not a finite float64.

    Labelings of probability 0 are never returned, so there may be fewer than ``num_hypotheses``,
    or none if a frame allows no class. An utterance of length 0 has one labeling, the empty
    one, with log-probability 0.

    Args:
        log_probs: [N, T, C] float32 or float64 of any strides, at most 0 except for rounding
            (0.001). -inf is allowed. A frame's probabilities should sum to 1, as after
            log-softmax; that is not checked.
        lengths: [N] integers in [0, T]. Frames from ``lengths[n]`` on are padding and not read.
        num_hypotheses: K, 1 to 2^31 - 1.
        beam_width: prefixes kept after each frame, at least ``num_hypotheses``, and on a GPU at
            most 1,024; None for ``default_beam_width``.
        blank: the blank's class index, anywhere in [0, C).

    Returns:
        Hypotheses, in new memory.

    Raises:
        ValueError: an argument has a wrong dtype, shape, device or value; NaN or a value above 0
            in ``log_probs`` (the message names utterance, frame and class).

    Example:
        >>> log_probs = torch.tensor([[[0.6, 0.4], [0.5, 0.5]]]).log()
        >>> best = ctc_beam_search(log_probs, torch.tensor([2]), num_hypotheses=2)
        >>> best.labels.tolist(), best.log_prob.exp().mul(10).round().tolist()
        ([[[1], [-1]]], [[7.0, 3.0]])
    """
    check_same_device("log_probs", log_probs, lengths=lengths)
    check_integers(num_hypotheses=num_hypotheses, blank=blank)
    beam_width = as_beam_width(beam_width, num_hypotheses, log_probs)
    found = _extension.operators().ctc_beam_search.default(
        log_probs.detach(), as_int64(lengths), num_hypotheses, beam_width, blank
    )
    return Hypotheses.found(*found)


def ctc_occupancy(
    log_probs: Tensor, lengths: Tensor, hypotheses: Hypotheses, *, blank: int = 0
) -> tuple[Tensor, Tensor]:
    """Exact probability of each hypothesis, and its occupancy.

    ``occupancy[n, k, t, c]`` is the posterior probability that an alignment which collapses to
    hypothesis k has class c at frame t (Graves et al., 2006, eq. 14, summed over the positions of
    c). It sums to 1 over c at each frame.

    Args:
        log_probs: [N, T, C], and other arguments, as for ``ctc_beam_search``.
        lengths: [N] integers in [0, T].
        hypotheses: labelings of the same N utterances; their probabilities are not read.
        blank: the blank's class index.

    Returns:
        ``log_prob`` [N, K] float64 and ``occupancy`` [N, K, T, C] in ``log_probs``'s dtype,
        computed in float64. For unused slots and impossible labelings, -inf and zero; on padding,
        zero.

    Raises:
        ValueError: as ``ctc_beam_search``; or a label is the blank or not a class.
    """
    check_same_device("log_probs", log_probs, lengths=lengths, **hypotheses.by_name)
    check_integers(blank=blank)
    log_prob, occupancy = _extension.operators().ctc_occupancy.default(
        log_probs.detach(), as_int64(lengths), *hypotheses.as_arguments, blank
    )
    return log_prob, occupancy


def ctc_logits_cotangents(
    logits: Tensor, lengths: Tensor, hypotheses: Hypotheses, *, blank: int = 0
) -> tuple[Tensor, Tensor]:
    """Gradient of each hypothesis's negative log-likelihood with respect to the logits.

    ``cotangents[n, k] = softmax(logits[n]) - occupancy_k``. Log-softmax, occupancy and the
    difference are computed in float64: if the model is sure, they nearly cancel. Log-softmax
    output may be given instead of logits, since its softmax is the same.

    Args:
        logits: [N, T, C] float32 or float64 of any strides. -inf excludes a class; each frame
            must have a finite value.
        lengths: [N] integers in [0, T]. Frames from ``lengths[n]`` on are padding and not read.
        hypotheses: labelings of the same N utterances; their probabilities are not read.
        blank: the blank's class index.

    Returns:
        ``log_prob`` [N, K] float64 and ``cotangents`` [N, K, T, C] in ``logits``'s dtype. For
        unused slots and impossible labelings, whose loss has no gradient, -inf and zero; on
        padding, zero.

    Raises:
        ValueError: an argument has a wrong dtype, shape, device or value; NaN, +inf or a frame
            without a finite value in ``logits`` (the message names the utterance).
    """
    check_same_device("logits", logits, lengths=lengths, **hypotheses.by_name)
    check_integers(blank=blank)
    log_prob, cotangents = _extension.operators().ctc_logits_cotangents.default(
        logits.detach(), as_int64(lengths), *hypotheses.as_arguments, blank
    )
    return log_prob, cotangents


def as_int64(lengths: Tensor) -> Tensor:
    """Lengths of any integer type, in the operators' type."""
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths: expected integers [N], got {lengths.dtype}")
    return lengths.to(torch.int64)


def shape_of_search(
    log_probs: Tensor, lengths: Tensor, num_hypotheses: int, *rest: int
) -> tuple[Tensor, ...]:
    """Shapes of what a search returns."""
    N, T, _ = log_probs.shape
    K = num_hypotheses
    return (
        lengths.new_empty(N, K, T),
        lengths.new_empty(N, K),
        log_probs.new_empty(N, K, dtype=torch.float64),
        log_probs.new_empty(N, K, dtype=torch.float64),
        lengths.new_empty(N),
    )


def _shape_of_alignments(
    emissions: Tensor, lengths: Tensor, labels: Tensor, *rest: Tensor | int
) -> tuple[Tensor, Tensor]:
    N, T, C = emissions.shape
    K = labels.shape[1]
    return emissions.new_empty(N, K, dtype=torch.float64), emissions.new_empty(N, K, T, C)


torch.library.register_fake("egl_fast::ctc_beam_search", shape_of_search)
torch.library.register_fake("egl_fast::ctc_occupancy", _shape_of_alignments)
torch.library.register_fake("egl_fast::ctc_logits_cotangents", _shape_of_alignments)
