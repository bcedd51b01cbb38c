"""The same K squared norms by other libraries, on networks that they may support.

All get the same cotangents, so the CTC loss is not part of it; forward passes are. For the built-in
model, only autograd itself computes norms. What a library says about a network that it does not
support is kept in its own words.
"""

from __future__ import annotations

import library_models
import pytest
import torch
import workloads
from entry import OWN, Entry
from gradient_libraries import LIBRARIES, LOOP, Library, SqNorms
from settings import Settings
from torch import Tensor

from egl_fast.benchmarking.interleaved import Work, seconds_of, time_interleaved
from egl_fast.features import FeatureConfig
from egl_fast.gradients.engine import GradientEngine

#: Cotangents that others get at a time: their gradients, or patches of convolutions, take 2.5 GB.
ROWS = 20

#: Libraries take up to ten seconds each; comparing them has warmed them up.
ROUNDS = 2

#: Both sides are float32.
AGREEMENT = 1e-3


@pytest.mark.filterwarnings("ignore")  # other libraries' warnings are not ours to fix
@pytest.mark.parametrize("name", library_models.NETWORKS)
def test_libraries(entry: Entry, settings: Settings, name: str) -> None:
    quick = settings.deep == "tiny"
    net = library_models.network(name, preset_name="tiny" if quick else "small")
    x = workloads.noise(0.5 if quick else 2.0, FeatureConfig())[0]
    with torch.no_grad():
        shape = net(x).shape[1:]
    cotangents = torch.randn(settings.k, *shape, generator=torch.Generator().manual_seed(4))
    engine = GradientEngine(library_models.WithLengths(net))

    def ours() -> Tensor:
        tape = engine.run(x)
        norms = engine.sq_norms(tape, cotangents.unsqueeze(0))
        return torch.stack(list(norms.values())).sum(0)[0]

    own = ours()
    rows = min(ROWS, len(cotangents))
    works: dict[str, Work] = {OWN: ours}
    for library in LIBRARIES:
        reason = unusable(library)
        if reason is None:
            try:
                work = library.prepare(net, x, cotangents[:rows])
                compare(entry, library, work, own[:rows])
                works[library.name] = work
            except DisagreementError:
                if library is LOOP:
                    raise
                reason = "computes other norms"
            except Exception as error:  # whatever a library says is the finding
                reason = f"{type(error).__name__}: {one_line(error)}"
        if reason is not None:
            entry.remark(f"{library.name}: {reason}")
    timings = time_interleaved(works, rounds=ROUNDS, warm_ups=0)
    scale = len(cotangents) / rows
    for other in timings.keys() - {OWN}:
        timings[other] = [seconds * scale for seconds in timings[other]]
    if scale > 1:
        entry.remark(f"others are timed on {rows} of {len(cotangents)} cotangents, and scaled")
    entry.keep("libraries", timings, title=f"{name}, K = {len(cotangents)}", calls=1)


class DisagreementError(Exception):
    """A library's norms are not ours."""


def unusable(library: Library) -> str | None:
    """Why a library cannot be tried."""
    return None if library.installed else f"not installed ({library.install})"


def compare(entry: Entry, library: Library, work: SqNorms, own: Tensor) -> None:
    """Check a library's norms against ours, which also warms it up."""
    found: list[Tensor] = []
    spent = seconds_of(lambda: found.append(work()))
    entry.say(f"{library.name}: {spent:.1f} s, compared")
    worst = ((found[0].detach() - own) / own).abs().max()
    if not worst <= AGREEMENT:
        raise DisagreementError(f"{library.name}: squared norms differ by {worst:.1e}")


def one_line(error: Exception) -> str:
    """The beginning of an error's message."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "..."
