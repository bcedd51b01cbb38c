"""Rows to pull back from logits, in one native call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from egl_fast import _extension
from egl_fast.ops.arguments import check_integers, check_same_device, given
from egl_fast.ops.ctc import as_beam_width, as_int64, shape_of_search
from egl_fast.ops.hypotheses import Hypotheses


@dataclass(frozen=True, eq=False)
class NbestCotangents:
    """Rows to pull back for the K hypotheses of each utterance.

    With p_k = p(y_k|x) over their sum and columns d_k = sqrt(p_k) delta_k, row r < R + m of an
    utterance is ``sum_k combinations[r, k] d_k``: first R = ``num_directions`` directions, then
    m = ``num_probes`` probes. The sum of p_k ||J^T delta_k||^2 is that of the directions' squared
    norms and, in expectation over the signs, the mean of the probes'.

    With ``span``, columns are d_k = delta_k / ||delta_k||, there are no probes, and d_k is
    ``sum_r combinations[r, k] row_r``, except for a part no longer than ``span``.

    If there would not be fewer rows than hypotheses (with ``span``, by an eighth), row k is
    delta_k itself, and ``num_directions`` equals the count.

    Attributes:
        hypotheses: the K best labelings.
        cotangents: [N, rows, T, C] in the logits' dtype; zero where an utterance has fewer rows
            than another.
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

    def summary_on_host(self) -> NbestCotangents:
        """The same with everything except the cotangents on the CPU."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        del values["cotangents"]
        host = torch.device("cpu")
        return replace(self, **{name: value.to(host) for name, value in values.items()})


def ctc_nbest_cotangents(
    logits: Tensor,
    lengths: Tensor,
    *,
    num_hypotheses: int,
    beam_width: int | None = None,
    tolerance: float | None = None,
    probes: int | None = None,
    span: float | None = None,
    keys: Tensor | None = None,
    frame_gram: Tensor | None = None,
    blank: int = 0,
) -> NbestCotangents:
    """Rows to pull back from logits, in one native call.

    Softmax in float64, ``ctc_beam_search``, ``ctc_logits_cotangents``, the eigenvectors of the
    scaled cotangents' Gram matrix, and the combinations of cotangents that ``tolerance``,
    ``probes`` or ``span`` ask for; with none of them, all cotangents. Directions are the leading
    eigenvectors. A probe is the sum of all others under random signs. Signs come from ``keys`` and
    the labelings (``ctc_hypothesis_normals``), so they do not depend on batching, order, threads,
    or the sign of an eigenvector. docs/estimators.md has the derivations.

    On a GPU the native operator never waits; this function waits once after it, for the number of
    rows.

    Args:
        logits: [N, T, C] float32 or float64, as for ``ctc_logits_cotangents``.
        lengths: [N] integers in [0, T].
        num_hypotheses: K, at least 1.
        beam_width: as for ``ctc_beam_search``.
        tolerance: target relative standard error of the sum, between 0 and 1.
        probes: rows to pull back, at least 2.
        span: part of a cotangent's length that may lie outside the span of the rows, between 0
            and 1; below about 1e-7, float64 does not resolve it.
        keys: [N] int64 that decide the signs, one per utterance; None: 0.
        frame_gram: [N, T, T] float64, of the output layer's inputs: the inner products
            <(a_t, 1), (a_s, 1)> that give its squared norms.
        blank: the blank's class index.

    Returns:
        NbestCotangents, in new memory.

    Raises:
        ValueError: as for the operators named above; or several of tolerance, probes and span
            are given, or one is out of range.

    Example:
        >>> logits = torch.randn(1, 20, 5, generator=torch.Generator().manual_seed(0))
        >>> few = ctc_nbest_cotangents(logits, torch.tensor([20]), num_hypotheses=50, probes=4)
        >>> few.cotangents.shape, int(few.num_directions + few.num_probes)
        (torch.Size([1, 4, 20, 5]), 4)
    """
    tensors = given(keys=keys, frame_gram=frame_gram)
    check_same_device("logits", logits, lengths=lengths, **tensors)
    if type(logits) is Tensor and logits.is_meta:
        raise ValueError("logits: expected values, which decide the number of rows, got meta")
    check_integers(num_hypotheses=num_hypotheses, blank=blank, **given(probes=probes))
    beam_width = as_beam_width(beam_width, num_hypotheses, logits)
    for name, value in (("tolerance", tolerance), ("probes", probes), ("span", span)):
        if value is not None and value <= 0:
            raise ValueError(f"{name}: expected more than 0, got {value}")
    if keys is None:
        keys = lengths.new_zeros(lengths.shape, dtype=torch.int64)
    found = _extension.operators().ctc_nbest_cotangents.default(
        logits.detach(),
        as_int64(lengths),
        num_hypotheses,
        beam_width,
        tolerance or 0.0,
        probes or 0,
        span or 0.0,
        keys,
        None if frame_gram is None else frame_gram.detach(),
        blank,
    )
    cotangents, combinations, num_directions, num_probes, sq_norms, output_sq_norms = found[5:]
    num_rows = _most_rows(found[4], num_directions + num_probes)
    if num_rows is None:
        _refuse_values(logits, lengths, blank)
    return NbestCotangents(
        Hypotheses.found(*found[:5]),
        cotangents[:, :num_rows].contiguous(),  # views would keep the memory
        combinations[:, :num_rows].contiguous(),
        num_directions,
        num_probes,
        sq_norms,
        None if frame_gram is None else output_sq_norms,
    )


def _most_rows(counts: Tensor, num_rows: Tensor) -> int | None:
    """The most rows that an utterance has; None if one has invalid values.

    On a GPU the operator waits for neither: it allocates the largest possible number of rows, and
    sets counts to -1 where a value is invalid.
    """
    if counts.numel() == 0:
        return 0
    fewest, most = torch.stack([counts.min(), num_rows.max()]).tolist()
    return None if fewest < 0 else int(most)


def _refuse_values(logits: Tensor, lengths: Tensor, blank: int) -> NoReturn:
    """Raise the ValueError that the operator on the CPU raises for these logits or lengths."""
    no_hypotheses = Hypotheses.of([[]] * len(lengths))
    torch.ops.egl_fast.ctc_logits_cotangents.default(
        logits.detach().cpu(), as_int64(lengths.cpu()), *no_hypotheses.as_arguments, blank
    )
    raise AssertionError("values that the GPU refused are not refused by the CPU")


def _shape_of_nbest_cotangents(
    logits: Tensor, lengths: Tensor, num_hypotheses: int, *options: object
) -> tuple[Tensor, ...]:
    frame_gram = options[-2]
    N, T, C = logits.shape
    K = num_hypotheses
    rows = torch.library.get_ctx().new_dynamic_size()  # depends on values
    float64 = torch.float64
    return (
        *shape_of_search(logits, lengths, num_hypotheses),
        logits.new_empty(N, rows, T, C),
        logits.new_empty(N, rows, K, dtype=float64),
        lengths.new_empty(N),
        lengths.new_empty(N),
        logits.new_empty(N, K, dtype=float64),
        logits.new_empty(0 if frame_gram is None else N, K, dtype=float64),
    )


torch.library.register_fake("egl_fast::ctc_nbest_cotangents", _shape_of_nbest_cotangents)
