"""Seven bidirectional recurrent layers, all cotangents of one utterance, against torch's backward.

Both compute the cotangents of the layers' input and the squared norm of every weight's gradient,
for each row; forward passes are made beforehand. torch has two ways. One backward pass of a batch
in which the utterance is repeated gives all input cotangents, but only the sum of the rows'
parameter gradients: it is timed as if that were enough. A loop of ``torch.autograd.grad`` gives
everything. The figure is against the faster.
"""

from __future__ import annotations

import pytest
import torch
from contest import Contest
from torch import Tensor, nn

from egl_fast.gradients.engine import GradientEngine

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}

BATCH, LOOP = "torch, batch of the repeated utterance", "torch, loop over the rows"

#: Rows of the loop that are timed; all take the same time.
LOOPED = 5

#: Each takes seconds; what is compared first has warmed everything up.
ROUNDS = 2

#: Both sides are float32.
AGREEMENT = 2e-4


class Layers(nn.Module):
    """Recurrent layers behind a norm whose own gradient asks for the cotangents of their input."""

    def __init__(self, kind: type[nn.RNNBase], size: int, num_layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.rnn = kind(size, size, num_layers=num_layers, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T, I] to states [N, T, 2 H] and their lengths [N]."""
        return self.rnn(self.norm(x))[0], torch.full((x.shape[0],), x.shape[1])


@pytest.mark.benchmark(group="backward through time")
@pytest.mark.parametrize("cell", CELLS)
def test_backward_through_time(contest: Contest, cell: str) -> None:
    quick = contest.settings.deep == "tiny"
    size, num_layers, num_frames = (24, 2, 20) if quick else (512, 7, 100)
    num_rows, looped = contest.settings.k, min(LOOPED, contest.settings.k)
    torch.manual_seed(0)
    model = Layers(CELLS[cell], size, num_layers).eval()
    x = torch.randn(1, num_frames, size)
    rows = torch.randn(num_rows, num_frames, 2 * size)

    engine = GradientEngine(model)
    tape = engine.run(x)
    states = model(x)[0]
    parameters = dict(model.named_parameters())
    repeated = model.norm(x).detach().expand(num_rows, -1, -1).clone().requires_grad_()
    of_batch = model.rnn(repeated)[0]

    def ours() -> dict[str, Tensor]:
        return engine.sq_norms(tape, tape.outputs[0], rows.unsqueeze(0))

    def batch() -> tuple[Tensor, ...]:
        wanted = [repeated, *model.rnn.parameters()]
        return torch.autograd.grad(of_batch, wanted, rows, retain_graph=True)

    def loop() -> list[list[Tensor]]:
        found = []
        for row in rows[:looped]:
            gradients = torch.autograd.grad(
                states, list(parameters.values()), row.unsqueeze(0), retain_graph=True
            )
            found.append([gradient.square().sum() for gradient in gradients])
        return found

    own = ours()
    for number, of_row in enumerate(loop()):
        for name, expected in zip(parameters, of_row, strict=True):
            assert float(own[name][0, number]) == pytest.approx(float(expected), rel=AGREEMENT)
    # Every row's input cotangents, by the bias of the norm in front: it gets their sum.
    of_input = batch()[0].sum(1).square().sum(1)
    torch.testing.assert_close(own["norm.bias"][0].float(), of_input, rtol=AGREEMENT, atol=0.0)

    turns = contest.take_turns(ours, {BATCH: batch, LOOP: loop}, rounds=ROUNDS, warm_up=False)
    turns.peers[LOOP] = [seconds * num_rows / looped for seconds in turns.peers[LOOP]]
    contest.note(
        title=f"{cell.upper()}, {num_layers} layers of {size}, T = {num_frames}, {num_rows} rows",
        calls=1,
        peers=turns.summary(),
    )
    contest.remark(f"torch's loop is timed on {looped} rows of {num_rows}, and scaled")
    best = min((BATCH, LOOP), key=turns.times)
    contest.figure(f"through_time_{cell}", turns.times(best))
    contest.say(f"{turns.times(best):.1f} times {best}")
