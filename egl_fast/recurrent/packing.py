"""Padded batches to packed sequences and back, by gathers that vectorize.

torch's ``pack_padded_sequence`` and ``pad_packed_sequence`` loop over frames, and have no batching
rule: pulled back under ``vmap``, they run once per cotangent. Here each is one gather of rows by a
one-to-one index, and its backward pass is the inverse gather.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


class _Gather(torch.autograd.Function):
    """See ``gather_rows``."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(index, inverse)
        return _with_zero_row(rows).index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        _, inverse = ctx.saved_tensors
        (cotangent,) = cotangents
        return _with_zero_row(cotangent).index_select(0, inverse), None, None


def _with_zero_row(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.zeros_like(rows[:1])])


def gather_rows(rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """``rows[index]`` [B, D], with zeros where ``index`` is the number of rows; differentiable.

    Args:
        rows: [A, D].
        index: [B] int64; each row at most once.
        inverse: [A] int64, the place of each row in the result; B if it is not used.
    """
    return cast(Tensor, _Gather.apply(rows, index, inverse))  # type: ignore[no-untyped-call]


def inverse_index(index: Tensor, size: int) -> Tensor:
    """``inverse`` for ``gather_rows``: [size], with len(index) for rows that are not used."""
    inverse = torch.full((size + 1,), index.shape[0], dtype=torch.int64, device=index.device)
    inverse[index] = torch.arange(index.shape[0], device=index.device)
    return inverse[:size]


def pack(padded: Tensor, lengths: Tensor) -> PackedSequence:
    """As ``pack_padded_sequence`` for unsorted, batch-first input [N, T, D]; lengths at least 1."""
    num_utterances, num_frames, width = padded.shape
    lengths = lengths.cpu()
    order = torch.argsort(lengths, descending=True, stable=True)
    longest = int(lengths.max())
    if num_utterances == 1:  # its frames already are the packed rows
        rows = padded[0, :longest].contiguous()
        order = order.to(padded.device)
        return PackedSequence(rows, torch.ones(longest, dtype=torch.int64), order, order)
    frame = torch.arange(longest)
    present = frame[:, None] < lengths[order][None, :]
    index = (order[None, :] * num_frames + frame[:, None])[present]
    index = index.to(padded.device)
    rows = gather_rows(
        padded.reshape(-1, width), index, inverse_index(index, num_utterances * num_frames)
    )
    order = order.to(padded.device)
    return PackedSequence(rows, present.sum(dim=1), order, torch.argsort(order))


def unpack(packed: PackedSequence, *, num_frames: int) -> Tensor:
    """[N, num_frames, D], zero on padding: the inverse of ``pack``."""
    sizes = packed.batch_sizes
    num_utterances = int(sizes[0])
    if num_utterances == 1:
        return F.pad(packed.data, (0, 0, 0, num_frames - sizes.shape[0])).unsqueeze(0)
    column = torch.arange(num_utterances)
    present = column[None, :] < sizes[:, None]
    order = column if packed.sorted_indices is None else packed.sorted_indices.cpu()
    frame = torch.arange(sizes.shape[0])
    place = (order[None, :] * num_frames + frame[:, None])[present].to(packed.data.device)
    index = inverse_index(place, num_utterances * num_frames)
    return gather_rows(packed.data, index, place).view(num_utterances, num_frames, -1)


def valid_frames(lengths: Tensor, num_frames: int) -> Tensor:
    """[N, T] bool, true on the first ``lengths[n]`` of ``num_frames`` frames."""
    return torch.arange(num_frames, device=lengths.device)[None, :] < lengths[:, None]
