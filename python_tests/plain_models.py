"""CTC models in plain torch, in the manner of published ones, reduced to a few hundred weights.

Each maps [N, T, F] and lengths to (logits [N, T', C], lengths).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES, PackedRecurrent
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

WIDTH = 8


class Body(nn.Module):
    """A body over [N, T, WIDTH] between two linear layers."""

    def __init__(self, body: nn.Module, classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.inputs = nn.Linear(NUM_BINS, WIDTH)
        self.body = body
        self.output = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(self.inputs(x))
        return self.output(x), torch.full_like(lengths, x.shape[1])


class Channels(nn.Module):
    """A module over [N, C, T] for [N, T, C]."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.mT).mT
        return out


class Residual(nn.Module):
    def __init__(self, inner: nn.Module, factor: float = 1.0) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.factor * self.inner(x)
        return out


class Scaled(nn.Module):
    """Layer scale: a factor and a shift for each channel, as in Squeezeformer and ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(WIDTH))
        self.shift = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        # The first frames do not see the last ones.
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(4)
        out: Tensor = self.attention(x, x, x, need_weights=False, attn_mask=mask)[0]
        return out


class SqueezeExcite(nn.Module):
    """Of ContextNet: channels are scaled by what the whole utterance says of them."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(WIDTH, 2), nn.Linear(2, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        context = self.up(F.silu(self.down(x.mean(2))))
        return x * context.sigmoid().unsqueeze(2)


class TimeReduced(nn.Module):
    """Of Squeezeformer and Zipformer: half the frames within, then all again."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.weights = nn.Parameter(torch.rand(2))  # of the frames that become one
        self.bypass = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        even = F.pad(x, (0, 0, 0, x.shape[1] % 2)).unflatten(1, (-1, 2))
        inner = self.inner((even * self.weights.softmax(0)[:, None]).sum(2))
        up = inner.repeat_interleave(2, dim=1)[:, : x.shape[1]]
        return x + (up - x) * self.bypass


class BiasNorm(nn.Module):
    """Of Zipformer."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.rand(WIDTH))
        self.log_scale = nn.Parameter(torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x - self.bias).square().mean(-1, keepdim=True).rsqrt() * self.log_scale.exp()


class Swoosh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x - 1.0) - 0.08 * x - 0.31


class LowRankUpdate(nn.Module):
    """LoRA on a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(x) + 2.0 * self.up(self.down(x))
        return out


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], hidden: int = WIDTH // 2, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(WIDTH, hidden, batch_first=True, bidirectional=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rnn(x)[0]
        return out


class Tied(nn.Module):
    """The output layer's weight also embeds the classes heard, as in self-conditioned CTC."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(NUM_BINS, WIDTH)
        self.classes = nn.Embedding(NUM_CLASSES, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inputs(x)
        heard = F.linear(x, self.classes.weight)
        x = self.mix(x + heard.softmax(-1) @ self.classes.weight + self.classes(heard.argmax(-1)))
        return F.linear(x, self.classes.weight), lengths


class ByEinsum(nn.Module):
    """A linear layer in a notation that no rule reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ntc,cd->ntd", x, self.weight)


class CellsByHand(nn.Module):
    """A recurrence whose weight is a batch of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(2, WIDTH // 2, WIDTH // 2))

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.zeros_like(x[:, 0]).unflatten(1, (2, 1, -1))]
        for frame in x.unbind(1):
            states.append((frame.unflatten(1, (2, 1, -1)) + states[-1] @ self.weights).tanh())
        return torch.stack(states[1:], 1).flatten(2)


def separable(width: int, **options: Any) -> list[nn.Module]:
    return [
        nn.Conv1d(WIDTH, WIDTH, width, groups=WIDTH, bias=False, **options),
        nn.Conv1d(WIDTH, WIDTH, 1, bias=False),
        nn.BatchNorm1d(WIDTH),
    ]


def feed_forward(factor: float = 0.5) -> nn.Module:
    inner = [nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 12), nn.SiLU(), nn.Linear(12, WIDTH)]
    return Residual(nn.Sequential(*inner), factor)


def conformer() -> nn.Module:
    convolution = Channels(
        nn.Conv1d(WIDTH, 2 * WIDTH, 1), nn.GLU(1),
        nn.Conv1d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU(),
        nn.Conv1d(WIDTH, WIDTH, 1),
    )  # fmt: skip
    return nn.Sequential(
        feed_forward(), Residual(nn.Sequential(nn.LayerNorm(WIDTH), SelfAttention())),
        Residual(nn.Sequential(nn.LayerNorm(WIDTH), convolution)), feed_forward(),
        nn.LayerNorm(WIDTH),
    )  # fmt: skip


def transformer(*, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        WIDTH, 2, 12, dropout=0.3, batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)


PLAIN_MODELS: dict[str, Callable[[], nn.Module]] = {
    "transformer, norm last": lambda: Body(transformer(norm_first=False)),
    "transformer, norm first": lambda: Body(transformer(norm_first=True)),
    "attention with a mask": lambda: Body(Residual(SelfAttention())),
    "conformer": lambda: Body(conformer()),
    "quartznet": lambda: Body(
        Channels(
            Residual(nn.Sequential(*separable(5, padding=2), nn.ReLU(), *separable(3, padding=1))),
            nn.ReLU(inplace=True), *separable(3, padding=2, dilation=2), nn.ReLU(inplace=True),
        )
    ),
    "contextnet": lambda: Body(
        Channels(Residual(nn.Sequential(*separable(5, padding=2), nn.SiLU(), SqueezeExcite())))
    ),
    "squeezeformer": lambda: Body(
        TimeReduced(
            nn.Sequential(Scaled(), Residual(SelfAttention()), nn.LayerNorm(WIDTH), feed_forward())
        )
    ),
    "zipformer": lambda: Body(
        nn.Sequential(
            Residual(nn.Sequential(nn.Linear(WIDTH, 12), Swoosh(), nn.Linear(12, WIDTH))),
            TimeReduced(Residual(SelfAttention())),
            BiasNorm(),
        )
    ),
    "deepspeech": lambda: Body(
        nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.Hardtanh(0, 20), Recurrent(nn.RNN, nonlinearity="relu"),
            nn.Linear(WIDTH, WIDTH), nn.Hardtanh(0, 20),
        )
    ),
    "wav2letter": lambda: Body(
        Channels(
            nn.Conv1d(WIDTH, WIDTH, 4, stride=2, padding=2), nn.ReLU(inplace=True),
            nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(inplace=True),
        )
    ),
    "lora": lambda: Body(LowRankUpdate()),
    "layer scale": lambda: Body(Scaled()),
    "weight norm": lambda: Body(Channels(weight_norm(nn.Conv1d(WIDTH, WIDTH, 3, padding=1)))),
    "spectral norm": lambda: Body(spectral_norm(nn.Linear(WIDTH, WIDTH))),
    "orthogonal": lambda: Body(orthogonal(nn.Linear(WIDTH, WIDTH))),
    "tied": Tied,
    "by einsum": lambda: Body(ByEinsum()),
    "cells by hand": lambda: Body(CellsByHand()),
    "gru": lambda: Body(Recurrent(nn.GRU, num_layers=2)),
    "lstm": lambda: Body(Recurrent(nn.LSTM)),
    "projections": lambda: Body(Recurrent(nn.LSTM, 6, proj_size=WIDTH // 2, num_layers=2)),
    "packed lstm": lambda: PackedRecurrent(nn.LSTM),
    "transposed": lambda: Body(
        Channels(
            nn.Conv1d(WIDTH, WIDTH, 3, stride=2), nn.ConvTranspose1d(WIDTH, WIDTH, 3, stride=2)
        )
    ),
    "1,000 classes": lambda: Body(nn.Tanh(), 1000),
    "5,000 classes": lambda: Body(nn.Tanh(), 5000),
}  # fmt: skip

#: Kinds of modules that own parameters without a norm rule.
WITHOUT_RULE: dict[str, set[str]] = {"by einsum": {"ByEinsum"}, "cells by hand": {"CellsByHand"}}
