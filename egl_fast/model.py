"""The Deep Speech 2 family: two convolutions, bidirectional recurrent layers, a softmax.

Amodei et al., "Deep Speech 2: End-to-End Speech Recognition in English and Mandarin", 2016, section
3, as used for active learning by Huang et al. (2016, section 4).

Padding never reaches a valid frame: convolutions read zeros beyond an utterance's end, as they do
when it is alone; recurrent layers run over packed sequences; batch normalization counts only valid
frames. So an utterance's logits do not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from egl_fast import kinds
from egl_fast.display import shown
from egl_fast.errors import ModelError
from egl_fast.recurrent.clipped_relu import CLIP, ClippedReluRNN
from egl_fast.recurrent.packing import pack, unpack, valid_frames

#: Gates of each cell, which share a weight matrix.
_GATES: Final = {"rnn_tanh": 1, "rnn_clipped_relu": 1, "gru": 3, "lstm": 4}

CELLS: Final = tuple(_GATES)

#: The largest network: 4 GB of weights, thirty times the `paper` preset.
MAX_WEIGHTS: Final = 10**9

#: The widest output of a convolution, channels times bins, for one frame; `paper` has 2,592.
MAX_WIDTH: Final = 2**18


class ConvShape(NamedTuple):
    """One convolution: kernel and stride over (frequency, time); kernels are odd."""

    kernel: tuple[int, int]
    stride: tuple[int, int]


def _conv_shapes(value: Any) -> tuple[ConvShape, ...]:
    """Kind: convolutions, as tuples or as lists read from a file."""
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= 16:
        raise ValueError(f"expected a list of 1 to 16 convolutions, got {shown(value)}")
    return tuple(_conv_shape(shape) for shape in value)


def _conv_shape(value: Any) -> ConvShape:
    def is_pair(part: Any) -> bool:
        return isinstance(part, (list, tuple)) and len(part) == 2

    if not is_pair(value) or not all(map(is_pair, value)):
        raise ValueError(
            "expected [[[41, 11], [2, 2]], ...]: kernel and stride over frequency and time, "
            f"got {shown(value)}"
        )
    size, step = kinds.Integer(1, at_most=999), kinds.Integer(1, at_most=100)
    (frequency, time), stride = value
    kernel = (size(frequency), size(time))
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise ValueError(f"kernels must be odd, got {list(kernel)}")
    return ConvShape(kernel, (step(stride[0]), step(stride[1])))


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a Deep Speech 2 network.

    Attributes:
        num_bins: frequency bins F of the spectrogram.
        num_classes: classes C, blank included.
        conv_channels: channels of every convolution.
        conv_shapes: kernel and stride of each, over (frequency, time).
        cell: one of ``CELLS``.
        num_layers: bidirectional recurrent layers.
        hidden_size: H, units of one direction.
        dropout: probability of dropping an input of a recurrent or the last layer in training.

    Raises:
        ModelError: a field has the wrong type or is out of range, the network would have more than
            ``MAX_WEIGHTS`` weights, or a convolution more than ``MAX_WIDTH`` outputs per frame.
    """

    num_bins: int = kinds.of_kind(161, kinds.Integer(1, at_most=2**15 + 1))
    num_classes: int = kinds.of_kind(29, kinds.Integer(2, at_most=2**16))
    conv_channels: int = kinds.of_kind(16, kinds.Integer(1, at_most=4096))
    conv_shapes: tuple[ConvShape, ...] = kinds.of_kind(
        (ConvShape((41, 11), (2, 2)), ConvShape((21, 11), (2, 1))), _conv_shapes
    )
    cell: str = kinds.of_kind("gru", kinds.OneOf(*CELLS))
    num_layers: int = kinds.of_kind(3, kinds.Integer(1, at_most=100))
    hidden_size: int = kinds.of_kind(256, kinds.Integer(1, at_most=2**14))
    dropout: float = kinds.of_kind(0.0, kinds.Number(at_least=0, below=1))

    def __post_init__(self) -> None:
        try:
            kinds.check_fields(self)
        except ValueError as error:
            raise ModelError(str(error)) from None
        width = self.conv_channels * max(self.conv_bins)
        if width > MAX_WIDTH:
            raise ModelError(
                f"conv_channels: a convolution would have {width:,} outputs per frame; "
                f"at most {MAX_WIDTH:,} are allowed"
            )
        if self.num_weights > MAX_WEIGHTS:
            raise ModelError(
                f"hidden_size, num_layers: the network would have {self.num_weights:,} weights; "
                f"at most {MAX_WEIGHTS:,} are allowed"
            )

    @property
    def conv_bins(self) -> tuple[int, ...]:
        """Frequency bins after each convolution."""
        left = [self.num_bins]
        for shape in self.conv_shapes:
            left.append(-(-left[-1] // shape.stride[0]))
        return tuple(left[1:])

    @property
    def num_weights(self) -> int:
        """Parameters of the network, without building it."""
        channels, count = 1, 0
        for (frequency, time), _ in self.conv_shapes:
            count += self.conv_channels * (channels * frequency * time + 2)
            channels = self.conv_channels
        width, size = channels * self.conv_bins[-1], self.hidden_size
        for _ in range(self.num_layers):
            # Two directions, each with two matrices and two biases; then a norm.
            count += 2 * _GATES[self.cell] * size * (width + size + 2) + 4 * size
            width = 2 * size
        return count + self.num_classes * (width + 1)


#: `small` can be trained on two cores and shipped; `paper` is the setup of Huang et al. (2016);
#: `tiny` is for tests.
PRESETS: Final[dict[str, ModelConfig]] = {
    "paper": ModelConfig(conv_channels=32, num_layers=7, hidden_size=512),
    "small": ModelConfig(),
    "tiny": ModelConfig(conv_channels=4, num_layers=2, hidden_size=24),
}


def preset(name: str, *, cell: str | None = None, dropout: float | None = None) -> ModelConfig:
    """A preset's configuration, perhaps with another cell or dropout. Raises ``ModelError``."""
    if name not in PRESETS:
        raise ModelError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    config = PRESETS[name]
    if cell is not None:
        config = replace(config, cell=cell)
    return config if dropout is None else replace(config, dropout=dropout)


class SequenceBatchNorm(nn.Module):
    """Batch normalization with statistics over all valid frames of a batch (and all bins).

    Sequence-wise normalization of Amodei et al. (2016), equation 4. In evaluation mode, it is an
    affine map per channel by the running statistics. Padding is not counted, and becomes zero.

    Args:
        num_channels: size of dimension 1 of the input.
        momentum: weight of the newest batch in the running statistics.
        eps: added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalize ``x`` [N, channels, ..., T]; ``mask`` [N, 1, ..., T] is 1 on valid frames."""
        shape = (1, -1, *([1] * (x.dim() - 2)))
        if self.training:
            dims = [d for d in range(x.dim()) if d != 1]
            count = self.total(mask.sum()) * (x[0, 0].numel() // x.shape[-1])
            mean = self.total((x * mask).sum(dims)) / count
            var = self.total(((x - mean.view(shape)).square() * mask).sum(dims)) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * count / (count - 1).clamp_min(1), self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        # The mask goes into the small factors: one pass over x, and one over its cotangents.
        return torch.addcmul(shift.view(shape) * mask, x, scale.view(shape) * mask)

    @staticmethod
    def total(sums: Tensor) -> Tensor:
        """Sums over this batch as sums over the whole one, where processes have parts of it.

        Here the batch is whole; ``training.processes`` puts another function in its place.
        """
        return sums


def recurrent_module(cell: str, input_size: int, hidden_size: int) -> nn.RNNBase:
    """One bidirectional layer, ``batch_first``, for packed input."""
    if cell == "rnn_clipped_relu":
        return ClippedReluRNN(input_size, hidden_size)
    module: Callable[..., nn.RNNBase] = {"rnn_tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
    return module(input_size, hidden_size, batch_first=True, bidirectional=True)


class ConvBlock(nn.Module):
    """Convolution over (frequency, time), sequence-wise batch norm, clipped ReLU."""

    def __init__(self, in_channels: int, out_channels: int, shape: ConvShape) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            shape.kernel,
            shape.stride,
            padding=(shape.kernel[0] // 2, shape.kernel[1] // 2),
            bias=False,
        )
        self.norm = SequenceBatchNorm(out_channels)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[N, channels, F, T] and lengths [N] to the same, subsampled; padding stays zero."""
        stride = self.conv.stride[1]
        lengths = (lengths + stride - 1) // stride
        x = self.conv(x)
        mask = valid_frames(lengths, x.shape[3])[:, None, None, :].to(x.device, x.dtype)
        return self.norm(x, mask).clamp(0.0, CLIP), lengths


class RecurrentBlock(nn.Module):
    """One bidirectional recurrent layer and its sequence-wise batch norm."""

    def __init__(self, cell: str, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.rnn = recurrent_module(cell, input_size, hidden_size)
        self.norm = SequenceBatchNorm(2 * hidden_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[N, T, in] to [N, T, 2 H]; padding becomes zero."""
        outputs, _ = self.rnn(pack(x, lengths))
        padded = unpack(outputs, num_frames=x.shape[1])
        mask = valid_frames(lengths, x.shape[1])[:, None, :].to(x.device, x.dtype)
        normalized: Tensor = self.norm(padded.transpose(1, 2), mask)
        return normalized.transpose(1, 2)


class DeepSpeech2(nn.Module):
    """Spectrogram to CTC logits.

    Attributes:
        config: its sizes.
        utterances_first: promises to the gradient engine that every module with parameters sees
            utterances along dimension 0, or packed, so that they can share a forward pass.

    Example:
        >>> model = DeepSpeech2(preset("tiny")).eval()
        >>> logits, lengths = model(torch.zeros(2, 50, 161), torch.tensor([50, 31]))
        >>> logits.shape, lengths.tolist()
        (torch.Size([2, 25, 29]), [25, 16])
    """

    utterances_first: Final = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        convs: list[nn.Module] = []
        channels = 1
        for shape in config.conv_shapes:
            convs.append(ConvBlock(channels, config.conv_channels, shape))
            channels = config.conv_channels
        self.convs = nn.ModuleList(convs)
        width = channels * config.conv_bins[-1]
        recurrent: list[nn.Module] = []
        for _ in range(config.num_layers):
            recurrent.append(RecurrentBlock(config.cell, width, config.hidden_size))
            width = 2 * config.hidden_size
        self.recurrent = nn.ModuleList(recurrent)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, config.num_classes)

    def num_output_frames(self, num_frames: int) -> int:
        """Frames of logits for a spectrogram of ``num_frames`` frames."""
        for shape in self.config.conv_shapes:
            num_frames = -(-num_frames // shape.stride[1])
        return num_frames

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a padded batch.

        Args:
            features: [N, T_in, F], zero on padding.
            lengths: [N] int64, valid frames of each utterance, at least 1. Masks and packing are
                computed on the CPU, so lengths on a GPU require a synchronization.

        Returns:
            logits [N, T, C], unnormalized (meaningless on padding), and their lengths [N] on the
            device of ``lengths``.
        """
        device = lengths.device
        lengths = lengths.cpu()
        x = features.transpose(1, 2).unsqueeze(1)
        for conv in self.convs:
            x, lengths = conv(x, lengths)
        num_utterances, channels, num_bins, num_frames = x.shape
        x = x.permute(0, 3, 1, 2).reshape(num_utterances, num_frames, channels * num_bins)
        for block in self.recurrent:
            x = block(self.dropout(x), lengths)
        return self.output(self.dropout(x)), lengths.to(device)
