"""The configuration of a simulation: what it accepts, and the line it names when it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from simulations import CONFIG, write_simulation

from egl_fast.errors import ConfigError
from egl_fast.evaluation.simulation.config import SimulationConfig, read_config, resolved
from egl_fast.evaluation.simulation.toml_reading import line_of

TRICKY = '''\
# [not] = "a table"
a = "x # no comment" # a comment
"quoted key" = [ 1, # one
  { b = [2, 3], "c d" = """
[no.header]
""" },
  \'\'\'
e = 1\'\'\' ]
x.y.z = 1979-05-27T07:32:00Z
[t]   # a table
u = { v = { w = -1e3 } }
[[t.list]]
k = true
[[t.list]]
k = false
[t.list.sub]
k = "\\"]"
[ " spaced " . 'lit' ]
m = \'\'
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 2),
        (("quoted key",), 3),
        (("quoted key", 1, "c d"), 3),  # all of a statement is on its first line
        (("x",), 9),
        (("x", "y", "z"), 9),
        (("t",), 10),
        (("t", "u", "v", "w"), 11),
        (("t", "list"), 12),
        (("t", "list", 0), 12),
        (("t", "list", 0, "k"), 13),
        (("t", "list", 1), 14),
        (("t", "list", 1, "k"), 15),
        (("t", "list", 1, "sub"), 16),
        (("t", "list", 1, "sub", "k"), 17),
        ((" spaced ", "lit"), 18),
        ((" spaced ", "lit", "m"), 19),
        (("nothing",), None),
        (("a", "b"), None),
    ],
)
def test_lines_of_every_kind_of_key(path: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TRICKY, path) == line


_VALUES = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text("a]}#\"'\\\n,= [{", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.#", max_size=2), inner),
    max_leaves=8,
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    own = {path} if path else set()
    return own.union(*(paths(inner, (*path, key)) for key, inner in items))


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=2), _VALUES, max_size=4))
def test_every_key_that_a_toml_writer_writes_is_found(content: dict[str, Any]) -> None:
    text = tomli_w.dumps(content, multiline_strings=True)
    lines = [line_of(text, path) for path in paths(content)]
    assert all(line is not None and text.split("\n")[line - 1].strip() for line in lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_simulation(tmp_path)
    (tmp_path / "own.py").write_text("def score(candidates):\n    return [0.0] * len(candidates)\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('no')\n")
    return tmp_path


def read(folder: Path, config: str = CONFIG, *overrides: str) -> SimulationConfig:
    path = folder / "config.toml"
    path.write_text(config, encoding="utf-8")
    return read_config(path, overrides)


def line_with(config: str, part: str) -> int:
    assert config.count(part) == 1
    return config[: config.index(part)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("max_epochs = 2", "max_epoch = 2", "unknown key training.max_epoch; did you mean max_ep"),
        ("seeds = [0]", "sedes = [0]", "unknown key sedes; did you mean seeds?"),
        ("k = 4", "k = 4\nseed = 1", "unknown key scoring.seed"),
        ("max_epochs = 2", "max_epochs = 2.5", "training.max_epochs: expected a whole number"),
        ("max_epochs = 2", "max_epochs = 0", "training.max_epochs: expected at least 1, got 0"),
        ("max_epochs = 2", 'schedule = "cosin"', "training.schedule: expected one of cosine"),
        ("max_epochs = 2", "learning_rate = [1e-3, -1]", "training.learning_rate: expected a num"),
        ("max_epochs = 2", "speed_perturb = 0.6", "expected at most 0.5"),
        ("max_epochs = 2", "learning_rate = 0", "expected a number above 0, got 0"),
        ("max_epochs = 2", "max_grad_norm = inf", "expected a finite number, got inf"),
        ("max_epochs = 2", "weight_decay = nan", "expected a finite number, got nan"),
        ("max_epochs = 2", "patience = true", "expected a whole number, got True"),
        ("seeds = [0]", "seeds = [0, 1, 0]", "seeds: 0 is listed twice"),
        ("seeds = [0]", f"seeds = [{2**63}]", f"seeds: expected at most {2**63 - 1}, got"),
        ("seeds = [0]", "seeds = []", "seeds: expected an array of at least one item"),
        ('["egl", "random"]', '["egl", "luck"]', "strategies: expected one of egl,"),
        ('["egl", "random"]', '["egl_full/second"]', "egl_full needs full = true in [scoring]"),
        ("k = 4", 'k = 4\nmethod = "none"', "egl needs gradients; take exact, lowrank or probe"),
        ('["egl", "random"]', '["egl/minute"]', "after the slash, give second"),
        ('["egl", "random"]', '["none.py:score"]', "none.py:score': there is no file"),
        ('["egl", "random"]', '["own.py:other"]', "has no function 'other'"),
        ('["egl", "random"]', '["broken.py:score"]', "fails: RuntimeError"),
        ('["egl", "random"]', '["own.py:score", "./own.py:score"]', "'own.py:score' is listed tw"),
        ("k = 4", "k = 4\n[reject]\nkind = {}", "reject.kind: expected a string, number or"),
        ("seeds = [0]", "by = 3", "by: expected a string, got 3"),
        ('"50%"]', '"110%"]', "queries: budget 110%: more than there is"),
        ('"50%"]', '"100%"]', "100% is an end point"),
        ('"50%"]', '"5 recordings"]', "queries: budget '5 recordings': expected a percentage"),
        ("seeds = [0]", 'step = "10%"', 'only "sequential" has rounds'),
        ("seeds = [0]", 'modes = ["both"]', "modes: expected one of single, sequential"),
        ('preset = "tiny"', 'preset = "huge"', "model.preset: expected one of"),
        ('preset = "tiny"', "hiden_size = 3", "unknown key model.hiden_size; did you mean hidden_"),
        ('preset = "tiny"', "conv_shapes = [[[3, 2], [1, 1]]]", "kernels must be odd, got [3, 2]"),
        ("k = 4", "k = 4\n[data]\nsede = 1", "unknown key data.sede; did you mean seed?"),
        ("k = 4", "k = 4\nbeam_width = 3", "scoring.beam_width: expected at least k = 4"),
        ("k = 4", 'method = "guess"', "scoring.method: expected one of exact"),
        ('where = { part = "pool" }', 'where = { part = "pool" }\nsample = 0', "at least 1"),
        ('where = { part = "pool" }', 'exclude = ["bass"]', "data.pool.0.exclude: expected one"),
        ('where = { part = "pool" }', 'exlude = "base"', "unknown key data.pool.0.exlude; did you"),
        ('where = { part = "pool" }', 'add = { text = "x" }', "means something in a manifest"),
        ('where = { part = "pool" }', "where = { part = [[1]] }", "expected a string, number or"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    folder: Path, old: str, new: str, complaint: str
) -> None:
    assert CONFIG.count(old) == 1
    changed = CONFIG.replace(old, new)
    with pytest.raises(ConfigError) as caught:
        read(folder, changed)
    message = str(caught.value)
    assert "\n" not in message
    line = line_with(changed, new.splitlines()[-1])
    assert message.startswith(f"config {folder / 'config.toml'}, line {line}: ")
    assert complaint in message


CHOICE = """
[choices.best]
strategy = "egl/second"
batch = "clusters"
per = { part = 3 }
drop_atypical = "auto"
without = { nr = [1, 2] }
"""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[choices.best]", "[choices.egl]", "choices.egl: is a strategy's name, or looks like one"),
        ("[choices.best]", '[choices."longest/second"]', "is a strategy's name"),
        ("[choices.best]", '[choices."a.py:b"]', "or looks like one"),
        ('"egl/second"', '"luck"', "choices.best.strategy: strategy 'luck': unknown"),
        ('"egl/second"', '"egl_full"', "best: egl_full needs full = true in [scoring]"),
        ('strategy = "egl/second"\n', "", "choices.best.strategy is missing; name what to rank by"),
        ("batch =", "bacth =", "unknown key choices.best.bacth; did you mean batch?"),
        ('"clusters"', '"heap"', "choices.best.batch: expected one of clusters,"),
        ('"clusters"', '"clusters"\nshare = "part"', "choices.best.share: batch is given already"),
        ("part = 3", "part = 0", "choices.best.per.part: expected at least 1, got 0"),
        ('"auto"', '"10"', "drop_atypical: expected a percentage below 100, such as"),
        ('"auto"', '"auto"\nmin_typicality = -1', "min_typicality: drop_atypical is given"),
        ("nr = [1, 2]", "nr = []", "choices.best.without.nr: expected an array of at least one"),
    ],
)
def test_what_is_wrong_with_a_choice_is_named_with_its_line(
    folder: Path, old: str, new: str, complaint: str
) -> None:
    config = CONFIG.replace('["egl", "random"]', '["best"]') + CHOICE
    assert read(folder, config).choices[0].needs_embeddings
    with pytest.raises(ConfigError) as caught:
        read(folder, config.replace(old, new))
    message = str(caught.value)
    assert complaint in message
    start = line_with(config, "[choices.best]")
    line = int(message.split("line ")[1].split(":")[0])
    assert start <= line <= start + CHOICE.count("\n")


ROOT = Path(__file__).resolve().parent.parent


def test_the_documented_example_is_read(folder: Path) -> None:
    page = (ROOT / "docs" / "simulate.md").read_text("utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    (folder / "mine.py").write_text("def score(candidates):\n    return []\n")
    assert len(read(folder, example).choices) == 6


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda p: p.stem
)
def test_configurations_of_experiments_are_read(path: Path) -> None:
    assert read_config(path).choices


def test_a_batch_needs_budgets_of_one_unit(folder: Path) -> None:
    config = CONFIG.replace('["egl", "random"]', '["best"]') + CHOICE
    with pytest.raises(ConfigError, match=r"queries: what batch and share choose depends on"):
        read(folder, config.replace('"50%"', '"1s"'))
    assert read(folder, CONFIG.replace('"50%"', '"1s"') + CHOICE).choices[0].name == "egl"


def test_a_file_of_ones_own_is_known_by_its_content(folder: Path) -> None:
    config = read(folder, CONFIG.replace('["egl", "random"]', '["own.py:score/second"]'))
    assert [choice.name for choice in config.choices] == ["own.py:score/second"]
    recorded = tomli_w.dumps(resolved(config))
    relative = recorded.replace(str(folder / "own.py"), "../own.py")
    elsewhere = folder / "resolved" / "config.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(recorded)
    assert replace(read_config(elsewhere), source=config.source) == config
    with open(folder / "own.py", "a") as file:
        file.write("# changed\n")
    for text in (recorded, relative):
        elsewhere.write_text(text)
        with pytest.raises(
            ConfigError, match=r"line \d+: .*own.py: has changed since then; remove"
        ):
            read_config(elsewhere)


def test_a_key_that_a_model_file_decides_is_named(folder: Path) -> None:
    changed = CONFIG.replace('preset = "tiny"', 'init = "a.pt"')
    with pytest.raises(ConfigError) as caught:
        read(folder, changed)
    line = line_with(changed, "cell")
    assert f"line {line}: model.cell: the file of init has" in str(caught.value)


@pytest.mark.parametrize("key", ["strategies", "queries"])
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    lines = [line for line in CONFIG.splitlines() if not line.startswith(key)]
    with pytest.raises(ConfigError, match=rf"config .*: {key} is missing; list some"):
        read(folder, "\n".join(lines))


def test_a_missing_set_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.pool is missing; say what the pool set is"):
        read(folder, CONFIG.replace("data.pool", "data.pretrain"))


def test_invalid_toml_is_named_with_its_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 3: not TOML \("):
        read(folder, CONFIG.replace("seeds = [0]", "seeds = = 1"))
    with pytest.raises(ConfigError, match="no such file"):
        read_config(folder / "nothing.toml")


def test_overrides_win(folder: Path) -> None:
    config = read(
        folder,
        CONFIG,
        "seeds=[3, 4]",
        "training.max_epochs=7",
        "data.pool.0.sample=5",
        "base_training.learning_rate=[1e-3,1e-4]",
        "data_root=..",
    )
    assert config.seeds == (3, 4)
    assert config.query.config.max_epochs == config.base.config.max_epochs == 7
    assert config.data["pool"][0].sample == 5
    assert config.base.learning_rates == (1e-3, 1e-4)
    assert config.data_root == folder.parent


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("seeds", "expected key=value"),
        ("training.epochs=3", "unknown key training.epochs"),
        ("frobnicate=3", "unknown key frobnicate"),
        ("training.max_epochs=many", "training.max_epochs: expected a whole number, got 'many'"),
        ("data.pool.1.sample=3", "data.pool has items 0 to 0, got '1'"),
        ("seeds.x=3", "seeds has items 0 to 0, got 'x'"),
        ("start.x=3", "unknown key start.x"),
    ],
)
def test_a_wrong_override_is_named(folder: Path, override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(folder, CONFIG, override)
    assert str(caught.value).startswith(f"--set {override}: ")
    if not override.startswith("start"):
        assert complaint in str(caught.value)


def test_what_is_below_an_override_came_with_it(folder: Path) -> None:
    config = read(folder, CONFIG, 'queries=["1s", "2s"]')
    assert str(config.source.error(("queries", 0), "wrong")) == '--set queries=["1s", "2s"]: wrong'


def test_a_source_may_have_a_root_of_its_own(folder: Path) -> None:
    config = read(folder, CONFIG, "data_root=..", "data.pool.0.root=elsewhere/..")
    assert config.data["pool"][0].manifest == folder / "all.jsonl"
    assert config.data["base"][0].manifest == folder.parent / "all.jsonl"


def test_the_resolved_configuration_names_files_from_the_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CONFIG.replace('preset = "tiny"\ncell = "rnn_tanh"', 'init = "a.pt"')
    read(folder, model)
    monkeypatch.chdir(folder)
    plain = resolved(read_config(Path("config.toml")))
    assert plain["model"]["init"] == str(folder / "a.pt")
    assert plain["data"]["pool"][0]["manifest"] == str(folder / "all.jsonl")


def test_base_training_and_pretraining_start_from_training(folder: Path) -> None:
    more = '[[data.pretrain]]\nmanifest = "all.jsonl"\n[pretraining]\nmax_epochs = 9\nseed = 5\n'
    config = read(folder, CONFIG + more)
    assert config.pretrain is not None
    assert config.pretrain.config.max_epochs == 9
    assert config.pretrain.config.batch_seconds == 2
    assert config.pretrain_seed == 5
    slow_base = read(folder, CONFIG + more + "[base_training]\nbatch_seconds = 7\n")
    assert slow_base.base.config.batch_seconds == 7
    assert slow_base.pretrain == config.pretrain
    assert read(folder).pretrain is None
    with pytest.raises(ConfigError, match="pretraining: there is nothing to train on"):
        read(folder, CONFIG + "[pretraining]\nmax_epochs = 9\n")


def test_the_resolved_configuration_says_the_same(folder: Path) -> None:
    more = (
        '[[data.pretrain]]\nmanifest = "all.jsonl"\nwhere = { nr = [1, 2] }\nsample = 1\n'
        'exclude = "valid"\nprefix = "p/"\nadd = { corpus = "c" }\n[data]\nseed = 7\n'
        "[pretraining]\nseed = 5\n[base_training]\nmax_epochs = 3\nweight_decay = 0\n"
        f"[reject]\nnr = 9\n{CHOICE}"
    )
    changes = (
        'modes = ["single", "sequential"]\nstep = "5%"\nend_points = false\nstart = "scratch"\n'
        'keep_models = true\nby = "nr"'
    )
    shapes = 'cell = "rnn_tanh"\nconv_shapes = [[[5, 3], [2, 1]]]'
    changed = (
        CONFIG.replace('"random"]', '"best"]')
        .replace("seeds = [0]", changes)
        .replace('cell = "rnn_tanh"', shapes)
    )
    config = read(folder, changed + more)
    assert (config.sample_seed, config.keep_models, config.num_hypotheses) == (7, True, 2)
    assert config.base.config.weight_decay == 0
    plain = resolved(config)
    elsewhere = folder / "resolved" / "config.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(tomli_w.dumps(plain))
    again = read_config(elsewhere)
    assert replace(again, source=config.source) == config
    assert resolved(again) == plain
    assert plain["training"]["max_epochs"] == 2
    assert plain["step"] == "5%"


def test_a_count_needs_no_quotes(folder: Path) -> None:
    assert read(folder, CONFIG.replace('["25%", "50%"]', '[2, "50%"]')).queries == ("2", "50%")
