"""Each rule alone, between two linear layers, against looped float64 autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import NUM_BINS, NUM_CLASSES, batch
from test_engine import PROMISED, assert_norms_equal_the_loop
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.gradients.tape import record

WIDTH = 8


class Between(nn.Module):
    """A module that maps [N, channels, T] to the same, or [N, T, channels] if ``frames_first``."""

    def __init__(self, middle: nn.Module, *, frames_first: bool) -> None:
        super().__init__()
        self.inputs = nn.Linear(NUM_BINS, WIDTH)
        self.middle = middle
        self.output = nn.Linear(WIDTH, NUM_CLASSES)
        self.frames_first = frames_first

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inputs(x).tanh()
        x = self.middle(x) if self.frames_first else self.middle(x.mT).mT
        return self.output(x.tanh()), torch.full_like(lengths, x.shape[1])


def depthwise(width: int, channels: int = WIDTH, **options: Any) -> nn.Module:
    return nn.Conv1d(WIDTH, channels, width, groups=WIDTH, **options)


#: Of [N, channels, T].
CHANNELS: dict[str, Callable[[], nn.Module]] = {
    "depthwise": lambda: depthwise(5, padding=2),
    "depthwise_wider_than_the_input": lambda: depthwise(31, padding=15, bias=False),
    "depthwise_strided": lambda: depthwise(3, padding=1, stride=2),
    "depthwise_dilated": lambda: depthwise(3, padding=3, dilation=3),
    "depthwise_strided_and_dilated": lambda: depthwise(3, padding=4, dilation=2, stride=3),
    "depthwise_without_padding": lambda: depthwise(4),
    "depthwise_padded_beyond_its_reach": lambda: depthwise(2, padding=3),
    "depthwise_same_of_even_width": lambda: depthwise(4, padding="same"),
    "depthwise_circular": lambda: depthwise(5, padding=2, padding_mode="circular"),
    "depthwise_with_two_outputs_each": lambda: nn.Sequential(
        depthwise(3, 2 * WIDTH, padding=1), nn.Conv1d(2 * WIDTH, WIDTH, 1)
    ),
    "depthwise_2d": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 2)), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Flatten(1, 2)
    ),
    "grouped": lambda: nn.Conv1d(WIDTH, WIDTH, 6, padding=3, groups=2),
    "transposed": lambda: nn.ConvTranspose1d(WIDTH, WIDTH, 3, padding=1),
    "transposed_grouped_strided_dilated": lambda: nn.ConvTranspose1d(
        WIDTH, WIDTH, 3, stride=2, padding=1, output_padding=2, dilation=3, groups=2, bias=False
    ),
    "transposed_2d": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 2)),
        nn.ConvTranspose2d(
            4,
            6,
            (3, 2),
            stride=(1, 2),
            padding=(0, 1),
            output_padding=(0, 1),
            dilation=(2, 1),
            groups=2,
        ),
        nn.Conv2d(6, 4, (5, 1), bias=False),
        nn.Flatten(1, 2),
    ),
    "transposed_weight_norm": lambda: weight_norm(nn.ConvTranspose1d(WIDTH, WIDTH, 2, stride=2)),
    "group_norm": lambda: nn.GroupNorm(4, WIDTH),
    "group_norm_of_each_channel": lambda: nn.GroupNorm(WIDTH, WIDTH, eps=0.1),
    "instance_norm": lambda: nn.InstanceNorm1d(WIDTH, affine=True),
    "instance_norm_on_running_statistics": lambda: nn.InstanceNorm1d(
        WIDTH, affine=True, track_running_stats=True
    ),
    "instance_norm_2d": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 2)), nn.InstanceNorm2d(4, affine=True), nn.Flatten(1, 2)
    ),
    "prelu": lambda: nn.PReLU(),
    "prelu_of_each_channel": lambda: nn.PReLU(WIDTH),
    # As in the position convolution of wav2vec 2.0. By a hook, the weight is an attribute, which
    # the tests can copy only if it has no graph yet.
    "weight_norm": lambda: weight_norm(nn.Conv1d(WIDTH, WIDTH, 5, padding=2, groups=2), dim=2),
    "weight_norm_by_a_hook": lambda: torch.no_grad()(nn.utils.weight_norm)(
        nn.Conv1d(WIDTH, WIDTH, 5, padding=2, groups=2), dim=2
    ),
    "weight_norm_depthwise": lambda: weight_norm(depthwise(3, padding=1)),
    "spectral_norm": lambda: spectral_norm(nn.Conv1d(WIDTH, WIDTH, 3, padding=1)),
    "spectral_norm_by_a_hook": lambda: nn.utils.spectral_norm(nn.Conv1d(WIDTH, WIDTH, 1)),
    "subclass_that_pads": lambda: CausalConvolution(WIDTH, WIDTH, 3, dilation=2),
    "subclass_that_pads_depthwise": lambda: CausalConvolution(
        WIDTH, WIDTH, 3, groups=WIDTH, bias=False
    ),
    "subclass_with_normalized_weight": lambda: weight_norm(CausalConvolution(WIDTH, WIDTH, 2)),
    "subclass_twice": lambda: Twice(CausalConvolution(WIDTH, WIDTH, 2)),
    "convolution_2d_by_name": lambda: ConvolutionByName(),
    "one_normalized_weight_twice": lambda: Twice(weight_norm(nn.Conv1d(WIDTH, WIDTH, 1))),
}

#: Of [N, T, channels].
FRAMES: dict[str, Callable[[], nn.Module]] = {
    "rms_norm": lambda: nn.RMSNorm(WIDTH),
    "rms_norm_eps": lambda: nn.RMSNorm(WIDTH, eps=0.1),
    "layer_norm": lambda: nn.LayerNorm(WIDTH),
    "embedding": lambda: Embedded(nn.Embedding(5, WIDTH)),
    "embedding_with_padding": lambda: Embedded(nn.Embedding(5, WIDTH, padding_idx=1)),
    "embedding_by_function": lambda: Embedded(EmbeddingSubclass(5, WIDTH, padding_idx=-4)),
    "norms_by_functions": lambda: Normalized(),
    "product": lambda: Multiplied(),
    "product_of_a_transposed_weight": lambda: Multiplied(transposed=True),
    "product_of_a_low_rank_update": lambda: LowRank(),
    "embedding_tied_to_a_projection": lambda: Embedded(nn.Embedding(5, WIDTH), tied=True),
    "orthogonal": lambda: orthogonal(nn.Linear(WIDTH, WIDTH)),
    "attention": lambda: Attention(),
    "attention_with_everything": lambda: Attention(
        add_bias_kv=True, add_zero_attn=True, with_weights=True
    ),
    "attention_separate": lambda: Attention(kdim=3, vdim=5, bias=False),
    "attention_to_others": lambda: Attention(to_others=True),
    "attention_of_keys_alone": lambda: Attention(to_others=True, values_alone=True),
    "transformer_layer": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True),
    "weights_used_directly": lambda: DirectUse(),
    "lstm_with_projections": lambda: Projected(bidirectional=True),
    "lstm_with_projections_packed": lambda: Projected(num_layers=2, bias=False, packed=True),
}


class CausalConvolution(nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:
        missing = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(F.pad(input, (missing, 0)))


class ConvolutionByName(nn.Module):
    """``conv2d`` with most of its arguments by name, of a weight that is part of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(2, 4, 2, 3, 2))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = F.conv2d(
                bias=self.bias, weight=weight, input=x.unflatten(1, (4, 2)), padding="same",
                groups=2,
            ).flatten(1, 2)  # fmt: skip
        return x


class EmbeddingSubclass(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return 2.0 * super().forward(input)


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(3, WIDTH))
        self.bias = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x, [WIDTH], self.weights[0], self.bias, 0.1)
        x = F.rms_norm(x, [WIDTH], self.weights[1])
        return F.group_norm(x.mT, 4, self.weights[2], self.bias).mT


class Multiplied(nn.Module):
    """Products in three spellings, of one weight."""

    def __init__(self, *, transposed: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.t() if self.transposed else self.weight
        return torch.matmul(x, weight) + (x.tanh() @ self.weight).sin().matmul(weight)


class LowRank(nn.Module):
    """Whose weight is a product: no activation is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = (nn.Parameter(torch.randn(*s)) for s in ((WIDTH, 2), (2, WIDTH)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.down @ self.up)


class Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(self.inner(x).tanh())
        return out


class Embedded(nn.Module):
    """Adds the embedding of a class of each frame; perhaps projects by the same table."""

    def __init__(self, table: nn.Embedding, *, tied: bool = False) -> None:
        super().__init__()
        self.table = table
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        frames = torch.arange(x.shape[1]).expand(x.shape[:2])
        x = x + self.table(frames % 4)
        return F.linear(F.linear(x, self.table.weight), self.table.weight.t()) if self.tied else x


class Attention(nn.Module):
    def __init__(
        self,
        *,
        with_weights: bool = False,
        to_others: bool = False,
        values_alone: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **options)
        self.sizes = options.get("kdim", WIDTH), options.get("vdim", WIDTH)
        self.with_weights, self.to_others, self.values_alone = with_weights, to_others, values_alone

    def forward(self, x: Tensor) -> Tensor:
        keys, values = (x[..., :size] for size in self.sizes)
        if self.sizes == (WIDTH, WIDTH):
            keys = x.cos() if self.to_others else x
            values = x.sin() if self.values_alone else keys
        out: Tensor
        out, weights = self.attention(x, keys, values, need_weights=self.with_weights)
        return out if weights is None else out + weights.square().sum(2, keepdim=True)


class Projected(nn.Module):
    """An LSTM whose initial states depend on the input, and whose final ones are used."""

    def __init__(self, *, packed: bool = False, **options: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, 10, proj_size=WIDTH, batch_first=True, **options)
        self.packed = packed

    def forward(self, x: Tensor) -> Tensor:
        count = self.lstm.num_layers * (1 + self.lstm.bidirectional)
        hidden, cell = (
            x[:, :1].mT.expand(-1, -1, count).permute(2, 0, 1),
            x[:, 1:3].flatten(1)[:, :10],
        )
        initial = hidden.contiguous(), cell.expand(count, -1, -1).contiguous()
        if self.packed:
            x = pack_padded_sequence(x, torch.tensor([x.shape[1]] * len(x)), batch_first=True)
        states, (last, last_cell) = self.lstm(x, initial)
        if self.packed:
            states, _ = pad_packed_sequence(states, batch_first=True)
        out: Tensor = states.unflatten(2, (-1, WIDTH)).sum(2) + last.sum(0)[:, None]
        return out * last_cell.sum((0, 2))[:, None, None]


class DirectUse(nn.Module):
    """As WavLM: a module's own projections go to torch's function, with a bias of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.register_buffer("bias", torch.randn(2, 32, 32))
        self.bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        x = x.transpose(0, 1)
        out, _ = F.multi_head_attention_forward(
            x, x, x, WIDTH, 2, torch.empty([0]),
            torch.cat((self.q.bias, self.k.bias, self.v.bias)), None, None, False, 0.0,
            self.out.weight, self.out.bias, training=False, need_weights=False,
            attn_mask=self.bias[:, :T, :T].repeat(x.shape[1], 1, 1), use_separate_proj_weight=True,
            q_proj_weight=self.q.weight, k_proj_weight=self.k.weight, v_proj_weight=self.v.weight,
        )  # fmt: skip
        return out.transpose(0, 1)


def assert_the_rule_holds(middle: nn.Module, dtype: torch.dtype, *, frames_first: bool) -> None:
    torch.manual_seed(1)
    model = Between(middle, frames_first=frames_first).to(dtype)
    assert_norms_equal_the_loop(model, batch(dtype=dtype), dtype)
    x, lengths = batch(dtype=dtype)
    inputs = ModelInputs((x[:1], lengths[:1]))
    tape = record(model, inputs, GradientEngine(model).parameters)
    _, direct = tape.reachable
    # Nothing is left to autograd, but for what attention appends to keys and values.
    assert all(name.endswith((".bias_k", ".bias_v")) for name in direct)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", CHANNELS)
def test_rules_of_modules_over_channels(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    assert_the_rule_holds(CHANNELS[name](), dtype, frames_first=False)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize("name", FRAMES)
def test_rules_of_modules_over_frames(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    assert_the_rule_holds(FRAMES[name](), dtype, frames_first=True)


class MixedFrames(nn.Module):
    """Parameters that need no rule, and one that does, larger than the activation it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(WIDTH))
        self.shift = nn.Parameter(torch.randn(2, WIDTH // 2))
        self.mix = nn.Parameter(torch.randn(2))
        self.factor = nn.Parameter(torch.randn(()))
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, add_bias_kv=True)
        self.positions = nn.Parameter(torch.randn(5, WIDTH))
        self.projection = nn.Linear(WIDTH, WIDTH)
        self.slow = nn.Parameter(torch.randn(WIDTH, 20))

    def forward(self, x: Tensor) -> Tensor:
        x = (x.unflatten(2, (2, -1)) - self.shift[None, None]).flatten(2) * self.scale
        x = torch.stack([x, x.sin()], dim=-1).mul(self.mix.softmax(0)).sum(-1) / self.factor.exp()
        x = self.attention(x, x, x, need_weights=False)[0]
        scores = x @ self.projection(self.positions).mT
        mixed = torch.einsum("ntc,cd->ntd", x[:, :2], 3.0 * self.slow).sum((1, 2), keepdim=True)
        return x + scores.sum(2, keepdim=True) + mixed


class ProductOfInputs(nn.Module):
    """Whose first layer is a product with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(NUM_BINS, WIDTH))
        self.output = nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.output((x @ self.weight).tanh()), lengths


def test_a_product_with_the_models_inputs_has_a_rule() -> None:
    torch.manual_seed(0)
    model = ProductOfInputs()
    assert_norms_equal_the_loop(model, batch(), torch.float32)
    engine = GradientEngine(model)
    x, lengths = batch(dtype=torch.float32)
    engine.sq_norms(engine.run(x[:1], lengths[:1]), torch.ones(1, 2, 12, NUM_CLASSES))
    assert engine.coverage is not None
    assert engine.coverage.without_rule == {}


def test_what_has_no_rule_is_counted_by_kind() -> None:
    """A weight of 160 numbers; scales, shifts, and a layer's input have nothing to save."""
    torch.manual_seed(0)
    model = Between(MixedFrames(), frames_first=True).double()
    assert_norms_equal_the_loop(model, batch(), torch.float64)
    engine = GradientEngine(model)
    x, lengths = batch()
    tape = engine.run(x[:1], lengths[:1])
    engine.sq_norms(tape, torch.ones(1, 2, 12, NUM_CLASSES).double())
    coverage = engine.coverage
    assert coverage is not None
    assert coverage.without_rule == {"MixedFrames": 160}
    assert coverage.counted == sum(p.numel() for p in model.parameters())
    share = f"{160 / coverage.counted:.2%}"
    assert coverage.sentence.startswith(f"{share} of {coverage.counted} parameters have no norm")
