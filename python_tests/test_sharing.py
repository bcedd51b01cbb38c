"""Which utterances share passes, and that sharing changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recordings import random_checkpoint, scorer_of, shortest, waveform
from torch import Tensor

import egl_fast
from egl_fast.errors import ModelError
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.memory import ROWS_PER_PASS, GradientMemory
from egl_fast.gradients.stages import Stage
from egl_fast.gradients.tape import Tape
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.records import ScoreRecord
from egl_fast.scoring.formula.record import pull_back
from egl_fast.scoring.formula.search import search
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.schedule.batches import WAITING, BatchLimit, BatchScoring, Scored
from egl_fast.scoring.schedule.sharing import PASS_OVERHEAD_ROWS, share_passes
from egl_fast.scoring.task import ScoringTask


def contiguous_cuts(order: list[int]) -> Iterator[list[list[int]]]:
    for size in range(len(order)):
        for places in combinations(range(1, len(order)), size):
            bounds = [0, *places, len(order)]
            yield [order[a:b] for a, b in pairwise(bounds)]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), max_size=7),
    st.integers(1, 30),
    st.integers(1, 12),
)
def test_groups_are_the_least_work_of_all_cuts(
    shapes: list[tuple[int, int]], most_rows: int, most_seconds: int
) -> None:
    rows, seconds = [r for r, _ in shapes], [float(s) for _, s in shapes]

    def fits(size: int, widest: int, longest: float) -> bool:
        return size * widest <= most_rows and size * longest <= most_seconds

    def work(groups: list[list[int]]) -> float:
        return sum(
            max(seconds[i] for i in g) * (len(g) * max(rows[i] for i in g) + PASS_OVERHEAD_ROWS)
            for g in groups
        )

    def allowed(groups: list[list[int]]) -> bool:
        return all(
            len(g) == 1 or fits(len(g), max(rows[i] for i in g), max(seconds[i] for i in g))
            for g in groups
        )

    groups = share_passes(rows, seconds, fits=fits)
    assert sorted(i for g in groups for i in g) == list(range(len(shapes)))
    assert allowed(groups)
    order = sorted(range(len(shapes)), key=lambda i: (rows[i], seconds[i], i))
    cuts = [cut for cut in contiguous_cuts(order) if allowed(cut)]
    assert work(groups) == (min(map(work, cuts)) if cuts else 0)


class WatchedEngine(GradientEngine):
    """Notes the size of each backward pass: rows per utterance, utterances."""

    def _run_stage(self, stage: Stage, tape: Tape, rows: Tensor, *rest: Any) -> Any:
        self.__dict__.setdefault("passes", []).append(tuple(rows.shape[:2]))
        return super()._run_stage(stage, tape, rows, *rest)


def results(
    engine: GradientEngine,
    recordings: list[RecordingInput],
    options: ScoringOptions,
    *,
    scorer: egl_fast.Scorer,
    skip: bool = False,
    first: int = 0,
) -> list[Any]:
    scoring = BatchScoring(
        ScoringTask(engine, scorer.recognizer, options),
        recordings,
        [f"utterance {n}" for n in range(first, first + len(recordings))],
        limit=BatchLimit(8.0),
        skip=skip,
    )
    found: dict[int, Any] = {}
    for unit in scoring.units():
        some = scoring.score(unit)
        assert not set(some) & set(found)
        assert sorted(some) == sorted(i for batch in unit for i in batch)
        found |= some
    return [one.record if isinstance(one, Scored) else one for _, one in sorted(found.items())]


@pytest.mark.parametrize("per_hypothesis", [False, True])
def test_different_ranks_share_passes(examples: Path, per_hypothesis: bool) -> None:
    """On real speech: fewer passes than utterances, little padding, and the same scores."""
    # 0.8, 0.8, and 1 s long, with 16, 17, and 25 rows: the last is better off alone.
    scorer = egl_fast.Scorer.from_checkpoint(examples / "base.pt")
    scorer.model.double()
    utterances = shortest(examples, 5)[::2]
    recordings = [scorer.recognizer.load(u) for u in utterances]
    options = ScoringOptions(
        k=30, method="lowrank", tolerance=0.1, per_hypothesis=per_hypothesis, full=True
    )
    engine = WatchedEngine(scorer.model)
    together = results(engine, recordings, options, scorer=scorer)
    shared = engine.__dict__.pop("passes")
    alone = [
        results(engine, [recording], options, scorer=scorer, first=n)[0]
        for n, recording in enumerate(recordings)
    ]
    single = engine.__dict__.pop("passes")
    assert all(columns == 1 for _, columns in single)
    assert len({rows for rows, _ in single}) > 1, "the ranks are to differ"
    assert 1 < len(shared) < len(single)
    assert all(rows * columns <= ROWS_PER_PASS for rows, columns in shared)
    padded = sum(rows * columns for rows, columns in shared)
    assert padded < 1.25 * sum(rows for rows, _ in single)
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, ScoreRecord)
        assert one.id == other.id
        for field in ("egl", "egl_stderr", "egl_full", "egl_full_stderr"):
            assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-6)
        for a, b in zip(one.hypotheses, other.hypotheses, strict=True):
            assert a.labels == b.labels
            assert a.sq_grad_norm == pytest.approx(b.sq_grad_norm, rel=1e-6)
            # A root of differences, for which rounding is larger.
            assert a.sq_grad_norm_stderr == pytest.approx(b.sq_grad_norm_stderr, rel=1e-4)


def random_scorer_and_recordings(
    seconds: list[float],
) -> tuple[egl_fast.Scorer, list[RecordingInput]]:
    scorer = scorer_of(random_checkpoint())
    return scorer, [
        scorer.recognizer.prepare(waveform(s, seed=n), name=str(n)) for n, s in enumerate(seconds)
    ]


def test_few_hypotheses_of_many_utterances_share_a_pass() -> None:
    scorer, recordings = random_scorer_and_recordings([0.5, 0.52, 0.54, 0.56, 0.58, 0.6])
    engine = WatchedEngine(scorer.model)
    records = results(engine, recordings, ScoringOptions(k=5), scorer=scorer)
    assert engine.__dict__["passes"] == [(5, 6)]
    for n, record in enumerate(records):
        [alone] = scorer.score_batch(
            *recordings[n].inputs.positional,
            ids=[f"utterance {n}"],
            k=5,
        )
        assert record.egl == pytest.approx(alone.egl, rel=1e-4)


def test_passes_carry_no_more_than_they_should() -> None:
    scorer, recordings = random_scorer_and_recordings([0.4 + 0.02 * n for n in range(WAITING)])
    engine = WatchedEngine(scorer.model)
    results(engine, recordings, ScoringOptions(k=30, method="lowrank"), scorer=scorer)
    passes = engine.__dict__["passes"]
    assert sum(rows * columns for rows, columns in passes) > 2 * ROWS_PER_PASS
    assert all(rows * columns <= ROWS_PER_PASS for rows, columns in passes)
    # No utterance's rows were split, which would lose inner products.
    assert sum(columns for _, columns in passes) == WAITING


class FailsBesideOthers(GradientEngine):
    """Fails when one utterance is pulled back alone."""

    def sq_norms(self, tape: Any, cotangents: Tensor) -> dict[str, Tensor]:
        if tape.logits.shape[0] == 1 and tape.inputs.positional[1].tolist() == [
            self.__dict__["poison"]
        ]:
            raise ModelError("poison")
        return super().sq_norms(tape, cotangents)


def test_a_failing_backward_pass_costs_only_the_culprit(monkeypatch: pytest.MonkeyPatch) -> None:
    # No room to pull back together what was searched together.
    monkeypatch.setattr(
        GradientMemory,
        "row_bytes",
        staticmethod(lambda tape: 2**40 if tape.logits.shape[0] > 1 else 1),
    )
    scorer, recordings = random_scorer_and_recordings(
        [0.4 + 0.02 * n for n in range(2 * WAITING + 2)]
    )
    engine = FailsBesideOthers(scorer.model)
    engine.__dict__["poison"] = int(recordings[2].inputs.positional[1])
    options = ScoringOptions(k=5, method="lowrank")
    found = results(engine, recordings, options, scorer=scorer, skip=True)
    assert [n for n, x in enumerate(found) if not isinstance(x, ScoreRecord)] == [2]
    with pytest.raises(ModelError, match="poison"):
        results(engine, recordings, options, scorer=scorer, skip=False)


def test_frames_that_depend_on_neighbors_are_refused() -> None:
    scorer, [recording] = random_scorer_and_recordings([0.5])
    engine = GradientEngine(scorer.model)
    features, _ = recording.inputs.positional
    task = ScoringTask(engine, scorer.recognizer, ScoringOptions(k=5))
    searched = search(
        task, engine.run(features, torch.tensor([features.shape[1]])), ids=["a"], durations=[0.5]
    )
    fewer = engine.run(features, torch.tensor([features.shape[1] - 2]))
    with pytest.raises(ModelError, match=r"'a'.* 24 frames .* and 25 in another"):
        pull_back(task, fewer, searched)
