"""Typed functions over the native operators, with their shape and batching rules; no policy.

Letters: N utterances, T frames, C classes with blank, K hypotheses, U labels, H hidden units, R
cotangents. All operators run on CPU tensors, spread their work over torch's threads, and give the
same result for an utterance whatever else is in the batch and however it is padded; the search and
the CTC operators to the last bit, for any number of threads. Results are cut off from autograd's
graph: what these functions compute are gradients already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from egl_fast import _extension as _extension  # registers torch.ops.egl_fast

RecurrentCell = Literal["rnn", "gru", "lstm"]


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """The K best labelings of each utterance, best first by exact probability.

    Slots from ``counts[n]`` on are unused: length 0, labels -1, log-probabilities -inf. A used slot
    of length 0 is the empty labeling.

    Attributes:
        labels: [N, K, U] int64, class indices padded with -1; U is the longest labeling's length.
        label_lengths: [N, K] int64.
        log_prob: [N, K] float64, exact natural logarithm of p(labeling | utterance).
        search_log_prob: [N, K] float64, the mass the search saw: a lower bound of ``log_prob``, up
            to rounding.
        counts: [N] int64, used slots of each utterance.
    """

    labels: Tensor
    label_lengths: Tensor
    log_prob: Tensor
    search_log_prob: Tensor
    counts: Tensor

    @classmethod
    def of(cls, labelings: Sequence[Sequence[Sequence[int]]]) -> Hypotheses:
        """Hypotheses from given labelings, with their probabilities unknown (NaN).

        For the operators that read labelings only.

        Args:
            labelings: for each of N utterances, up to K labelings of class indices.

        Example:
            >>> Hypotheses.of([[[1, 2], []], [[3]]]).labels.tolist()
            [[[1, 2], [-1, -1]], [[3, -1], [-1, -1]]]
        """
        counts = torch.tensor([len(rows) for rows in labelings], dtype=torch.int64)
        num_slots = int(counts.max()) if labelings else 0
        lengths = torch.zeros(len(labelings), num_slots, dtype=torch.int64)
        longest = max((len(labels) for rows in labelings for labels in rows), default=0)
        padded = torch.full((len(labelings), num_slots, longest), -1, dtype=torch.int64)
        for n, rows in enumerate(labelings):
            for k, labels in enumerate(rows):
                lengths[n, k] = len(labels)
                padded[n, k, : len(labels)] = torch.tensor(labels, dtype=torch.int64)
        unknown = torch.full((len(labelings), num_slots), torch.nan, dtype=torch.float64)
        return cls(padded, lengths, unknown, unknown.clone(), counts)


@dataclass(frozen=True, eq=False)
class RecurrentCotangents:
    """What ``recurrent_backward`` returns.

    Attributes:
        gates: [T, R, N, G * H], cotangents of the gates before their nonlinearities, as the
            input's share of them sees it; in torch's order.
        hidden_gates: the same for the previous state's share. A GRU's differ in the candidate; for
            other cells it is ``gates``.
        state: [R, N, H], cotangents of the initial hidden state.
        cell: [R, N, H], cotangents of an LSTM's initial cell state; None for other cells.
    """

    gates: Tensor
    hidden_gates: Tensor
    state: Tensor
    cell: Tensor | None


def default_beam_width(num_hypotheses: int) -> int:
    """The ``beam_width`` that ``ctc_beam_search`` takes where none is given."""
    # Recorded speech has flatter emissions than one thinks: see docs/beam-width.md for what each
    # width finds of the true K best, and what it costs.
    return max(10 * num_hypotheses, 100)


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
    number of prefixes that have any mass, these are the true best.

    Labelings of probability 0 are never returned, so there may be fewer than ``num_hypotheses``,
    or none where a frame allows no class. An utterance of length 0 has one labeling, the empty
    one, with log-probability 0.

    Args:
        log_probs: [N, T, C] float32 or float64 of any strides; log-softmax over C is expected but
            not checked. -inf is allowed.
        lengths: [N] integers in [0, T]. Frames from ``lengths[n]`` on are padding and not read.
        num_hypotheses: K, at least 1.
        beam_width: prefixes kept after each frame, at least ``num_hypotheses``; None for
            ``default_beam_width(num_hypotheses)``.
        blank: the blank's class index, anywhere in [0, C).

    Returns:
        Hypotheses, in new memory.

    Raises:
        ValueError: an argument has a wrong dtype, shape or value; NaN or +inf in ``log_probs``
            (the message names the utterance).

    Example:
        >>> log_probs = torch.tensor([[[0.6, 0.4], [0.5, 0.5]]]).log()
        >>> best = ctc_beam_search(log_probs, torch.tensor([2]), num_hypotheses=2)
        >>> best.labels.tolist(), best.log_prob.exp().mul(10).round().tolist()
        ([[[1], [-1]]], [[7.0, 3.0]])
    """
    if beam_width is None:
        beam_width = default_beam_width(num_hypotheses)
    labels, label_lengths, log_prob, search_log_prob, counts = (
        torch.ops.egl_fast.ctc_beam_search.default(
            log_probs.detach(), _int64(lengths), num_hypotheses, beam_width, blank
        )
    )
    longest = int(label_lengths.max()) if label_lengths.numel() > 0 else 0
    return Hypotheses(
        labels=labels[:, :, :longest].contiguous(),
        label_lengths=label_lengths,
        log_prob=log_prob,
        search_log_prob=search_log_prob,
        counts=counts,
    )


def ctc_occupancy(
    log_probs: Tensor, lengths: Tensor, hypotheses: Hypotheses, *, blank: int = 0
) -> tuple[Tensor, Tensor]:
    """Exact probability of each hypothesis, and where its alignments spend their time.

    ``occupancy[n, k, t, c]`` is the posterior probability that an alignment which collapses to
    hypothesis k has class c at frame t (Graves et al., 2006, eq. 14, summed over the positions of
    c). It sums to 1 over c at each frame.

    Args:
        log_probs: [N, T, C] float32 or float64 of any strides, as for ``ctc_beam_search``.
        lengths: [N] integers in [0, T].
        hypotheses: labelings of the same N utterances; ``labels``, ``label_lengths`` and
            ``counts`` are read.
        blank: the blank's class index.

    Returns:
        ``log_prob`` [N, K] float64, -inf for unused slots and impossible labelings, and
        ``occupancy`` [N, K, T, C] in ``log_probs``'s dtype, computed in float64. It is zero on
        padding frames, on unused slots and for impossible labelings.

    Raises:
        ValueError: as ``ctc_beam_search``; or a label is the blank or no class.
    """
    log_prob, occupancy = torch.ops.egl_fast.ctc_occupancy.default(
        log_probs.detach(), _int64(lengths), *_labelings(hypotheses), blank
    )
    return log_prob, occupancy


def ctc_logits_cotangents(
    logits: Tensor, lengths: Tensor, hypotheses: Hypotheses, *, blank: int = 0
) -> tuple[Tensor, Tensor]:
    """Gradient of each hypothesis's negative log-likelihood with respect to the logits.

    ``cotangents[n, k] = softmax(logits[n]) - occupancy_k``. Log-softmax, occupancy and the
    difference are computed in float64: where the model is sure, they nearly cancel. Log-softmax
    output may stand for the logits, since its softmax is the same.

    Args:
        logits: [N, T, C] float32 or float64 of any strides. -inf excludes a class, as long as a
            frame has a finite value left.
        lengths: [N] integers in [0, T]. Frames from ``lengths[n]`` on are padding and not read.
        hypotheses: labelings of the same N utterances; ``labels``, ``label_lengths`` and
            ``counts`` are read.
        blank: the blank's class index.

    Returns:
        ``log_prob`` [N, K] float64, -inf for unused slots and impossible labelings, and
        ``cotangents`` [N, K, T, C] in ``logits``'s dtype. They are zero on padding frames, on
        unused slots and for impossible labelings, whose loss is infinite and has no gradient.

    Raises:
        ValueError: an argument has a wrong dtype, shape or value; NaN, +inf or a frame without a
            finite value in ``logits`` (the message names the utterance).
    """
    log_prob, cotangents = torch.ops.egl_fast.ctc_logits_cotangents.default(
        logits.detach(), _int64(lengths), *_labelings(hypotheses), blank
    )
    return log_prob, cotangents


# The order is RecurrentCell's in csrc/core/recurrent_backward.h.
_RECURRENT_CELLS: tuple[RecurrentCell, ...] = ("rnn", "gru", "lstm")
_NUM_GATES = (1, 3, 4)
_GRU, _LSTM = 1, 2


def recurrent_backward(
    cell: RecurrentCell,
    cotangents: Tensor,
    coefficients: Tensor,
    weight_hh: Tensor,
    *,
    reverse: bool,
    final_cell_cotangents: Tensor | None = None,
) -> RecurrentCotangents:
    """Backward through time for R cotangents over one stored forward pass.

    One layer, one direction. Frames are visited from last to first, or from first to last if
    ``reverse``, with ``dh = cotangents[t] + carry`` and the carry 0 at first. The step is linear
    in dh with coefficients that all R cotangents of an utterance share; ``x[i]`` below is
    ``coefficients[t, n, i]``, and ``W`` is ``weight_hh``:

    - ``"rnn"``, P = 1, (a) with a = 1 - h^2 for tanh: gates = dh a; carry = gates W.
    - ``"gru"``, P = 5, (a_r, a_z, a_n, a_hn, z), where h = (1 - z) n + z h_prev and
      n = tanh(x_n + r h_n): a_n = (1 - z)(1 - n^2), a_r = a_n h_n r (1 - r),
      a_z = (h_prev - n) z (1 - z), a_hn = a_n r. gates = dh (a_r, a_z, a_n);
      hidden_gates = dh (a_r, a_z, a_hn); carry = dh z + hidden_gates W.
    - ``"lstm"``, P = 6, (q, a_i, a_f, a_g, a_o, f): q = o (1 - tanh(c)^2), a_i = g i (1 - i),
      a_f = c_prev f (1 - f), a_g = i (1 - g^2), a_o = tanh(c) o (1 - o). dc = dh q + dc_carry;
      gates = (dc a_i, dc a_f, dc a_g, dh a_o); dc_carry = dc f; carry = gates W.

    Padding frames need no lengths: where the coefficients are zero, everything stops, and nothing
    reaches the initial state through them. With ``reverse`` false, padding follows an utterance
    and is visited first, so its ``cotangents`` and ``final_cell_cotangents`` are lost there.

    Under ``torch.func.vmap`` over ``cotangents`` (and ``final_cell_cotangents``) the batch joins R
    in one native call; other arguments cannot be batched.

    Args:
        cell: which coefficients and gates.
        cotangents: [T, R, N, H] float32 or float64, of the layer's output; any strides, without a
            copy if H is contiguous.
        coefficients: [T, N, P, H], same dtype.
        weight_hh: [G * H, H], same dtype, torch's layout: rows are gates.
        reverse: whether the forward pass ran from the last frame to the first.
        final_cell_cotangents: [R, N, H], of an LSTM's final cell state; None for zero.

    Returns:
        RecurrentCotangents in new memory. With T = 0, ``state`` is zero and ``cell`` is
        ``final_cell_cotangents``.

    Raises:
        ValueError: an argument has a wrong dtype or shape, or a cotangent of the cell state is
            given for a cell without one.
    """
    if cell not in _RECURRENT_CELLS:
        raise ValueError(f"cell: expected one of {', '.join(_RECURRENT_CELLS)}, got {cell!r}")
    gates, hidden_gates, state, final = torch.ops.egl_fast.recurrent_backward.default(
        _RECURRENT_CELLS.index(cell),
        cotangents.detach(),
        coefficients.detach(),
        weight_hh.detach(),
        reverse,
        None if final_cell_cotangents is None else final_cell_cotangents.detach(),
    )
    return RecurrentCotangents(
        gates,
        hidden_gates if cell == "gru" else gates,
        state,
        final if cell == "lstm" else None,
    )


def _int64(lengths: Tensor) -> Tensor:
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths: expected integers [N], got {lengths.dtype}")
    return lengths.to(torch.int64)


def _labelings(hypotheses: Hypotheses) -> tuple[Tensor, Tensor, Tensor]:
    return hypotheses.labels, hypotheses.label_lengths, hypotheses.counts


def _fake_ctc_beam_search(
    log_probs: Tensor, lengths: Tensor, num_hypotheses: int, beam_width: int, blank: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    N, T, _ = log_probs.shape
    K = num_hypotheses
    return (
        lengths.new_empty(N, K, T),
        lengths.new_empty(N, K),
        log_probs.new_empty(N, K, dtype=torch.float64),
        log_probs.new_empty(N, K, dtype=torch.float64),
        lengths.new_empty(N),
    )


def _fake_ctc_hypotheses(
    emissions: Tensor,
    lengths: Tensor,
    labels: Tensor,
    label_lengths: Tensor,
    counts: Tensor,
    blank: int,
) -> tuple[Tensor, Tensor]:
    N, T, C = emissions.shape
    K = labels.shape[1]
    return emissions.new_empty(N, K, dtype=torch.float64), emissions.new_empty(N, K, T, C)


def _fake_recurrent_backward(
    cell: int,
    cotangents: Tensor,
    coefficients: Tensor,
    weight_hh: Tensor,
    reverse: bool,
    final_cell_cotangents: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    T, R, N, H = cotangents.shape
    sides = (T, R, N, _NUM_GATES[cell] * H)
    return (
        cotangents.new_empty(sides),
        cotangents.new_empty(sides if cell == _GRU else (0,)),
        cotangents.new_empty(R, N, H),
        cotangents.new_empty((R, N, H) if cell == _LSTM else (0,)),
    )


class _VmapInfo(Protocol):
    """What torch.library tells a batching rule."""

    batch_size: int


def _vmap_recurrent_backward(
    info: _VmapInfo,
    in_dims: tuple[int | None, ...],
    cell: int,
    cotangents: Tensor,
    coefficients: Tensor,
    weight_hh: Tensor,
    reverse: bool,
    final_cell_cotangents: Tensor | None,
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """The batch B joins the cotangents R: [T, B * R, N, H], in one call."""
    _, cotangents_dim, coefficients_dim, weight_dim, _, final_dim = in_dims
    if coefficients_dim is not None or weight_dim is not None:
        raise NotImplementedError(
            "recurrent_backward: vmap over cotangents only; coefficients and weight_hh belong to "
            "the stored forward pass and cannot be batched"
        )
    B = info.batch_size

    def fold(tensor: Tensor, dim: int | None, r_axis: int) -> Tensor:
        """[..., R, N, H] with a batch at ``dim`` -> [..., B * R, N, H]."""
        if dim is None:
            shape = (*tensor.shape[:r_axis], B, *tensor.shape[r_axis:])
            return tensor.unsqueeze(r_axis).expand(shape).flatten(r_axis, r_axis + 1)
        return tensor.movedim(dim, r_axis).flatten(r_axis, r_axis + 1)

    final = None
    if final_cell_cotangents is not None:
        final = fold(final_cell_cotangents, final_dim, 0)
    gates, hidden_gates, state, cell_state = torch.ops.egl_fast.recurrent_backward.default(
        cell, fold(cotangents, cotangents_dim, 1), coefficients, weight_hh, reverse, final
    )

    results = (gates, hidden_gates, state, cell_state)
    dims = (1, 1 if cell == _GRU else None, 0, 0 if cell == _LSTM else None)
    return tuple(
        result if dim is None else _split(result, dim, B)
        for result, dim in zip(results, dims, strict=True)
    ), dims


def _split(tensor: Tensor, dim: int, batch_size: int) -> Tensor:
    """[..., B * R, ...] -> [..., B, R, ...]; sizes spelled out, since T may be 0."""
    shape = tensor.shape
    return tensor.view(*shape[:dim], batch_size, shape[dim] // batch_size, *shape[dim + 1 :])


torch.library.register_fake("egl_fast::ctc_beam_search", _fake_ctc_beam_search)
torch.library.register_fake("egl_fast::ctc_occupancy", _fake_ctc_hypotheses)
torch.library.register_fake("egl_fast::ctc_logits_cotangents", _fake_ctc_hypotheses)
torch.library.register_fake("egl_fast::recurrent_backward", _fake_recurrent_backward)
torch.library.register_vmap("egl_fast::recurrent_backward", _vmap_recurrent_backward)
