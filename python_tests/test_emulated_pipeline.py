"""From recordings to scores through emulated CUDA kernels: the scores are the CPU's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import engines
import numpy.typing as npt
import pytest
from recordings import scorer_of, shortest

import egl_fast
from egl_fast import _extension
from egl_fast.checkpoint import load_checkpoint
from egl_fast.data.audio import load_audio

METHODS: list[dict[str, Any]] = [
    {"method": "exact", "per_hypothesis": True},
    {"method": "lowrank", "tolerance": 0.05, "full": True, "full_samples": 30},
    {"method": "probe", "probes": 3, "full": True, "full_samples": 30},
]


@pytest.fixture(scope="module")
def waves(examples: Path) -> list[npt.NDArray[Any]]:
    """The two shortest recordings of the sample."""
    return [load_audio(utterance, sample_rate_hz=16000) for utterance in shortest(examples, 2)]


def scores(
    examples: Path, waves: list[npt.NDArray[Any]], *, double: bool, **options: Any
) -> list[egl_fast.ScoreRecord]:
    checkpoint = load_checkpoint(examples / "base.pt")
    if double:
        checkpoint.model.double()
    return scorer_of(checkpoint).score_waveforms(
        waves, sample_rate_hz=16000, k=20, beam_width=40, **options
    )


# In double, the two differ by rounding in sums of some hundred terms, taken in another order and
# amplified by a recurrence over a hundred frames. In float32, a rounding is 2^29 times as large.
@pytest.mark.parametrize(("double", "rel"), [(True, 1e-9), (False, 1e-4)], ids=["double", "float"])
@pytest.mark.parametrize("options", METHODS, ids=lambda options: options["method"])
def test_scores_are_those_of_the_cpu(
    examples: Path,
    waves: list[npt.NDArray[Any]],
    options: dict[str, Any],
    double: bool,
    rel: float,
) -> None:
    expected = scores(examples, waves, double=double, **options)
    with engines.using("emulated"):
        found = scores(examples, waves, double=double, **options)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(dataclasses.asdict(ours), dataclasses.asdict(theirs), rel)


def test_nothing_is_left_to_the_cpu_halves(examples: Path, waves: list[npt.NDArray[Any]]) -> None:
    """Otherwise the test above would compare the CPU halves with themselves."""
    operators = engines.emulated_operators()
    called = set()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            called.add(name)
            return getattr(operators, name)

    with mock.patch.object(_extension, "operators", Watched):
        scores(examples, waves[:1], double=False, method="probe", full=True)
    assert called == {
        "ctc_hypothesis_normals",
        "ctc_nbest_cotangents",
        "ctc_occupancy",
        "recurrent_backward",
        "recurrent_forward",
        "row_sq_norms",
    }


def test_the_order_of_threads_changes_nothing(
    examples: Path, waves: list[npt.NDArray[Any]]
) -> None:
    found = []
    for order in engines.ORDERS:
        with engines.using("emulated"), engines.schedule(order, seed=7):
            found += [scores(examples, waves[:1], double=False, method="lowrank")]
    assert found[0] == found[1] == found[2]


def assert_close(ours: Any, theirs: Any, rel: float) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_close(ours[key], theirs[key], rel)
    elif isinstance(theirs, (list, tuple)):
        for a, b in zip(ours, theirs, strict=True):
            assert_close(a, b, rel)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=rel, abs=1e-12)
    else:
        assert ours == theirs
