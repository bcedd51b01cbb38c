"""The input formats of recurrent modules, and the one format in which they run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from egl_fast.recurrent.packing import gather_rows, inverse_index


@dataclass(frozen=True)
class Layout:
    """A module's input, and how to return its output in the same format."""

    time_first: Tensor  # [T, N, I], zero on padding
    valid: Tensor | None  # [T, N] bool, False on padding, or None if there is none
    order: Tensor | None  # utterance of each column, or None if they are in order
    packed: PackedSequence | None  # the packed sequence that was given, if any
    batch_first: bool  # the tensor that was given was [N, T, I]
    batched: bool  # it had a batch dimension
    to_padded: Tensor | None = None  # [T*N] row of the packed data, or its length for padding
    to_packed: Tensor | None = None  # [rows of the packed data] row of the padded data

    @cached_property
    def columns(self) -> tuple[int, ...] | None:
        """``order`` on the host, so that a GPU is waited for once per layer."""
        return None if self.order is None else tuple(self.order.tolist())

    @staticmethod
    def of(module: nn.RNNBase, x: Tensor | PackedSequence) -> Layout:
        if isinstance(x, Tensor):
            batched = x.dim() == 3
            batch_first = module.batch_first and batched
            time_first = x if batched else x.unsqueeze(1)
            if batch_first:
                time_first = x.transpose(0, 1)
            return Layout(time_first, None, None, None, batch_first, batched)
        sizes = x.batch_sizes
        num_frames, num_columns = len(sizes), int(sizes[0])
        if int(sizes[-1]) == num_columns:
            time_first = x.data.view(num_frames, num_columns, -1)
            return Layout(time_first, None, x.sorted_indices, x, False, True)
        present = torch.arange(num_columns)[None, :] < sizes[:, None]
        to_packed = present.flatten().nonzero().squeeze(1)
        to_padded = inverse_index(to_packed, present.numel()).to(x.data.device)
        to_packed, valid = to_packed.to(x.data.device), present.to(x.data.device)
        padded = gather_rows(x.data, to_padded, to_packed)
        time_first = padded.view(num_frames, num_columns, -1)
        return Layout(time_first, valid, x.sorted_indices, x, False, True, to_padded, to_packed)

    def restore(self, outputs: Tensor) -> Tensor | PackedSequence:
        """Outputs [T, N, D] in the format of the input."""
        if self.packed is None:
            if self.batch_first:
                return outputs.transpose(0, 1)
            return outputs if self.batched else outputs.squeeze(1)
        rows = outputs.flatten(0, 1)
        if self.to_packed is not None and self.to_padded is not None:
            rows = gather_rows(rows, self.to_packed, self.to_padded)
        return PackedSequence(
            rows, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices
        )

    def final_states(self, finals: list[tuple[Tensor, Tensor | None]]) -> Any:
        """The final hidden states, and an LSTM's cell states, as torch returns them.

        None if there is padding, as utterances then end at different frames. Only the built-in
        model is run like that, and does not use them.
        """
        hidden = self._as_torch_gives([h for h, _ in finals])
        cells = [c for _, c in finals if c is not None]
        return (hidden, self._as_torch_gives(cells)) if cells else hidden

    def _as_torch_gives(self, finals: list[Tensor]) -> Tensor | None:
        """[layers * directions, N, H], or without N if there was no batch dimension."""
        if self.valid is not None:
            return None
        stacked = torch.stack(finals)
        if self.packed is not None and self.packed.unsorted_indices is not None:
            stacked = stacked.index_select(1, self.packed.unsorted_indices)
        return stacked if self.batched else stacked.squeeze(1)
