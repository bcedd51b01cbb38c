"""Ways of choosing beyond a strategy alone, rejects, and tables by the values of a key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import commands
import numpy as np
import polars as pl
import pytest
from simulations import CONFIG, picks, plan_of, pretend, write_simulation

from egl_fast.errors import ConfigError, OutputError, SelectionError
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.store import UnitStore


@pytest.fixture
def store(tmp_path: Path) -> UnitStore:
    return UnitStore(tmp_path / "units")


CHOICES = """
[choices.best]
strategy = "random"
{}

[model]"""


def best(folder: Path, options: str, *changes: tuple[str, str]) -> Plan:
    """The plan of a choice that would pick 7, 6, 5, ... if there were no options."""
    listed = ('["egl", "random"]', '["random", "best"]')
    return plan_of(folder, listed, ("[model]", CHOICES.format(options)), *changes)


@pytest.mark.parametrize(
    ("options", "picked"),
    [
        ("", (7, 6, 5, 4)),
        ("without = { nr = [11, 9] }", (6, 4, 3, 2)),
        ("per = { part = 3 }", (7, 6, 5)),
        ('drop_atypical = "60%"', (7, 6, 5)),
        ('drop_atypical = "auto"', (7, 6, 5, 4)),
        ("min_typicality = 0.6", (7, 6)),
        ('share = "part"', (7, 6, 5, 4)),
    ],
)
def test_a_choice_is_what_select_would_choose(
    tmp_path: Path, store: UnitStore, options: str, picked: tuple[int, ...]
) -> None:
    plan = best(tmp_path, options)
    pretend(plan, store)
    expansion = plan.expand(store)
    assert picks(expansion, "best", "single") == [("25%", picked[:2]), ("50%", picked)]
    # What other choices need changes nothing for a strategy alone.
    assert picks(expansion, "random", "single")[1] == ("50%", (7, 6, 5, 4))
    needs_more = "typical" in options
    [unit] = expansion.base_scores.values()
    assert ("trusted" in unit.spec) == needs_more
    plain = plan_of(tmp_path).expand(store).base_scores
    assert (plain.get(0) == unit) != needs_more


def test_a_number_of_utterances_takes_what_is_there(tmp_path: Path, store: UnitStore) -> None:
    plan = best(tmp_path, "per = { part = 3 }", ('["25%", "50%"]', "[2, 6]"))
    pretend(plan, store)
    assert picks(plan.expand(store), "best", "single") == [("2", (7, 6)), ("6", (7, 6, 5))]


def test_rounds_choose_the_rest_among_the_rest(tmp_path: Path, store: UnitStore) -> None:
    modes = ("seeds = [0]", 'modes = ["sequential"]')
    plan = best(tmp_path, 'drop_atypical = "50%"', modes)
    titles = pretend(plan, store)
    # The first four are dropped, then three of the six that are left.
    rounds = picks(plan.expand(store), "best", "sequential")
    assert rounds == [("25%", (7, 6)), ("50%", (7, 6, 5, 4))]
    assert "scores, after best 25% in rounds, seed 0" in titles


def test_a_batch_is_a_set_of_the_right_size(tmp_path: Path, store: UnitStore) -> None:
    plan = best(tmp_path, 'batch = "clusters"', ("seeds = [0]", 'modes = ["sequential"]'))
    pretend(plan, store)
    first, second = (taken for _, taken in picks(plan.expand(store), "best", "sequential"))
    assert (len(set(first)), len(set(second))) == (2, 4)
    assert second[:2] == first


def test_a_batch_knows_how_many_picks_it_is_for(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(embeddings: np.ndarray, *, num_clusters: int, seed: int) -> np.ndarray:
        asked.append(num_clusters)
        return np.zeros(len(embeddings), dtype=np.int64)

    monkeypatch.setattr("egl_fast.selection.batches.typiclust.clusters", counted)
    plan = best(
        tmp_path, 'batch = "typiclust"', ("seeds = [0]", 'modes = ["single", "sequential"]')
    )
    pretend(plan, store)
    first, second = (taken for _, taken in picks(plan.expand(store), "best", "sequential"))
    assert (len(first), len(second), second[:2]) == (2, 4, first)
    # Of 8 recordings a quarter and a half at once; in rounds, a quarter each.
    assert asked == [2, 4, 2]


def test_what_is_asked_for_changes_the_names_of_those_who_ask(
    tmp_path: Path, store: UnitStore
) -> None:
    plan = plan_of(tmp_path)
    pretend(plan, store)
    [unit] = plan.expand(store).base_scores.values()
    plain = unit.spec
    assert not {"word_confidence", "mc_dropout"} & set(plain["scoring"])
    assert "oracles" not in plain
    assert replace(unit, oracles=True).spec == {**plain, "oracles": True}
    unsure = replace(unit, options=replace(unit.options, word_confidence=True)).spec
    assert unsure["scoring"] == {**plain["scoring"], "word_confidence": True}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ((('"random"]', '"tsallis"]'),), "tsallis needs word_confidence = true in [scoring]"),
        ((('"random"]', '"renyi/second"]'),), "renyi needs word_confidence = true in [scoring]"),
        ((('"random"]', '"mc_dropout"]'),), "mc_dropout needs mc_dropout = 8 in [scoring]"),
        ((("k = 4", "k = 4\nmc_dropout = 2"),), "mc_dropout: needs a model with dropout"),
    ],
)
def test_what_a_strategy_needs_is_named(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(tmp_path, *changes)
    assert complaint in str(caught.value)


def test_damaged_embeddings_are_named(tmp_path: Path, store: UnitStore) -> None:
    plan = best(tmp_path, 'batch = "clusters"')
    pretend(plan, store)
    [path] = store.root.glob("*/embeddings.npy")
    for content in (path.read_bytes()[:-8], b""):
        path.write_bytes(content)
        with pytest.raises(OutputError, match=r"embeddings.npy: is damaged .*; remove the folder"):
            best(tmp_path, 'batch = "clusters"').expand(UnitStore(store.root))


def test_a_gate_that_leaves_nothing_is_named(tmp_path: Path, store: UnitStore) -> None:
    with pytest.raises(SelectionError, match="choice 'best': nothing is left to select from"):
        pretend(best(tmp_path, "min_typicality = 99"), store)


def test_rejects_are_paid_for_but_not_trained_on(tmp_path: Path, store: UnitStore) -> None:
    plan = plan_of(tmp_path, ("[model]", "[reject]\nnr = [10, 4]\n\n[model]"))
    pretend(plan, store)
    points = {(p.strategy, p.query): p for p in plan.expand(store).points}
    half, full = points["egl", "50%"], points["", "100%"]
    assert half.picks == (7, 6, 5, 4)
    assert half.unit is not None
    assert full.unit is not None
    assert [clip.utterance.record["nr"] for clip in half.unit.train[4:]] == [8, 9, 11]
    assert [len(point.unit.train) for point in (half, full) if point.unit] == [7, 10]


@pytest.mark.parametrize(
    ("options", "place", "complaint"),
    [
        ("without = { nr = 0 }", "without = ", "no line of the pool that is left has nr = 0"),
        ("without = { kind = 0 }", "without = ", "no line of the pool that is left has the key"),
        ('without = { part = "pool" }', "without = ", "without: matches all of the pool"),
        ("[reject]\nnr = 99", "nr = 99", "no line of the pool that is left has nr = 99"),
        ('share = "corpus"', "share = ", "no line of the pool has the key 'corpus'"),
        ("per.corpus = 2", "per.corpus", "no line of the pool has the key 'corpus'"),
    ],
)
def test_what_the_pool_lacks_is_named_with_its_line(
    tmp_path: Path, options: str, place: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        best(tmp_path, options)
    lines = (tmp_path / "config.toml").read_text().splitlines()
    [line] = [number for number, text in enumerate(lines, 1) if text.startswith(place)]
    assert f"line {line}: " in str(caught.value)
    assert complaint in str(caught.value)


def test_values_to_tell_apart_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"by: utterance 'pool4.wav' of pool has no string,"):
        plan_of(tmp_path, ("seeds = [0]", 'by = "corpus"'))


def test_typicality_needs_a_few_recordings(tmp_path: Path) -> None:
    fewer = ('where = { part = "base" }', 'where = { part = "base" }\nsample = 3')
    with pytest.raises(ConfigError, match=r"best: typicality needs at least 12 utterances, .* 11"):
        best(tmp_path, 'batch = "clusters"', fewer)


ALL_OF_IT = """
[reject]
nr = [4, 5, 6, 7]

[choices.gated]
strategy = "egl/second"
drop_atypical = "auto"

[choices.varied]
strategy = "random"
batch = "facility"
drop_atypical = "25%"
"""


def test_all_that_select_can_do_is_evaluated(tmp_path: Path) -> None:
    names = ["gated", "varied", "mine.py:score", "random"]
    config = CONFIG.replace('["egl", "random"]', json.dumps(names)).replace("k = 4", "k = 2")
    config = config.replace("max_epochs = 2", "max_epochs = 1").replace('["25%", ', "[")
    path = write_simulation(tmp_path, 'by = "text"\n' + config + ALL_OF_IT)
    (tmp_path / "mine.py").write_text(
        "def score(candidates):\n"
        "    assert all('text' not in record for record in candidates.records)\n"
        "    return [-value for value in candidates.numbers('typicality')]\n"
    )

    def run(config: Path) -> None:
        arguments = ("--config", config, "--run-dir", tmp_path / "run", "--threads", 1)
        assert commands.in_this_process("simulate", *arguments) == 0

    run(path)
    results = pl.read_parquet(tmp_path / "run" / "results.parquet")
    assert results["strategy"].to_list() == ["", *names, ""]
    assert results["num_labeled"].to_list() == [0, 4, 4, 4, 4, 8]
    pool = pl.read_parquet(tmp_path / "run" / "scores" / "seed-0.parquet")
    order = pool.sort("typicality")["id"].to_list()
    picked = {
        name: rows["id"].to_list()
        for (name,), rows in pl.read_parquet(tmp_path / "run" / "picks.parquet").group_by(
            "strategy"
        )
    }
    assert picked["mine.py:score"] == order[:4]
    assert not set(picked["varied"]) & set(order[:2])
    # Rejects are in the picks, and in no training.
    spec = json.loads((tmp_path / "run" / "units" / results["unit"][-1] / "spec.json").read_text())
    assert spec["train"]["clips"] == 4 + 8 - 4

    errors = pl.read_parquet(tmp_path / "run" / "results_by.parquet")
    assert len(pl.read_csv(tmp_path / "run" / "results_by.csv")) == len(errors) == 6 * 3
    for point, unit in enumerate(results.iter_rows(named=True)):
        ab, no, mean = errors[3 * point : 3 * point + 3].to_dicts()
        assert [row["value"] for row in (ab, no, mean)] == ["ab", "no", "(mean)"]
        assert [row["test_clips"] for row in (ab, no, mean)] == [1, 2, 3]
        assert mean["cer"] == (ab["cer"] + no["cer"]) / 2
        assert ab["ctc_loss"] + 2 * no["ctc_loss"] == pytest.approx(3 * unit["ctc_loss"])
    shares = pl.read_parquet(tmp_path / "run" / "picks_by.parquet")
    assert shares["value"].to_list() == ["", "ab", "no"] * 4
    assert shares["pool_share"].to_list() == [1 / 8, 3 / 8, 4 / 8] * 4
    texts = dict(pool.select("id", "text").rows())
    for row in shares.iter_rows(named=True):
        own = [name for name in picked[row["strategy"]] if texts[name] == row["value"]]
        assert (row["num_picked"], row["share"]) == (len(own), len(own) / 4)
    # Another configuration of the folder has no such tables.
    (tmp_path / "less.toml").write_text(config.replace(json.dumps(names), '["random"]'))
    run(tmp_path / "less.toml")
    assert not list((tmp_path / "run").glob("*_by.*"))
