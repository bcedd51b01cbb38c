"""Which recordings ``egl-fast bench`` measures, and what they say of the pool."""

from __future__ import annotations

import math
import statistics
from collections.abc import Set
from pathlib import Path
from typing import Any

import pytest
from recordings import utterance

from egl_fast.benchmarking import recordings as drawing
from egl_fast.benchmarking.recordings import Durations, choose
from egl_fast.benchmarking.results import Part, Pool
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import AudioError, ManifestError
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.recognizers.front_end import RecordingInput


def test_durations_missing_in_the_manifest_come_from_headers(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = read_manifest(recordings)
    assert Durations.of(told, seed=0).origin == "the manifest"
    lacking = [utterance(one.audio_path) for one in told]
    read = Durations.of(lacking, seed=0)
    assert read.origin == "files' headers"
    assert read.audio_seconds == pytest.approx(2.4)
    assert [seconds for seconds, _ in read.known] == pytest.approx([0.45, 0.5, 0.65, 0.8])
    mixed = Durations.of([*told[:2], *lacking[2:]], seed=0)
    assert mixed.audio_seconds == pytest.approx(2.4)
    assert mixed.origin == "the manifest, and for 2 recordings that it lacks, files' headers"

    monkeypatch.setattr(drawing, "MOST_HEADERS", 3)
    read_headers = []
    monkeypatch.setattr(
        drawing,
        "audio_seconds",
        lambda one: read_headers.append(one) or 2.0,  # type: ignore[func-returns-value]
    )
    sampled = Durations.of(lacking * 10, seed=0)
    assert len(read_headers) == 3
    assert sampled.audio_seconds == pytest.approx(2.0 * 40)
    assert sampled.origin == "the headers of 3 files"


def test_headers_that_cannot_be_read_are_left_out(recordings: Path, tmp_path: Path) -> None:
    gone = utterance(tmp_path / "gone.wav")
    readable = [utterance(one.audio_path) for one in read_manifest(recordings)]
    assert Durations.of([*readable, gone], seed=0).audio_seconds == pytest.approx(2.4)
    with pytest.raises(ManifestError, match=r"none of 1 recordings tried can be read: .*gone"):
        Durations.of([gone], seed=0)


def drawn(
    seconds: list[float],
    *,
    broken: Set[int] = frozenset(),
    **how: Any,
) -> tuple[list[drawing.Stratum], int]:
    """Strata of a pool of recordings that are never read."""

    def load(one: Any) -> RecordingInput:
        if int(one.id) in broken:
            raise AudioError("audio: broken")
        return RecordingInput(ModelInputs(), one.duration_seconds)

    pool = [utterance(Path(f"{i}"), duration_seconds=one) for i, one in enumerate(seconds)]
    options = {"num_strata": 4, "batch_seconds": 0.1, "seed": 0, **how}
    return choose(pool, Durations.of(pool, seed=0), load, **options)


SECONDS = [0.5 + 0.1 * (i % 17) + (8.0 if i % 9 == 0 else 0.0) for i in range(90)]


def test_the_draw_depends_on_pool_and_seed_alone() -> None:
    def ids(seed: int) -> list[str]:
        return [one.recordings[0].id for one in drawn(SECONDS, seed=seed)[0]]

    assert ids(3) == ids(3)
    assert len({tuple(ids(seed)) for seed in range(10)}) > 5


def test_strata_have_equal_shares_of_all_audio() -> None:
    strata, num_broken = drawn(SECONDS)
    assert num_broken == 0
    audio = [one.audio_seconds for one in strata]
    assert sum(audio) == pytest.approx(sum(SECONDS))
    assert max(audio) - min(audio) < 2 * max(SECONDS)
    # With as many strata as recordings, each is measured.
    alone, _ = drawn([1.0, 30.0, 2.0, 1.5], num_strata=4)
    assert sorted(one.recordings[0].seconds for one in alone) == [1.0, 1.5, 2.0, 30.0]


def test_estimates_are_unbiased_whatever_a_recording_costs() -> None:
    def cost(seconds: float) -> float:
        return 3.0 + seconds**2

    estimates = []
    for seed in range(400):
        strata, _ = drawn(SECONDS, seed=seed)
        pool = Pool(len(SECONDS), [one.audio_seconds for one in strata])
        measured = [one.recordings[0].seconds for one in strata]
        parts = [Part(seconds, [cost(seconds)]) for seconds in measured]
        estimates.append(pool.sum(parts, Part.median))
    truth = sum(map(cost, SECONDS))
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    assert error < 0.02 * truth
    assert abs(statistics.fmean(estimates) - truth) < 3 * error


def test_neighbors_fill_a_batch() -> None:
    strata, _ = drawn([1.0, 1.1, 1.2, 5.0], num_strata=1, batch_seconds=3.5)
    [stratum] = strata
    first, *others = (one.seconds for one in stratum.recordings)
    assert (1 + len(others)) * max(first, *others, 0.0) <= 3.5 or not others
    strata, _ = drawn([1.0] * 6, num_strata=2, batch_seconds=3.5)
    assert [len(one.recordings) for one in strata] == [3, 3]


def test_what_cannot_be_read_is_passed_over() -> None:
    strata, num_broken = drawn([1.0] * 6, broken={0, 1, 3, 4, 5}, num_strata=1)
    assert [one.id for one in strata[0].recordings] == ["2"]
    assert num_broken <= 5
    with pytest.raises(ManifestError, match=r"none of 3 recordings of 1.0 to 1.0 s"):
        drawn([1.0] * 6, broken={0, 1, 2}, num_strata=2)
