"""A pool's outcomes: computing the missing ones, and running out of memory."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import write_recordings

import egl_fast
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.gradients.backward import VectorizedBackward
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.memory import LEAST_MEMORY_BYTES
from egl_fast.records import ScoreRecord
from egl_fast.scorer import pool_scoring
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.run import pool
from egl_fast.scoring.run.outcome import Outcome
from egl_fast.scoring.schedule import batches


def shortest(examples: Path, count: int) -> list[Utterance]:
    """The shortest recordings of the sample's pool, in its order, and a missing one."""
    everything = read_manifest(examples / "pool.jsonl")
    longest = sorted(float(u.duration_seconds or 0.0) for u in everything)[count - 1]
    chosen = [u for u in everything if float(u.duration_seconds or 0.0) <= longest][:count]
    missing = Utterance("missing", examples / "missing.wav", 0.0, None, None, {}, 99)
    return [*chosen[:4], missing, *chosen[4:]]


def found(outcomes: Sequence[Outcome]) -> dict[int, ScoreRecord | str]:
    """Records and messages by position; records compare equal where every bit does."""
    return {o.position: str(o.result) if o.record is None else o.record for o in outcomes}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("tiny", ScoringOptions(k=4)),
        ("tiny", ScoringOptions(k=12, method="lowrank", tolerance=0.2)),
        ("tiny", ScoringOptions(k=4, method="probe", probes=2)),
        ("tiny", ScoringOptions(k=4, full=True, full_samples=3, per_hypothesis=True)),
        ("base", ScoringOptions(k=8, method="lowrank", tolerance=0.3)),
    ],
    ids=["exact", "lowrank", "probe", "full", "shipped model"],
)
def test_what_is_missing_is_computed_as_if_nothing_were_known(
    examples: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    options: ScoringOptions,
) -> None:
    # Windows and units small enough that a few recordings make several.
    monkeypatch.setattr(pool, "WINDOW", 6)
    monkeypatch.setattr(batches, "WAITING", 2)
    scorer = egl_fast.Scorer.from_checkpoint(
        tiny_model if model == "tiny" else examples / "base.pt"
    )
    utterances = shortest(examples, 12)
    scoring = pool_scoring(scorer, options, batch_seconds=2.5)
    steps = list(scoring.outcomes(utterances))
    whole = found([o for step in steps for o in step])
    assert sorted(whole) == list(range(13))
    assert [p for p, result in whole.items() if isinstance(result, str)] == [4]
    assert len(steps) >= 6
    assert max(map(len, steps)) > 1
    rng = random.Random(1)
    for completed in (
        {o.position for step in rng.sample(steps, len(steps) // 2) for o in step},
        {o.position for step in steps[:-1] for o in step},
        set(rng.sample(range(13), 6)),
    ):
        rest = found(
            [o for step in scoring.outcomes(utterances, completed=completed) for o in step]
        )
        assert rest == {p: result for p, result in whole.items() if p not in completed}


def out_of_memory() -> list[Exception]:
    return [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ]


@pytest.fixture
def eight(tmp_path: Path) -> list[Utterance]:
    """Made-up recordings of slowly growing length."""
    lengths = [0.5 + 0.05 * n for n in range(8)]
    return read_manifest(write_recordings(tmp_path, ["ab"] * 8, lengths))


def scored(
    model: Path, utterances: list[Utterance], options: ScoringOptions
) -> tuple[dict[int, ScoreRecord | str], GradientEngine]:
    scorer = egl_fast.Scorer.from_checkpoint(model)
    steps = pool_scoring(scorer, options).outcomes(utterances)
    return found([o for step in steps for o in step]), scorer._engine


def assert_alike(
    some: dict[int, ScoreRecord | str], others: dict[int, ScoreRecord | str], **how: Any
) -> None:
    assert sorted(some) == sorted(others)
    for position, record in some.items():
        other = others[position]
        assert isinstance(record, ScoreRecord)
        assert isinstance(other, ScoreRecord)
        assert record.egl == pytest.approx(other.egl, **how)
        assert record.entropy == pytest.approx(other.entropy, **how)


def lines_of(said: Iterable[warnings.WarningMessage]) -> list[str]:
    return [str(one.message) for one in said if "out of memory" in str(one.message)]


@pytest.mark.parametrize("method", ["exact", "lowrank"])
@pytest.mark.parametrize("error", out_of_memory(), ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved(
    tiny_model: Path, eight: list[Utterance], monkeypatch: pytest.MonkeyPatch,
    error: Exception, method: str,
) -> None:  # fmt: skip
    options = ScoringOptions(k=5, method=method, tolerance=0.2)
    expected, _ = scored(tiny_model, eight, options)
    run, sizes = GradientEngine.run, []

    def with_room_for_three(engine: GradientEngine, features: torch.Tensor, *rest: Any) -> Any:
        sizes.append(features.shape[0])
        if features.shape[0] > 3:
            raise error
        return run(engine, features, *rest)

    monkeypatch.setattr(GradientEngine, "run", with_room_for_three)
    with pytest.warns(egl_fast.EglWarning) as said:
        results, _ = scored(tiny_model, eight, options)
    assert_alike(results, expected, rel=1e-4)
    assert max(sizes) > 3
    # Once it is known what fits, no more is tried; each halving is reported once.
    too_large = [n for n, size in enumerate(sizes) if size > 3]
    assert too_large == list(range(len(too_large)))
    assert len(lines_of(said)) == len(too_large)
    assert all("continuing with at most" in line for line in lines_of(said))


def test_rows_that_do_not_fit_are_fewer_a_pass(
    tiny_model: Path, eight: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ScoringOptions(k=40)
    expected, _ = scored(tiny_model, eight[:1], options)
    pull_back, most = VectorizedBackward.pull_back, []

    def with_little_room(
        backward: VectorizedBackward, output: Any, rows: torch.Tensor, wanted: Any
    ) -> Any:
        if wanted:
            most.append(len(rows))
            if most[-1] > 12:
                raise MemoryError
        return pull_back(backward, output, rows, wanted)

    # One row of so small a model takes less than what is next to nothing otherwise.
    monkeypatch.setattr("egl_fast.gradients.memory.LEAST_MEMORY_BYTES", 2**17)
    monkeypatch.setattr(VectorizedBackward, "pull_back", with_little_room)
    with pytest.warns(egl_fast.EglWarning) as said:
        results, engine = scored(tiny_model, eight[:1], options)
    assert max(most) > 12
    assert_alike(results, expected, rel=1e-4)
    assert engine.memory.total_bytes < 2**31
    assert all("MiB for gradients" in line for line in lines_of(said))
    assert len(set(lines_of(said))) == len(lines_of(said)) > 0


def test_an_utterance_that_never_fits_is_an_error_of_its_own(
    tiny_model: Path, eight: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ScoringOptions(k=5)
    expected, untroubled = scored(tiny_model, eight, options)
    run = GradientEngine.run

    def without_room_for_the_longest(
        engine: GradientEngine, features: torch.Tensor, *rest: Any
    ) -> Any:
        if features.shape[1] > 82:
            raise MemoryError
        return run(engine, features, *rest)

    monkeypatch.setattr(GradientEngine, "run", without_room_for_the_longest)
    with pytest.warns(egl_fast.EglWarning, match="out of memory"):
        results, engine = scored(tiny_model, eight, options)
    assert results.pop(7) == (
        "utterance 'rec7.wav': 0.8 s do not fit into memory; cut it, or leave it out, as `score "
        "--max-duration` does"
    )
    del expected[7]
    assert_alike(results, expected, rel=1e-4)
    # Less memory did not help, so later batches keep their size.
    assert engine.memory.total_bytes == untroubled.memory.total_bytes > LEAST_MEMORY_BYTES
