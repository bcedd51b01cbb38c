"""The same K squared norms by other libraries, on networks that they may support.

All get the same cotangents, so no CTC loss is part of it; forward passes are. Of the built-in
model nothing but autograd itself computes norms; what each library says to it, and to every other
network it does not support, is kept in its own words.
"""

from __future__ import annotations

import library_models
import pytest
import speech
import torch
from contest import Contest
from gradient_libraries import LIBRARIES, LOOP, Library, SqNorms
from torch import Tensor

from egl_fast.benchmarking.turns import Work, seconds_of
from egl_fast.features import FeatureConfig
from egl_fast.gradients.engine import GradientEngine

#: Cotangents that others get at a time: gradients, or patches of convolutions, take 2.5 GB.
ROWS = 20

#: Libraries take up to ten seconds each; what was compared is warm.
ROUNDS = 2

#: Both sides are float32.
AGREEMENT = 1e-3


@pytest.mark.filterwarnings("ignore")  # what other libraries do is not ours to mend
@pytest.mark.benchmark(group="libraries")
@pytest.mark.parametrize("name", library_models.NETWORKS)
def test_libraries(contest: Contest, name: str) -> None:
    quick = contest.settings.deep == "tiny"
    net = library_models.network(name, preset_name="tiny" if quick else "small")
    x = speech.noise(0.5 if quick else 2.0, FeatureConfig())[0]
    with torch.no_grad():
        shape = net(x).shape[1:]
    cotangents = torch.randn(contest.settings.k, *shape, generator=torch.Generator().manual_seed(4))
    engine = GradientEngine(library_models.WithLengths(net))

    def ours() -> Tensor:
        tape = engine.run(x)
        norms = engine.sq_norms(tape, cotangents.unsqueeze(0))
        return torch.stack(list(norms.values())).sum(0)[0]

    own = ours()
    rows = min(ROWS, len(cotangents))
    peers: dict[str, Work] = {}
    for library in LIBRARIES:
        reason = unusable(library)
        if reason is None:
            try:
                work = library.prepare(net, x, cotangents[:rows])
                compare(contest, library, work, own[:rows])
                peers[library.name] = work
            except DisagreementError:
                if library is LOOP:
                    raise
                reason = "computes other norms"
            except Exception as error:  # whatever a library says is the finding
                reason = f"{type(error).__name__}: {one_line(error)}"
        if reason is not None:
            contest.remark(f"{library.name}: {reason}")
    turns = contest.take_turns(ours, peers, rounds=ROUNDS, warm_up=False)
    scale = len(cotangents) / rows
    for peer in peers:
        turns.peers[peer] = [seconds * scale for seconds in turns.peers[peer]]
    if scale > 1:
        contest.remark(f"others are timed on {rows} of {len(cotangents)} cotangents, and scaled")
    contest.note(title=f"{name}, K = {len(cotangents)}", calls=1, peers=turns.summary())
    for peer in peers:
        contest.say(f"{turns.times(peer):.1f} times {peer}")


class DisagreementError(Exception):
    """A library's norms are not ours."""


def unusable(library: Library) -> str | None:
    """Why a library cannot be tried."""
    return None if library.installed else f"not installed ({library.install})"


def compare(contest: Contest, library: Library, work: SqNorms, own: Tensor) -> None:
    """Check a library's norms against ours; this is its warm-up, too."""
    found: list[Tensor] = []
    spent = seconds_of(lambda: found.append(work()))
    contest.say(f"{library.name}: {spent:.1f} s, compared")
    worst = ((found[0].detach() - own) / own).abs().max()
    if not worst <= AGREEMENT:
        raise DisagreementError(f"{library.name}: squared norms differ by {worst:.1e}")


def one_line(error: Exception) -> str:
    """The beginning of an error's message."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "..."
