"""Typed functions over the native operators, with their shape and batching rules; no policy.

Letters: N utterances, T frames, C classes with blank, K hypotheses, U labels, H hidden units, R
cotangents. All tensors of a call, and its results, are on one device. Except for rounding, the
results of an utterance do not depend on the rest of the batch or on padding. They are detached
from autograd's graph.

Tensors must be dense: sparse, quantized and nested ones are refused. The meta device and tracing
are supported, but ``ctc_beam_search`` and ``ctc_nbest_cotangents`` trim their results to a size
that depends on values, so a trace breaks there; the native operators below them can be traced.

On the CPU, work is spread over torch's threads. Search, CTC operators and forward scan give the
same bits for any number of threads and any other utterances in the batch.

On a GPU, work is queued on the caller's current stream, and the same call gives the same bits. For
search and CTC operators, that holds whatever else is in the batch; not for what uses cuBLAS (scans,
and the rows of ``ctc_nbest_cotangents``). Operators that check values (NaN, labels, lengths) wait
for the GPU once. The recurrent operators, ``row_sq_norms``, and the native operator behind
``ctc_nbest_cotangents`` do not: they may be captured in a CUDA graph.
"""

from __future__ import annotations

from egl_fast.ops.ctc import (
    MAX_CUDA_BEAM_WIDTH,
    ctc_beam_search,
    ctc_logits_cotangents,
    ctc_occupancy,
    default_beam_width,
)
from egl_fast.ops.hypotheses import Hypotheses, ctc_hypothesis_normals
from egl_fast.ops.nbest_cotangents import NbestCotangents, ctc_nbest_cotangents
from egl_fast.ops.recurrent import RecurrentCell, RecurrentCotangents, recurrent_backward
from egl_fast.ops.recurrent_forward import RecurrentScan, RecurrentStates, recurrent_forward
from egl_fast.ops.row_norms import row_sq_norms

__all__ = [
    "MAX_CUDA_BEAM_WIDTH",
    "Hypotheses",
    "NbestCotangents",
    "RecurrentCell",
    "RecurrentCotangents",
    "RecurrentScan",
    "RecurrentStates",
    "ctc_beam_search",
    "ctc_hypothesis_normals",
    "ctc_logits_cotangents",
    "ctc_nbest_cotangents",
    "ctc_occupancy",
    "default_beam_width",
    "recurrent_backward",
    "recurrent_forward",
    "row_sq_norms",
]
