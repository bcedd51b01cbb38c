"""Foreign CTC models, which the engine must score without knowing them beforehand.

Each is a module that returns (logits [N, T, C], lengths [N]). Together they contain every module
that has a rule, in several configurations, and what rules cannot see: tied weights, parameters used
by functions, modules without a rule, writing in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

NUM_BINS = 6
NUM_CLASSES = 4
VOCABULARY = ["-", "a", "b", "c"]


class Small(nn.Module):
    """Three classes: with few frames, every labeling can be enumerated."""

    def __init__(self, *, log_softmax: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(4, 6)
        self.output = nn.Linear(6, 3)
        self.log_softmax = log_softmax

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.output(self.hidden(x).tanh())
        return (logits.log_softmax(2) if self.log_softmax else logits), lengths


class PackedRecurrent(nn.Module):
    """Conv1d, BatchNorm1d, a packed bidirectional recurrent layer, LayerNorm, Linear."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv1d(NUM_BINS, 5, 3, padding=1)
        self.norm = nn.BatchNorm1d(5)
        self.rnn = kind(5, 7, batch_first=True, bidirectional=True, **options)
        width = 2 * (self.rnn.proj_size or 7)
        self.layer_norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.conv(x.transpose(1, 2))).relu().transpose(1, 2)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.output(self.layer_norm(x)), lengths


class PlainRecurrent(nn.Module):
    """A one-way recurrent stack over [T, N, F], with a learned initial state it also reads."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(NUM_BINS, 5, num_layers=2, **options)
        self.initial = nn.Parameter(torch.randn(2, 1, 5))
        self.output = nn.Linear(5, NUM_CLASSES, bias=False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        h = self.initial.expand(-1, x.shape[0], -1).contiguous()
        states, final = self.rnn(x.transpose(0, 1), (h, 2 * h) if self.rnn.mode == "LSTM" else h)
        last = final[0] + final[1] if isinstance(final, tuple) else final
        # Its logits depend on the final state too, so each cell's final cotangents count.
        return self.output(states + last[-1]).transpose(0, 1), lengths


class Convolutions(nn.Module):
    """Strided, dilated, grouped and circular convolutions; activations that write in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, (3, 3), padding="same", groups=2, dilation=(1, 2))
        self.circular = nn.Conv1d(18, 8, 3, padding=1, padding_mode="circular")
        self.relu = nn.ReLU(inplace=True)
        self.output = nn.Conv1d(8, NUM_CLASSES, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu(self.first(x.transpose(1, 2).unsqueeze(1)))
        x = self.grouped(self.relu(self.norm(x)))
        x = self.circular(x.flatten(1, 2))
        x += 0.5
        return self.output(x.tanh()).transpose(1, 2).log_softmax(2), lengths


class SharedWeights(nn.Module):
    """A module called twice, a weight in two modules, and one that a function uses too."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(NUM_BINS, 8)
        self.twice = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.twice.weight
        self.norm = nn.LayerNorm(8)
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.inputs(x))
        x = self.norm(x + self.twice(self.twice(x).tanh()) + self.tied(x).sin())
        x = x + F.linear(x, self.inputs.weight.t()).sum(-1, keepdim=True)
        return self.output(x), lengths


class WithoutRules(nn.Module):
    """Attention, a parametrized weight, a bare parameter, an embedding, a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.utils.parametrizations.weight_norm(nn.Linear(NUM_BINS, 8))
        self.position = nn.Embedding(64, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Linear(3, 3)
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = torch.arange(x.shape[1], device=x.device)
        x = self.inputs(x) + self.position(frames)
        mask = frames[None] >= lengths[:, None]
        x = self.encoder(x, src_key_padding_mask=mask)
        return self.output(self.frozen(x) * self.scale), lengths


FOREIGN_MODELS: dict[str, Callable[[], nn.Module]] = {
    "packed_gru": lambda: PackedRecurrent(nn.GRU),
    "packed_lstm": lambda: PackedRecurrent(nn.LSTM),
    "packed_rnn": lambda: PackedRecurrent(nn.RNN),
    "packed_relu_rnn_without_bias": lambda: PackedRecurrent(
        nn.RNN, nonlinearity="relu", bias=False, num_layers=2
    ),
    "packed_projected_lstm": lambda: PackedRecurrent(nn.LSTM, proj_size=3),
    "stateful_gru": lambda: PlainRecurrent(nn.GRU),
    "stateful_lstm": lambda: PlainRecurrent(nn.LSTM),
    "stateful_rnn": lambda: PlainRecurrent(nn.RNN, dropout=0.5),
    "convolutions": Convolutions,
    "shared_weights": SharedWeights,
    "without_rules": WithoutRules,
}


def build(name: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """A model with random weights and running statistics, in training mode as users leave it."""
    torch.manual_seed(seed)
    model = FOREIGN_MODELS[name]()
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_()
        elif buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return model.to(dtype)


def batch(*, dtype: torch.dtype = torch.float64, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Three utterances of different lengths, zero on padding."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([9, 12, 7])
    x = torch.randn(3, 12, NUM_BINS, generator=generator, dtype=torch.float64)
    return (x * (torch.arange(12)[None, :, None] < lengths[:, None, None])).to(dtype), lengths


class Head(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(self.encoder(x).tanh()), lengths


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(NUM_BINS, 8), nn.Tanh(), nn.Linear(8, 8))
