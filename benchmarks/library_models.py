"""Networks to try other libraries on: spectrograms [N, T, F] to logits [N, T, C]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from egl_fast.model import DeepSpeech2, ModelConfig, preset


class FromSpectrogram(nn.Module):
    """[N, T, F] to [N, 1, F, T], the layout of a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.transpose(1, 2).unsqueeze(1)


class ToFrames(nn.Module):
    """[N, channels, F, T] to [N, T, channels * F]."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.permute(0, 3, 1, 2).flatten(2)


class States(nn.Module):
    """A recurrent layer without its final states, so that it can stand in a sequence."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, I] to [N, T, 2 H]."""
        states: Tensor = self.rnn(x)[0]
        return states


class Whole(nn.Module):
    """The built-in model on utterances without padding."""

    def __init__(self, model: DeepSpeech2) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, F] to logits [N, T, C]."""
        lengths = torch.full((x.shape[0],), x.shape[1])
        logits: Tensor = self.model(x, lengths)[0]
        return logits


class WithLengths(nn.Module):
    """The same network in the form that ``egl_fast`` takes: logits and their lengths."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T, F] to logits [N, T, C] and lengths [N]."""
        logits = self.net(x)
        return logits, torch.full((logits.shape[0],), logits.shape[1])


def convolutional(config: ModelConfig) -> nn.Module:
    """The model's convolutions, then linear layers: every library has rules for these."""
    width = config.conv_channels * _num_bins(config)
    return nn.Sequential(
        *_convolutions(config),
        nn.Linear(width, config.hidden_size),
        nn.ReLU(),
        nn.Linear(config.hidden_size, config.num_classes),
    )


def recurrent(config: ModelConfig) -> nn.Module:
    """The model's convolutions and GRUs, without normalization and packing."""
    gru = nn.GRU(
        config.conv_channels * _num_bins(config),
        config.hidden_size,
        num_layers=config.num_layers,
        batch_first=True,
        bidirectional=True,
    )
    output = nn.Linear(2 * config.hidden_size, config.num_classes)
    return nn.Sequential(*_convolutions(config), States(gru), output)


def built_in(config: ModelConfig) -> nn.Module:
    """The model itself, with batch norm and packed sequences."""
    return Whole(DeepSpeech2(config))


#: Name -> network of a configuration.
NETWORKS = {
    "two convolutions, two linear layers": convolutional,
    "two convolutions, three GRUs": recurrent,
    "the built-in model": built_in,
}


def network(name: str, *, preset_name: str) -> nn.Module:
    """One of ``NETWORKS`` with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return NETWORKS[name](preset(preset_name)).eval()


def _convolutions(config: ModelConfig) -> list[nn.Module]:
    layers: list[nn.Module] = [FromSpectrogram()]
    channels = 1
    for kernel, stride in config.conv_shapes:
        padding = (kernel[0] // 2, kernel[1] // 2)
        layers += [nn.Conv2d(channels, config.conv_channels, kernel, stride, padding), nn.ReLU()]
        channels = config.conv_channels
    return [*layers, ToFrames()]


def _num_bins(config: ModelConfig) -> int:
    num_bins = config.num_bins
    for _, stride in config.conv_shapes:
        num_bins = -(-num_bins // stride[0])
    return num_bins
