"""What a simulation does, in what order, and what it does only once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulations import picks, plan_of, pretend, pretend_unit

from egl_fast.errors import ConfigError
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.units import FileInit, FreshInit, ScoreUnit, TrainUnit
from egl_fast.evaluation.simulation.work import ready, state_of

PRETRAIN = '[[data.pretrain]]\nmanifest = "all.jsonl"\nwhere = { part = "base" }\n\n[model]'


@pytest.fixture
def store(tmp_path: Path) -> UnitStore:
    return UnitStore(tmp_path / "units")


def test_a_single_batch_takes_the_start_of_the_ranking(tmp_path: Path, store: UnitStore) -> None:
    plan = plan_of(tmp_path)
    order = pretend(plan, store, scores=[3, 1, 4, 1, 5, 9, 2, 6])
    assert order == [
        "base, seed 0",
        "scores, seed 0",
        "all of it, seed 0",
        "egl 25%, seed 0",
        "egl 50%, seed 0",
    ]  # random picks the same here, which takes no extra work
    expansion = plan.expand(store)
    assert picks(expansion, "egl", "single") == [("25%", (5, 7)), ("50%", (5, 7, 4, 2))]
    points = [(p.strategy, p.query, p.round) for p in expansion.points]
    assert points == [
        ("", "0%", 0),
        ("egl", "25%", 1),
        ("egl", "50%", 1),
        ("random", "25%", 1),
        ("random", "50%", 1),
        ("", "100%", 1),
    ]
    by_query = {p.query: p.unit for p in expansion.points}
    base, half, full = by_query["0%"], by_query["50%"], by_query["100%"]
    assert base is not None
    assert half is not None
    assert full is not None
    assert base.kind == "base"
    assert half.init is not None
    assert isinstance(half.init, TrainUnit)
    assert half.init.name == base.name
    assert [len(unit.train) for unit in (base, half, full)] == [4, 8, 12]
    labeled = {member.utterance.id for member in half.train} - {c.utterance.id for c in base.train}
    assert labeled == {plan.pool[index].utterance.id for index in (5, 7, 4, 2)}


def test_the_order_of_picks_is_no_other_work(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert plan.labeled([5, 7, 2]) == plan.labeled([2, 7, 5])


def test_end_points_can_be_left_out(tmp_path: Path, store: UnitStore) -> None:
    plan = plan_of(tmp_path, ("seeds = [0]", "end_points = false"))
    assert "all of it, seed 0" not in pretend(plan, store)
    assert "" not in {point.strategy for point in plan.expand(store).points}


def test_rounds_score_again_what_is_left(tmp_path: Path, store: UnitStore) -> None:
    modes = ("seeds = [0]", 'modes = ["single", "sequential"]')
    plan = plan_of(tmp_path, modes)
    order = pretend(plan, store)
    expansion = plan.expand(store)
    # 0..5 are left after the first round, and its model ranks them the other way around.
    assert picks(expansion, "egl", "sequential") == [("25%", (7, 6)), ("50%", (7, 6, 0, 1))]
    assert picks(expansion, "egl", "single")[1] == ("50%", (7, 6, 5, 4))
    assert picks(expansion, "random", "sequential")[1] == ("50%", (7, 6, 5, 4))
    assert order.count("scores, after egl 25% in rounds, seed 0") == 1
    assert not any("scores, after random" in title for title in order)
    units = {(p.strategy, p.mode, p.query): p.unit for p in expansion.points}
    first, second = units["egl", "sequential", "25%"], units["egl", "sequential", "50%"]
    assert first is not None
    assert first == units["egl", "single", "25%"]  # the first round is the same work
    assert second is not None
    assert isinstance(second.init, TrainUnit)
    assert second.init.name == first.name  # a warm start continues from the last round's model
    assert [p.round for p in expansion.points if p.mode == "sequential"] == [0, 1, 2, 1, 2, 1]
    [again] = [u for u in expansion.units.values() if u.title.startswith("scores, after egl")]
    assert isinstance(again, ScoreUnit)
    assert again.pool == plan.pool[:6]


def test_new_scores_are_those_of_the_remaining_recordings(tmp_path: Path, store: UnitStore) -> None:
    plan = plan_of(tmp_path, ("seeds = [0]", 'modes = ["sequential"]'))
    pretend(plan, store, scores=[9, 8, 6, 5, 4, 3, 2, 1])
    # The first round takes the first two recordings; its model ranks the rest backward.
    rounds = picks(plan.expand(store), "egl", "sequential")
    assert rounds == [("25%", (0, 1)), ("50%", (0, 1, 7, 6))]


def test_rounds_by_chance_need_no_new_scores(tmp_path: Path, store: UnitStore) -> None:
    changes = (('["egl", "random"]', '["random"]'), ("seeds = [0]", 'modes = ["sequential"]'))
    titles = pretend(plan_of(tmp_path, *changes), store)
    assert [title for title in titles if "scores" in title] == ["scores, seed 0"]


def test_rounds_from_scratch_all_start_where_the_base_did(tmp_path: Path, store: UnitStore) -> None:
    plan = plan_of(tmp_path, ("seeds = [0]", 'modes = ["sequential"]\nstart = "scratch"'))
    pretend(plan, store)
    points = plan.expand(store).points
    assert {p.unit.init for p in points if p.unit} == {plan.init}
    # All rounds' models rank alike.
    assert picks(plan.expand(store), "egl", "sequential")[1] == ("50%", (7, 6, 0, 1))


def test_a_step_adds_rounds(tmp_path: Path, store: UnitStore) -> None:
    step = ("seeds = [0]", 'modes = ["sequential"]\nstep = "12.5%"')
    plan = plan_of(tmp_path, step)
    pretend(plan, store)
    rounds = picks(plan.expand(store), "egl", "sequential")
    assert [query for query, _ in rounds] == ["12.5%", "25%", "37.5%", "50%"]
    assert [len(taken) for _, taken in rounds] == [1, 2, 3, 4]


def test_rounds_of_time(tmp_path: Path, store: UnitStore) -> None:
    changes = (
        ('["25%", "50%"]', '["1s", "2s"]'),
        ("seeds = [0]", 'modes = ["sequential"]\nstep = "0.5s"'),
    )
    plan = plan_of(tmp_path, *changes)
    pretend(plan, store)
    expansion = plan.expand(store)
    for query, taken in picks(expansion, "egl", "sequential"):
        seconds = sum(plan.pool[index].seconds for index in taken)
        assert seconds <= float(query[:-1]) < seconds + 0.51


def test_rounds_that_are_queries_are_called_as_these(tmp_path: Path) -> None:
    changes = (
        ('["25%", "50%"]', '["1.2s", "0.04m"]'),
        ("seeds = [0]", 'modes = ["sequential"]\nstep = "0.01m"'),
    )
    rounds = plan_of(tmp_path, *changes).rounds["sequential"]
    assert rounds == ("0.01m", "1.2s", "0.03m", "0.04m")


@pytest.mark.parametrize(
    ("queries", "step", "complaint"),
    [
        ('["25%", "50%"]', '"20%"', "25% is not a multiple of step = '20%'"),
        ('["25%", "1s"]', '"25%"', "rounds need queries and step in one unit"),
        ('["50%", "25%"]', '"25%"', "queries from small to large"),
        ('["50%"]', '"5%"', "less than half a record"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(
    tmp_path: Path, queries: str, step: str, complaint: str
) -> None:
    changes = (
        ('["25%", "50%"]', queries),
        ("seeds = [0]", f'modes = ["sequential"]\nstep = {step}'),
    )
    with pytest.raises(ConfigError, match=r"line 4: ") as caught:
        plan_of(tmp_path, *changes)
    assert complaint in str(caught.value)


def test_from_scratch_and_pretraining(tmp_path: Path, store: UnitStore) -> None:
    scratch = plan_of(tmp_path, ("seeds = [0]", 'seeds = [0, 1]\nstart = "scratch"'))
    pretend(scratch, store)
    inits = [p.unit.spec["init"] for p in scratch.expand(store).points if p.unit]
    assert {init["seed"] for init in inits} == {0, 1}
    pretrained = plan_of(tmp_path, ("seeds = [0]", "seeds = [0, 1]"), ("[model]", PRETRAIN))
    assert pretend(pretrained, store)[0] == "pretraining"
    expansion = pretrained.expand(store)
    bases = [unit for unit in expansion.units.values() if unit.kind == "base"]
    [pretraining] = [unit for unit in expansion.units.values() if unit.kind == "pretrain"]
    assert len(bases) == 2
    assert all(base.needs is pretraining or base.needs == pretraining for base in bases)


def test_pretraining_has_a_seed_and_a_validation_set_of_its_own(
    tmp_path: Path, store: UnitStore
) -> None:
    own = '[[data.pretrain_valid]]\nmanifest = "all.jsonl"\nwhere = { nr = 12 }\n\n[model]'
    seed = ("max_epochs = 2", "max_epochs = 2\n[pretraining]\nseed = 5\n[base_training]")
    pretrain = ("[model]", PRETRAIN.replace("[model]", own))
    plan = plan_of(tmp_path, seed, pretrain)
    pretend(plan, store)
    units = {unit.kind: unit for unit in plan.expand(store).units.values()}
    pretraining, base = units["pretrain"], units["base"]
    assert isinstance(pretraining, TrainUnit)
    assert isinstance(base, TrainUnit)
    assert isinstance(pretraining.init, FreshInit)
    assert (pretraining.init.seed, pretraining.config.seed, base.config.seed) == (5, 5, 0)
    assert [member.utterance.id for member in pretraining.valid] == ["valid12.wav"]
    assert base.valid == plan.sets["valid"]
    query = units["train"]
    assert isinstance(query, TrainUnit)
    assert query.config == plan.config.query.config
    assert base.config == plan.config.base.config != query.config
    without = plan_of(tmp_path, ("[model]", PRETRAIN))
    [pretraining] = without.expand(UnitStore(tmp_path / "nothing")).units.values()
    assert isinstance(pretraining, TrainUnit)
    assert pretraining.valid == without.sets["valid"]


def test_of_several_learning_rates_the_best_on_validation_goes_on(
    tmp_path: Path, store: UnitStore
) -> None:
    rates = ("max_epochs = 2", "max_epochs = 2\nlearning_rate = [1e-3, 2e-3, 4e-3]")
    plan = plan_of(tmp_path, rates)
    first, *_ = plan.expand(store).units.values()
    pretend_unit(first, plan, store)
    # While one of them is not done, nothing continues from another.
    assert {unit.kind for unit in plan.expand(store).units.values()} == {"base"}
    order = [first.title, *pretend(plan, store)]
    assert [title for title in order if "base" in title] == [
        f"base, seed 0, rate {rate}" for rate in ("0.001", "0.002", "0.004")
    ]
    for point in plan.expand(store).points:
        assert point.unit is not None
        assert point.unit.config.learning_rate == 2e-3
        init = point.unit.init
        assert not isinstance(init, TrainUnit) or init.config.learning_rate == 2e-3


def test_a_rate_without_a_validation_loss_is_not_the_best(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = ("max_epochs = 2", "max_epochs = 2\nlearning_rate = [1e-3, 2e-3, 4e-3]")
    plan = plan_of(tmp_path, rates)
    result = store.result

    def lost(name: str) -> dict[str, Any] | None:
        found = result(name)
        best = found is not None and found.get("valid_loss") == 0
        return {**found, "valid_loss": None} if found is not None and best else found

    monkeypatch.setattr(store, "result", lost)
    pretend(plan, store)
    for point in plan.expand(store).points:
        assert point.unit is not None
        assert point.unit.config.learning_rate == 1e-3


def test_units_are_named_by_all_that_determines_them(tmp_path: Path, store: UnitStore) -> None:
    def names(*changes: tuple[str, str]) -> dict[str, str]:
        plan = plan_of(tmp_path, *changes)
        expansion = plan.expand(UnitStore(tmp_path / "nothing"))
        return {unit.title: name for name, unit in expansion.units.items()}

    [(title, name)] = names().items()
    assert names() == {title: name}
    for change in (
        ("max_epochs = 2", "max_epochs = 3"),
        ("seeds = [0]", "seeds = [1]"),
        ('preset = "tiny"', 'preset = "tiny"\nhidden_size = 25'),
        ('{ part = "base" }', '{ part = "base" }\nsample = 3'),
        ('{ part = "test" }', '{ part = "test" }\nsample = 2'),
        ('{ part = "valid" }', '{ part = "valid" }\nsample = 2'),
    ):
        assert name not in names(change).values()
    # It does not depend on how the pool is scored, or on where files are.
    assert names(("k = 4", "k = 5")) == {title: name}


def test_the_same_number_of_recordings_is_not_the_same_work(
    tmp_path: Path, store: UnitStore
) -> None:
    [unit] = plan_of(tmp_path).expand(store).units.values()
    assert isinstance(unit, TrainUnit)
    first, *rest = unit.train
    changed = replace(first, utterance=replace(first.utterance, text="x"))
    assert replace(unit, train=(changed, *rest)).name != unit.name


def test_scorings_are_named_by_all_that_determines_them(tmp_path: Path, store: UnitStore) -> None:
    def name(*changes: tuple[str, str]) -> str:
        plan = plan_of(tmp_path, *changes)
        [base, *_] = plan.expand(store).units.values()
        pretend_unit(base, plan, store)
        [found] = [u.name for u in plan.expand(store).units.values() if u.kind == "score"]
        return found

    assert name(("max_epochs = 2", "max_epochs = 2  # as before")) == name()
    for change in (
        ("k = 4", "k = 5"),
        ("hypotheses = 2", "hypotheses = 3"),
        ('{ part = "pool" }', '{ part = "pool" }\nsample = 6'),
        ("max_epochs = 2", "max_epochs = 3"),
    ):
        assert name(change) != name(), change


def test_a_model_file_is_known_by_its_content(tmp_path: Path, store: UnitStore) -> None:
    [unit] = plan_of(tmp_path).expand(store).units.values()

    def name(path: str, sha256: str) -> str:
        return replace(unit, init=FileInit(Path(path), sha256)).name

    assert name("a.pt", "00") == name("elsewhere/b.pt", "00")
    assert name("a.pt", "00") != name("a.pt", "01")


def test_models_are_needed_while_something_starts_from_them(
    tmp_path: Path, store: UnitStore
) -> None:
    modes = ("seeds = [0]", 'modes = ["sequential"]')
    plan = plan_of(tmp_path, modes)
    pretend(plan, store)
    expansion = plan.expand(store)
    assert expansion.needed_models == set()
    units = {(p.strategy, p.query): p.unit for p in expansion.points}
    first, second = units["egl", "25%"], units["egl", "50%"]
    assert first is not None
    assert second is not None
    (store.folder(second.name) / "result.json").unlink()
    fresh = UnitStore(store.root)
    assert plan.expand(fresh).needed_models == {first.name}
    assert [unit.name for unit in ready(plan.expand(fresh), fresh)] == [second.name]
    # Without the model it has to be made again first.
    fresh.model_path(first.name).unlink()
    assert [unit.name for unit in ready(plan.expand(fresh), fresh)] == [first.name]


def test_time_left_follows_the_audio(tmp_path: Path, store: UnitStore) -> None:
    plan = plan_of(tmp_path)
    state = state_of(plan.expand(store), store, workers=1)
    assert (state.done, state.total, state.left_seconds) == (0, 7, None)
    pretend(plan, store)
    expansion = plan.expand(store)
    full = next(p.unit for p in expansion.points if p.query == "100%")
    assert full is not None
    (store.folder(full.name) / "result.json").unlink()
    fresh = UnitStore(store.root)
    state = state_of(plan.expand(fresh), fresh, workers=2)
    assert state.left_seconds == pytest.approx(2 * full.cost / 2)
    assert (state.done, state.total) == (4, 5)
