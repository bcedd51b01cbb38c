"""Typed functions over the native operators, with their shape and batching rules; no policy.

Letters: N utterances, T frames, C classes with blank, K hypotheses, U labels, H hidden units, R
cotangents. All tensors of a call are on one device, where the results are, too. Operators give the
same result for an utterance whatever else is in the batch and however it is padded, to rounding.
Results are cut off from autograd's graph: whoever wants gradients makes a node of its own.

Tensors are dense; sparse, quantized and nested ones are refused. On the meta device, and while
torch traces, there are shapes. ``ctc_beam_search`` and ``ctc_nbest_cotangents`` cut what they
return to the size that values need, so a trace breaks there; the native operators below them can
be traced.

On the CPU the work is spread over torch's threads. Search, CTC operators and forward scan are the
same to the last bit for any number of threads, and beside any other utterances.

On a GPU the work is queued on the caller's current stream, and the same call gives the same bits:
nothing is added up in an order that chance decides. Beside other utterances, search and CTC
operators give the same bits there, too; what is made of cuBLAS's products (scans, and the rows of
``ctc_nbest_cotangents``) need not. Operators that look at values to refuse them (NaN, labels,
lengths) wait for the GPU once. The recurrent operators and ``row_sq_norms`` do not, nor does the
native operator behind ``ctc_nbest_cotangents``: these may be captured in a CUDA graph.
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
