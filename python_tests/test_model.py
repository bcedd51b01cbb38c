"""The network: its sizes, and that padding and neighbors never affect an utterance."""

from __future__ import annotations

import copy

import pytest
import torch
from recordings import random_checkpoint
from torch import Tensor, nn

from egl_fast.errors import ModelError
from egl_fast.model import (
    CELLS,
    DeepSpeech2,
    RecurrentBlock,
    SequenceBatchNorm,
    preset,
    valid_frames,
)

#: Frames of the utterances of a batch: unsorted, one of a single frame, odd and even.
LENGTHS = (31, 1, 44, 12)


def spectrograms(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(n, 161, generator=generator, dtype=dtype) for n in LENGTHS]


def padded(features: list[Tensor], *, extra_frames: int = 0) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([f.shape[0] for f in features])
    batch = nn.utils.rnn.pad_sequence(features, batch_first=True)
    return nn.functional.pad(batch, (0, 0, 0, extra_frames)), lengths


def run_alone(model: DeepSpeech2, features: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(features.unsqueeze(0), torch.tensor([features.shape[0]]))[0].squeeze(0)


@pytest.mark.parametrize("extra_frames", [0, 13])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_logits_do_not_depend_on_the_batch(name: str, cell: str, extra_frames: int) -> None:
    model = random_checkpoint(name=name, cell=cell).model
    exact = copy.deepcopy(model).double()
    features = spectrograms()
    batch, lengths = padded(features, extra_frames=extra_frames)
    with torch.inference_mode():
        together, num_frames = model(batch, lengths)
    alone = [run_alone(model, f) for f in features]
    # Another order of summing may differ by a few times as much as this one from exact sums.
    rounding = max(
        float((run_alone(exact, f.double()) - logits).abs().max())
        for f, logits in zip(features, alone, strict=True)
    )
    assert num_frames.tolist() == [logits.shape[0] for logits in alone]
    for row, logits in enumerate(alone):
        difference = together[row, : logits.shape[0]] - logits
        assert float(difference.abs().max()) <= 4 * rounding


@pytest.mark.parametrize("num_frames", [1, 2, 3, 10, 11, 12, 101])
def test_output_lengths_are_known_beforehand(num_frames: int) -> None:
    model = random_checkpoint().model
    logits, lengths = model(torch.zeros(1, num_frames, 161), torch.tensor([num_frames]))
    assert lengths.tolist() == [(num_frames + 1) // 2]
    assert model.num_output_frames(num_frames) == logits.shape[1] == lengths.item()
    assert logits.shape[2] == 29


def test_longer_padding_changes_nothing_while_training() -> None:
    model = random_checkpoint().model.double().train()
    results = []
    for extra_frames in (0, 9):
        fresh = copy.deepcopy(model)
        batch, lengths = padded(spectrograms(torch.float64), extra_frames=extra_frames)
        logits, num_frames = fresh(batch, lengths)
        mask = valid_frames(num_frames, logits.shape[1]).unsqueeze(2)
        (logits * mask).square().sum().backward()
        gradients = [p.grad for p in fresh.parameters()]
        outputs = (logits * mask)[:, :22].detach()
        results.append([outputs, *fresh.buffers(), *gradients])
    scale = max(float(value.abs().max()) for value in results[0])
    for short, long in zip(*results, strict=True):
        # Only the order of sums may differ; the longest runs over all frames and bins.
        tolerance = batch.numel() * torch.finfo(torch.float64).eps * scale
        assert float((short - long).abs().max()) <= tolerance


@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 5, 4, 7)])
def test_batch_norm_is_torchs_over_the_valid_frames_alone(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([7, 2, 5])
    mask = valid_frames(lengths, 7).double().view(3, *[1] * (len(shape) - 2), 7)

    def valid_rows(x: Tensor) -> Tensor:
        """[values, channels] of the valid frames of all utterances."""
        frames = [x[n, ..., :length] for n, length in enumerate(lengths)]
        return torch.cat([f.flatten(1).T for f in frames])

    ours = SequenceBatchNorm(5).double()
    oracle = nn.BatchNorm1d(5).double()
    with torch.no_grad():
        for norm in (ours, oracle):
            norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.bias.copy_(torch.linspace(-1, 1, 5))
    x = torch.randn(shape, dtype=torch.float64) * 3 + 2
    garbage = x + (1 - mask) * 1e6
    for training in (True, True, False):
        normalized = ours.train(training)(garbage, mask)
        expected = oracle.train(training)(valid_rows(x))
        # A few roundings of values below 20, in sums of at most 56.
        tolerance = {"rtol": 0.0, "atol": 20 * 56 * torch.finfo(torch.float64).eps}
        torch.testing.assert_close(valid_rows(normalized), expected, **tolerance)
        torch.testing.assert_close(ours.running_mean, oracle.running_mean, **tolerance)
        torch.testing.assert_close(ours.running_var, oracle.running_var, **tolerance)
        assert (normalized * (1 - mask)).abs().max() == 0


@pytest.mark.parametrize("cell", CELLS)
def test_a_recurrent_block_reads_no_padding(cell: str) -> None:
    torch.manual_seed(2)
    block = RecurrentBlock(cell, 6, 5).eval()
    lengths = torch.tensor([3, 8, 5])
    x = torch.randn(3, 8, 6)
    valid = valid_frames(lengths, 8).unsqueeze(2)
    with torch.inference_mode():
        clean = block(x * valid, lengths)
        dirty = block(torch.where(valid, x, torch.full_like(x, 1e6)), lengths)
    assert torch.equal(clean, dirty)
    assert (clean * ~valid).abs().max() == 0


def test_convolutions_leave_zeros_on_padding() -> None:
    model = random_checkpoint().model
    x, lengths = padded(spectrograms(), extra_frames=5)
    x = x.transpose(1, 2).unsqueeze(1)
    with torch.inference_mode():
        for conv in model.convs:
            x, lengths = conv(x, lengths)
            padding = ~valid_frames(lengths, x.shape[3])[:, None, None, :]
            assert (x * padding).abs().max() == 0
            assert x.min() >= 0


def test_a_batch_of_one_trains() -> None:
    model = random_checkpoint().model.train()
    logits, _ = model(torch.randn(1, 30, 161), torch.tensor([30]))
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_presets_have_the_sizes_they_promise() -> None:
    paper, small = preset("paper"), preset("small")
    assert (paper.num_layers, len(paper.conv_shapes)) == (7, 2)
    assert (small.num_layers, small.hidden_size, small.cell) == (3, 256, "gru")
    num_weights = sum(p.numel() for p in DeepSpeech2(small).parameters())
    # In half precision the file must stay below 8 MiB.
    assert 2 * num_weights < 8 * 2**20
    assert preset("tiny", cell="lstm", dropout=0.5).cell == "lstm"
    assert preset("tiny", dropout=0.5).dropout == 0.5


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ModelError, match="preset 'huge' is unknown; choose one of paper, small"):
        preset("huge")
    with pytest.raises(ModelError, match=r"cell: expected one of rnn_tanh.*, got 'qrnn'"):
        preset("tiny", cell="qrnn")
