"""Seven bidirectional recurrent layers, all cotangents of one utterance, against torch's backward.

Wanted are the cotangents of the layers' input and the squared norm of every weight's gradient, for
each row; forward passes are not timed. torch has two ways. One backward pass of a batch that
repeats the utterance gives all input cotangents, but only the sum of the rows' parameter gradients;
it is timed as if that were enough. A loop of ``torch.autograd.grad`` gives everything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from entry import OWN, Entry
from settings import Settings
from torch import Tensor, nn

from egl_fast.benchmarking.interleaved import time_interleaved
from egl_fast.gradients.engine import GradientEngine

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}

BATCH, LOOP = "torch, batch of the repeated utterance", "torch, loop over the rows"

#: Rows that the loop is timed on; all take the same time.
LOOPED = 3

#: Each takes seconds; comparing the results has warmed everything up.
ROUNDS = 2

#: Relative error of a norm that float32 is promised to keep within (DESIGN.md, section 5).
PROMISED = 1e-4


class Layers(nn.Module):
    """Recurrent layers behind a norm whose own gradient asks for the cotangents of their input."""

    def __init__(self, kind: Callable[..., nn.RNNBase], size: int, num_layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.rnn = kind(size, size, num_layers=num_layers, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T, I] to states [N, T, 2 H] and their lengths [N]."""
        return self.rnn(self.norm(x))[0], torch.full((x.shape[0],), x.shape[1])


@pytest.mark.parametrize("cell", CELLS)
def test_backward_through_time(entry: Entry, settings: Settings, cell: str) -> None:
    quick = settings.deep == "tiny"
    size, num_layers, num_frames = (24, 2, 20) if quick else (512, 7, 100)
    num_rows, looped = settings.k, min(LOOPED, settings.k)
    torch.manual_seed(0)
    model = Layers(CELLS[cell], size, num_layers).eval()
    x = torch.randn(1, num_frames, size)
    rows = torch.randn(num_rows, num_frames, 2 * size)

    engine = GradientEngine(model)
    tape = engine.run(x)
    states = model(x)[0]
    repeated = model.norm(x).detach().expand(num_rows, -1, -1).clone().requires_grad_()
    of_batch = model.rnn(repeated)[0]

    def ours() -> dict[str, Tensor]:
        return engine.sq_norms(tape, rows.unsqueeze(0))

    def batch() -> tuple[Tensor, ...]:
        wanted = [repeated, *model.rnn.parameters()]
        return torch.autograd.grad(of_batch, wanted, rows, retain_graph=True)

    def loop() -> Tensor:
        return looped_sq_norms(model, states, rows[:looped])

    compare(model, x, rows[:looped], ours(), batch()[0], loop())
    works = {OWN: ours, BATCH: batch, LOOP: loop}
    timings = time_interleaved(works, rounds=ROUNDS, warm_ups=0)
    timings[LOOP] = [seconds * num_rows / looped for seconds in timings[LOOP]]
    entry.keep(
        "backward through time",
        timings,
        title=f"{cell.upper()}, {num_layers} layers of {size}, T = {num_frames}, {num_rows} rows",
        calls=1,
    )
    entry.remark(f"torch's loop is timed on {looped} rows of {num_rows}, and scaled")
    # Only the loop gives the same: a batch has no norms of single rows.
    entry.figure(f"through_time_{cell}", timings.ratio(LOOP, OWN))


def looped_sq_norms(model: Layers, states: Tensor, rows: Tensor) -> Tensor:
    """[rows, parameters], one torch.autograd.grad a row."""
    norms = []
    for row in rows:
        gradients = torch.autograd.grad(
            states, list(model.parameters()), row.unsqueeze(0), retain_graph=True
        )
        norms.append(torch.stack([gradient.square().sum() for gradient in gradients]))
    return torch.stack(norms)


def compare(
    model: Layers, x: Tensor, rows: Tensor, ours: dict[str, Tensor], batch: Tensor, loop: Tensor
) -> None:
    """Check our norms of every parameter and row against float64, as far as torch itself keeps up.

    The norm in front shows that input cotangents are right: its bias gets their sum.

    Args:
        model: in float32.
        x: its input.
        rows: those that are compared.
        ours: norms of all rows, by parameter.
        batch: input cotangents of all rows, from torch's batch.
        loop: [rows, parameters], from torch's loop.
    """
    precise = copy.deepcopy(model).double()
    truth = looped_sq_norms(precise, precise(x.double())[0], rows.double())
    own = torch.stack([ours[name][0, : len(rows)] for name, _ in model.named_parameters()], dim=1)
    allowed = PROMISED + largest_error(loop, truth)
    assert largest_error(own, truth) <= allowed
    of_bias = ours["norm.bias"][0]
    assert largest_error(batch.sum(1).square().sum(1), of_bias) <= allowed


def largest_error(norms: Tensor, truth: Tensor) -> float:
    """Relative."""
    return float(((norms - truth) / truth).abs().max())
