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

    def labelings(self, utterance: int) -> list[tuple[int, ...]]:
        """The labelings of one utterance, as class indices."""
        count = int(self.counts[utterance])
        lengths = self.label_lengths[utterance, :count].tolist()
        padded = self.labels[utterance, :count].tolist()
        return [tuple(row[:length]) for row, length in zip(padded, lengths, strict=True)]


@dataclass(frozen=True, eq=False)
class NbestCotangents:
    """What to pull back for an utterance's K hypotheses: ``ctc_nbest_cotangents``.

    With p_k = p(y_k|x) over their sum and columns sqrt(p_k) delta_k, row r < R + m of an utterance
    is ``sum_k combinations[k] sqrt(p_k) delta_k``: first R = ``num_directions`` directions, then
    m = ``num_probes`` probes. The sum of p_k ||J^T delta_k||^2 is that of the directions' squared
    norms and, in expectation over the signs, the mean of the probes'. Where the rows would not be
    fewer than the hypotheses, row k is delta_k itself: ``num_directions`` equals the count.

    Attributes:
        hypotheses: the K best labelings.
        cotangents: [N, rows, T, C] in the logits' dtype; zero where an utterance has fewer.
        combinations: [N, rows, K] float64.
        num_directions: [N] int64, R.
        num_probes: [N] int64, m.
        cotangent_sq_norms: [N, K] float64, ``||delta_k||^2``.
        output_sq_norms: [N, K] float64, ``<delta_k, frame_gram delta_k>``; None without one.
    """

    hypotheses: Hypotheses
    cotangents: Tensor
    combinations: Tensor
    num_directions: Tensor
    num_probes: Tensor
    cotangent_sq_norms: Tensor
    output_sq_norms: Tensor | None


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
    return _hypotheses(labels, label_lengths, log_prob, search_log_prob, counts)


def _hypotheses(
    labels: Tensor, label_lengths: Tensor, log_prob: Tensor, search_log_prob: Tensor, counts: Tensor
) -> Hypotheses:
    """What a search returns, without the room that no labeling needs."""
    longest = int(label_lengths.max()) if label_lengths.numel() > 0 else 0
    return Hypotheses(
        labels[:, :, :longest].contiguous(), label_lengths, log_prob, search_log_prob, counts
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


def ctc_nbest_cotangents(
    logits: Tensor,
    lengths: Tensor,
    *,
    num_hypotheses: int,
    beam_width: int | None = None,
    tolerance: float | None = None,
    probes: int | None = None,
    keys: Tensor | None = None,
    frame_gram: Tensor | None = None,
    blank: int = 0,
) -> NbestCotangents:
    """From logits to what is to be pulled back, in one native call.

    Softmax in float64, ``ctc_beam_search``, ``ctc_logits_cotangents``, the eigenvectors of the
    weighted cotangents' Gram matrix, and the combinations of cotangents that ``tolerance`` or
    ``probes`` ask for; with neither, all cotangents. Directions are the leading eigenvectors. A
    probe is the sum of all others under random signs; signs come from ``keys`` and the labelings
    (``ctc_hypothesis_normals``), so that batching, order and threads change nothing, nor does the
    sign of an eigenvector. docs/estimators.md has the derivations.

    Args:
        logits: [N, T, C] float32 or float64, as for ``ctc_logits_cotangents``.
        lengths: [N] integers in [0, T].
        num_hypotheses: K, at least 1.
        beam_width: as for ``ctc_beam_search``.
        tolerance: target relative standard error of the sum, between 0 and 1.
        probes: rows to pull back, at least 2.
        keys: [N] int64 that decide the signs, one an utterance; None: 0.
        frame_gram: [N, T, T] float64, of the output layer's inputs: the inner products
            <(a_t, 1), (a_s, 1)> that give its squared norms.
        blank: the blank's class index.

    Returns:
        NbestCotangents, in new memory.

    Raises:
        ValueError: as the operators named above; or both tolerance and probes are given, or one
            is out of its range.

    Example:
        >>> logits = torch.randn(1, 20, 5, generator=torch.Generator().manual_seed(0))
        >>> few = ctc_nbest_cotangents(logits, torch.tensor([20]), num_hypotheses=50, probes=4)
        >>> few.cotangents.shape, int(few.num_directions + few.num_probes)
        (torch.Size([1, 4, 20, 5]), 4)
    """
    if beam_width is None:
        beam_width = default_beam_width(num_hypotheses)
    for name, value in (("tolerance", tolerance), ("probes", probes)):
        if value is not None and value <= 0:
            raise ValueError(f"{name}: expected more than 0, got {value}")
    if keys is None:
        keys = lengths.new_zeros(lengths.shape, dtype=torch.int64)
    found = torch.ops.egl_fast.ctc_nbest_cotangents.default(
        logits.detach(),
        _int64(lengths),
        num_hypotheses,
        beam_width,
        tolerance or 0.0,
        probes or 0,
        keys,
        None if frame_gram is None else frame_gram.detach(),
        blank,
    )
    cotangents, combinations, num_directions, num_probes, sq_norms, output_sq_norms = found[5:]
    return NbestCotangents(
        _hypotheses(*found[:5]),
        cotangents,
        combinations,
        num_directions,
        num_probes,
        sq_norms,
        None if frame_gram is None else output_sq_norms,
    )


def ctc_hypothesis_normals(hypotheses: Hypotheses, keys: Tensor, *, num_normals: int) -> Tensor:
    """Independent standard normal numbers, a function of key, labeling and index alone.

    Args:
        hypotheses: labelings of N utterances.
        keys: [N] int64.
        num_normals: of each hypothesis.

    Returns:
        [N, K, num_normals] float64; zero for unused slots.

    Raises:
        ValueError: an argument has a wrong dtype, shape or value.

    Example:
        >>> one, two, key = Hypotheses.of([[[1], [2]]]), Hypotheses.of([[[2]]]), torch.tensor([7])
        >>> a = ctc_hypothesis_normals(one, key, num_normals=3)
        >>> b = ctc_hypothesis_normals(two, key, num_normals=1)
        >>> bool(a[0, 1, 0] == b[0, 0, 0])
        True
    """
    normals: Tensor = torch.ops.egl_fast.ctc_hypothesis_normals.default(
        *_labelings(hypotheses), keys, num_normals
    )
    return normals


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


def _fake_ctc_nbest_cotangents(
    logits: Tensor,
    lengths: Tensor,
    num_hypotheses: int,
    beam_width: int,
    tolerance: float,
    num_probes: int,
    keys: Tensor,
    frame_gram: Tensor | None,
    blank: int,
) -> tuple[Tensor, ...]:
    N, T, C = logits.shape
    K = num_hypotheses
    rows = min(num_probes, K) if num_probes else K
    float64 = torch.float64
    return (
        *_fake_ctc_beam_search(logits, lengths, num_hypotheses, beam_width, blank),
        logits.new_empty(N, rows, T, C),
        logits.new_empty(N, rows, K, dtype=float64),
        lengths.new_empty(N),
        lengths.new_empty(N),
        logits.new_empty(N, K, dtype=float64),
        logits.new_empty(0 if frame_gram is None else N, K, dtype=float64),
    )


def _fake_ctc_hypothesis_normals(
    labels: Tensor, label_lengths: Tensor, counts: Tensor, keys: Tensor, num_normals: int
) -> Tensor:
    return labels.new_empty(*labels.shape[:2], num_normals, dtype=torch.float64)


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
torch.library.register_fake("egl_fast::ctc_nbest_cotangents", _fake_ctc_nbest_cotangents)
torch.library.register_fake("egl_fast::ctc_hypothesis_normals", _fake_ctc_hypothesis_normals)
torch.library.register_fake("egl_fast::recurrent_backward", _fake_recurrent_backward)
torch.library.register_vmap("egl_fast::recurrent_backward", _vmap_recurrent_backward)
