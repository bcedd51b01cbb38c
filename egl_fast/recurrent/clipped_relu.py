"""The recurrent cell of Deep Speech, for which torch has no kernel."""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from egl_fast.recurrent.packing import pack, unpack, valid_frames

#: Upper bound of the clipped ReLU, min(max(x, 0), 20) (Amodei et al., 2016, section 3.1).
CLIP: Final = 20.0


class ClippedReluRNN(nn.RNN):
    """Bidirectional recurrent layer h_t = min(max(W x_t + U h_(t-1) + b, 0), 20).

    Parameters have the names they have in ``torch.nn.RNN``. Steps through the frames in Python.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(
            input_size, hidden_size, nonlinearity="relu", batch_first=True, bidirectional=True
        )

    def forward(  # type: ignore[override]
        self, x: PackedSequence, hx: Tensor | None = None
    ) -> tuple[PackedSequence, Tensor]:
        """Outputs of both directions side by side, and the final states; packed in, packed out."""
        padded = unpack(x, num_frames=x.batch_sizes.shape[0])
        # Frame t has batch_sizes[t] sequences, so sequence j is in the frames with a larger size.
        places = torch.arange(padded.shape[0])
        lengths = (x.batch_sizes[None, :] > places[:, None]).sum(dim=1).to(padded.device)
        if x.unsorted_indices is not None:
            lengths = lengths[x.unsorted_indices]
        directions = [
            self._run(padded, lengths, suffix, reverse=bool(suffix)) for suffix in ("", "_reverse")
        ]
        outputs = torch.cat([states for states, _ in directions], dim=2)
        return pack(outputs, lengths), torch.stack([final for _, final in directions])

    def _run(
        self, padded: Tensor, lengths: Tensor, suffix: str, *, reverse: bool
    ) -> tuple[Tensor, Tensor]:
        w_ih, w_hh, b_ih, b_hh = (
            cast(Tensor, getattr(self, f"{name}_l0{suffix}"))
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        projected = padded @ w_ih.T + (b_ih + b_hh)
        num_frames = padded.shape[1]
        valid = valid_frames(lengths, num_frames).unsqueeze(2)
        state = projected.new_zeros(padded.shape[0], self.hidden_size)
        states: list[Tensor] = [state] * num_frames
        for t in reversed(range(num_frames)) if reverse else range(num_frames):
            new = (projected[:, t] + state @ w_hh.T).clamp(0.0, CLIP)
            # Padding keeps the state: zero before the first frame in reverse, final after the last.
            state = torch.where(valid[:, t], new, state)
            states[t] = state
        return torch.stack(states, dim=1) * valid, state
