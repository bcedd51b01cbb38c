"""Executing units of work, and the files they write."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from recordings import random_checkpoint
from simulations import CONFIG, edit_manifest, plan_of, pretend_unit, write_simulation

from egl_fast.cli.report import command as report
from egl_fast.errors import ModelError
from egl_fast.evaluation.simulation import execution, tables
from egl_fast.evaluation.simulation.config import read_config
from egl_fast.evaluation.simulation.execution import execute, starting_point
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.preparation import prepare
from egl_fast.evaluation.simulation.store import UnitStore, write_gzip
from egl_fast.evaluation.simulation.tables import scores_table, write_tables
from egl_fast.evaluation.simulation.units import FreshInit, Unit
from egl_fast.evaluation.simulation.work import Watcher, work
from egl_fast.model import preset


@pytest.fixture
def store(tmp_path: Path) -> UnitStore:
    return UnitStore(tmp_path / "units")


class CutOffError(Exception):
    """Stands in for the end of a process."""


def base_of(plan: Plan, store: UnitStore) -> Unit:
    return next(iter(plan.expand(store).units.values()))


def cut_off(unit: Unit, store: UnitStore, at: str) -> None:
    """Execute a unit up to a given message."""

    def note(words: str) -> None:
        if words.startswith(at):
            raise CutOffError

    with pytest.raises(CutOffError):
        execute(unit, store, note)


def pretend_scores(plan: Plan, store: UnitStore) -> None:
    """The base model and its scores, without training."""
    for _ in range(2):
        units = plan.expand(store).units.values()
        pretend_unit(next(unit for unit in units if not store.is_done(unit.name)), plan, store)


def test_random_weights_are_those_of_their_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        return next(iter(starting_point(FreshInit(preset("tiny"), seed)).model.parameters()))

    state = torch.random.get_rng_state()
    assert weights(3).equal(weights(3))
    assert not weights(3).equal(weights(4))
    assert torch.random.get_rng_state().equal(state)


def test_a_training_goes_on_after_its_last_epoch(tmp_path: Path, store: UnitStore) -> None:
    unit = base_of(plan_of(tmp_path), store)
    cut_off(unit, store, "epoch 2/2, batch 1/")
    assert not store.is_done(unit.name)
    said: list[str] = []
    execute(unit, store, said.append)
    assert said
    assert not [words for words in said if words.startswith("epoch 1/")]
    assert not store.run_dir(unit.name).exists()
    whole = UnitStore(tmp_path / "others")
    execute(unit, whole, lambda words: None)
    assert whole.result(unit.name) == store.result(unit.name)
    assert whole.test_numbers(unit.name) == store.test_numbers(unit.name)


def test_a_model_that_was_not_tested_is_not_there(tmp_path: Path, store: UnitStore) -> None:
    unit = base_of(plan_of(tmp_path), store)
    cut_off(unit, store, "testing")
    assert not store.has_model(unit.name)
    assert not store.is_done(unit.name)


def test_compressed_files_do_not_depend_on_when_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for year in (1, 2):
        monkeypatch.setattr("time.time", lambda year=year: 3e7 * year)
        write_gzip(tmp_path / f"{year}.gz", "the same")
    assert (tmp_path / "1.gz").read_bytes() == (tmp_path / "2.gz").read_bytes()


def test_paths_of_scores_hold_where_the_run_folder_is_a_link(
    tmp_path: Path, store: UnitStore
) -> None:
    plan = plan_of(tmp_path, ("seeds = [0]", "end_points = false"))
    pretend_scores(plan, store)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "run").symlink_to(tmp_path / "far" / "away")
    write_tables(plan, plan.expand(store), store, tmp_path / "run")
    scores = tmp_path / "run" / "scores"
    names = pl.read_parquet(scores / "seed-0.parquet")["audio_filepath"]
    audio = [(scores / name).resolve() for name in names]
    assert audio == [member.utterance.audio_path.resolve() for member in plan.pool]


def test_scores_are_not_those_that_the_manifest_holds(tmp_path: Path, store: UnitStore) -> None:
    # As when the pool is itself a scores file.
    scored = ('{ part = "pool" }', '{ part = "pool" }\nadd = { egl = 99, nr = 7 }')
    plan = plan_of(tmp_path, ("seeds = [0]", "end_points = false"), scored)
    pretend_scores(plan, store)
    write_tables(plan, plan.expand(store), store, tmp_path / "run")
    found = pl.read_parquet(tmp_path / "run" / "scores" / "seed-0.parquet")
    assert found.select("egl", "nr").rows() == [(score, 7) for score in range(8)]


def test_scores_of_another_configuration_do_not_stay(tmp_path: Path, store: UnitStore) -> None:
    plan = plan_of(tmp_path)
    scores = tmp_path / "run" / "scores"
    scores.mkdir(parents=True)
    for name in ("seed-0.parquet", "seed-7.jsonl", "notes.txt"):
        (scores / name).write_text("of a run with another model, or by an earlier version")
    write_tables(plan, plan.expand(store), store, tmp_path / "run")
    assert [path.name for path in scores.iterdir()] == ["notes.txt"]


def test_a_column_holds_what_the_manifests_hold() -> None:
    values = {
        "text": ["a\ud800b", "", None],
        "whole": [1, -(2**62), None],
        "number": [3, 0.5, None],
        "flag": [True, None, False],
        "mixed": [7, "x", None],
        "nested": [[1], {"a": "\x85"}, None],
        "large": [2**80, 1, None],
        "precise": [2**60 + 1, 0.5, None],
    }
    lines = [{"id": str(at), **{k: v[at] for k, v in values.items()}} for at in range(3)]
    found = scores_table([*lines, {"id": "3", "late": 1}], set()).to_dict(as_series=False)
    escaped = {
        "text": ["a\\ud800b", "", None],
        "mixed": ["7", "x", None],
        "nested": ["[1]", '{"a": "\\u0085"}', None],
        "large": [str(2**80), "1", None],
        "precise": [str(2**60 + 1), "0.5", None],
    }
    for name, column in {**values, **escaped}.items():
        assert found[name] == [*column, None], name
        assert list(map(type, found[name][:2])) in ([type(v) for v in column[:2]], [float] * 2)
    assert found["late"] == [None, None, None, 1]
    assert found["id"] == ["0", "1", "2", "3"]


def test_hypotheses_are_kept_of_what_a_report_may_show(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    [audio] = [option for option in report.params if option.name == "audio"]
    assert audio.type.max == tables.NUM_HEARD
    monkeypatch.setattr(tables, "NUM_HEARD", 1)
    plan = plan_of(tmp_path, ("seeds = [0]", "end_points = false"))
    pretend_scores(plan, store)
    hypothesis = {"text": "hi", "labels": [2, 3], "log_prob": -1.5, "sq_grad_norm": 2.0}
    scored = store.scores(plan.expand(store).base_scores[0])
    for record in scored:
        record["hypotheses"] = [{**hypothesis, "sq_grad_norm_stderr": 0.1}]
    write_tables(plan, plan.expand(store), store, tmp_path / "run")
    picks = pl.read_parquet(tmp_path / "run" / "picks.parquet")
    best = set(picks.filter(picks["rank"] == 1)["id"])
    found = pl.read_parquet(tmp_path / "run" / "scores" / "seed-0.parquet")
    shown = {"text": "hi", "log_prob": -1.5, "sq_grad_norm": 2.0}
    assert 0 < len(best) < len(found)
    assert dict(found.select("id", "hypotheses").rows()) == {
        name: [shown] if name in best else None for name in found["id"]
    }


#: Values that manifests may hold.
HOSTILE_IDS = (
    *("\x1b[31mred", "new\nline", "a\rb", "nul\0", "\ud800", "\u202eabc", 'a,"b"', "=1+1"),
    *("\u2028", "é" * 300, "\x9b31m", "", " ", "../../x"),
)


def test_hostile_ids_reach_the_tables_as_they_are(tmp_path: Path, store: UnitStore) -> None:
    write_simulation(tmp_path, CONFIG.replace("max_epochs = 2", "max_epochs = 1"))
    for number, name in enumerate(HOSTILE_IDS, start=4):
        edit_manifest(tmp_path, number, id=name)
    plan = prepare(read_config(tmp_path / "config.toml"))
    said: list[str] = []
    expansion = work(plan, store, Watcher(on_note=said.append), poll_seconds=0)
    # Read again, from what was written.
    write_tables(plan, expansion, UnitStore(store.root), tmp_path / "run")
    as_text = {name: "\\ud800" if name == "\ud800" else name for name in HOSTILE_IDS}
    picks = pl.read_parquet(tmp_path / "run" / "picks.parquet")["id"].to_list()
    assert set(picks) <= set(as_text.values())
    assert len(set(picks)) >= 4
    tests = pl.read_parquet(tmp_path / "run" / "test_utterances.parquet")["id"].to_list()
    assert set(tests) == set(HOSTILE_IDS[-3:])
    scored = pl.read_parquet(tmp_path / "run" / "scores" / "seed-0.parquet")["id"].to_list()
    assert scored == list(as_text.values())[:8]
    assert not any(name in words for words in said for name in HOSTILE_IDS[:9])
    assert pl.read_csv(tmp_path / "run" / "results.csv").height == len(expansion.points)


def test_an_error_about_a_hostile_id_is_one_printable_line(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_simulation(tmp_path)
    for number in range(4, 12):
        edit_manifest(tmp_path, number, id=f"\x1b[31m\n{number}")
    plan = prepare(read_config(tmp_path / "config.toml"))
    pretend_unit(base_of(plan, store), plan, store)
    score = next(unit for unit in plan.expand(store).units.values() if unit.kind == "score")
    monkeypatch.setattr(execution, "_model_of", lambda *_: random_checkpoint())
    (tmp_path / "pool4.wav").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        execute(score, store, lambda words: None)
    assert r"'\x1b[31m\n4'" in str(caught.value)
    assert str(caught.value).isprintable()
