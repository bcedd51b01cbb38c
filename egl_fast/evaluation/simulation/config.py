"""The configuration of a simulation: what its TOML file may say, and what that means.

docs/simulate.md shows every key in a commented example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from egl_fast import kinds
from egl_fast.checkpoint import plain_config
from egl_fast.errors import ModelError, SelectionError
from egl_fast.evaluation.simulation.toml_reading import KeyPath, Table, TomlSource
from egl_fast.evaluation.table_columns import CONTROLS
from egl_fast.model import PRESETS, ModelConfig
from egl_fast.records import STRATEGIES
from egl_fast.scoring.options import ScoringOptions
from egl_fast.selection import parse_budget
from egl_fast.training.config import TrainingConfig

#: Rankings that need no model: later rounds would say the same as the first.
MODEL_FREE: Final = frozenset({"random", "longest", "shortest"})

MODES: Final = ("single", "sequential")
PARTS: Final = ("base", "pool", "valid", "test", "pretrain", "pretrain_valid")
REQUIRED_PARTS: Final = PARTS[:4]

#: torch takes no larger ones.
_SEED: Final = kinds.Integer(0, at_most=2**63 - 1)

#: What the simulation, its data or the features decide, and the file does not.
_GIVEN_SIZES: Final = ("num_bins", "num_classes")
_GIVEN_TRAINING: Final = ("learning_rate", "seed")
_GIVEN_SCORING: Final = ("seed", "per_hypothesis")

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class SourceConfig:
    """Utterances of one manifest.

    Attributes:
        manifest: resolved path.
        where: manifest key -> the values that are taken.
        exclude: parts whose utterances are left out.
        sample: take this many at random, in the manifest's order; None: all.
        prefix: put before every id, to tell the utterances of two manifests apart.
        add: keys added to every line.
        path: of the table in the file, for errors.
    """

    manifest: Path
    where: Mapping[str, tuple[Scalar, ...]]
    exclude: tuple[str, ...]
    sample: int | None
    prefix: str
    add: Mapping[str, Scalar]
    path: KeyPath


@dataclass(frozen=True)
class TrainingPlan:
    """A training run for each learning rate; the lowest validation loss wins.

    Attributes:
        config: with the first learning rate, and seed 0.
        learning_rates: all of them.
    """

    config: TrainingConfig
    learning_rates: tuple[float, ...]

    def candidates(self, seed: int) -> list[TrainingConfig]:
        """One configuration per learning rate."""
        return [replace(self.config, learning_rate=rate, seed=seed) for rate in self.learning_rates]


@dataclass(frozen=True)
class SimulationConfig:
    """A simulation, every default filled in; what is not listed here is called as in the file.

    Attributes:
        source: the file, for errors found later on.
        data_root: folder that manifest paths are relative to, where a source names no other.
        data: part -> its sources.
        sample_seed: of the samples drawn from manifests; the same for all ``seeds``.
        queries: budgets, as written.
        step: budget of a round of "sequential"; None: from query to query.
        init_file: model file that everything starts from, instead of random weights.
        pretrain: None where there are no such data.
        scoring: options, with seed 0.
        num_hypotheses: labelings of each utterance that are kept beside its scores.
    """

    source: TomlSource
    data_root: Path
    data: Mapping[str, tuple[SourceConfig, ...]]
    sample_seed: int
    strategies: tuple[str, ...]
    queries: tuple[str, ...]
    end_points: bool
    seeds: tuple[int, ...]
    modes: tuple[str, ...]
    step: str | None
    start: str
    keep_models: bool
    model: ModelConfig
    init_file: Path | None
    base: TrainingPlan
    query: TrainingPlan
    pretrain: TrainingPlan | None
    pretrain_seed: int
    scoring: ScoringOptions
    num_hypotheses: int


def read_config(path: Path, overrides: Sequence[str] = ()) -> SimulationConfig:
    """Read and check a configuration; no other file is opened yet.

    Args:
        path: a TOML file.
        overrides: ``key=value`` each, as given to ``--set``.

    Raises:
        ConfigError: a key is unknown, missing or wrong; the message names the line.
    """
    source = TomlSource(path, overrides)
    root = source.table()
    data_root = (path.parent / root.get("data_root", kinds.text, ".")).resolve()
    strategies = kinds.list_of(kinds.OneOf(*STRATEGIES, *CONTROLS))
    queries = kinds.list_of(_query)
    settings: dict[str, Any] = {
        "strategies": root.required(
            "strategies", strategies, 'list some, such as ["random", "egl"]'
        ),
        "queries": root.required("queries", queries, 'list some, such as ["10%", "0.5h"]'),
        **{name: root.get(name, kind, default) for name, (kind, default) in _SETTINGS.items()},
    }
    if settings["step"] and "sequential" not in settings["modes"]:
        raise root.error("step", 'only "sequential" has rounds; add it to modes, or remove step')
    data, sample_seed = _data(root.table("data"), path.parent, data_root)
    model, init_file = _model(root.table("model"), path.parent)
    defaults = TrainingPlan(TrainingConfig(), (TrainingConfig().learning_rate,))
    query = _training(root.table("training"), defaults)
    base = _training(root.table("base_training"), query)
    pretraining = root.table("pretraining")
    pretrain_seed = pretraining.get("seed", _SEED, 0)
    pretrain = _training(pretraining, query)
    if pretraining.content and not data["pretrain"]:
        raise root.error(
            "pretraining", "there is nothing to train on; add [[data.pretrain]], or remove this"
        )
    scoring, num_hypotheses = _scoring(root.table("scoring"), settings["strategies"], root)
    root.finish()
    return SimulationConfig(
        source=source,
        data_root=data_root,
        data=MappingProxyType(data),
        sample_seed=sample_seed,
        model=model,
        init_file=init_file,
        base=base,
        query=query,
        pretrain=pretrain if data["pretrain"] else None,
        pretrain_seed=pretrain_seed,
        scoring=scoring,
        num_hypotheses=num_hypotheses,
        **settings,
    )


def resolved(config: SimulationConfig) -> dict[str, Any]:
    """The configuration as TOML values, defaults and overrides included; paths are absolute."""
    root = {name: getattr(config, name) for name in ("data_root", "strategies", "queries")}
    sizes = {n: v for n, v in plain_config(config.model).items() if n not in _GIVEN_SIZES}
    scoring = {n: v for n, v in asdict(config.scoring).items() if n not in _GIVEN_SCORING}
    pretrain = config.pretrain
    content: dict[str, Any] = {
        **root,
        **{name: getattr(config, name) for name in _SETTINGS},
        "data": {"seed": config.sample_seed}
        | {part: [_plain_source(s) for s in sources] for part, sources in config.data.items()},
        "model": {"init": config.init_file} if config.init_file else sizes,
        "scoring": scoring | {"hypotheses": config.num_hypotheses},
        "training": _plain_training(config.query),
        "base_training": _plain_training(config.base),
        "pretraining": pretrain and _plain_training(pretrain) | {"seed": config.pretrain_seed},
    }
    plain: dict[str, Any] = _toml(content)
    return plain


def _toml(value: Any) -> Any:
    """Plain values, without those that are None, which TOML cannot say."""
    if isinstance(value, Mapping):
        return {key: _toml(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (tuple, list)):
        return [_toml(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _query(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    try:
        budget = parse_budget(kinds.text(value))
    except SelectionError as error:
        raise ValueError(str(error)) from None
    if budget.unit == "%" and budget.amount == 100:
        raise ValueError("100% is an end point, computed unless end_points = false; remove it here")
    return str(value).strip()


#: Keys that need no other to be understood -> kind and default.
_SETTINGS: Final[dict[str, tuple[Callable[[Any], Any], Any]]] = {
    "end_points": (kinds.boolean, True),
    "seeds": (kinds.list_of(_SEED), (0,)),
    "modes": (kinds.list_of(kinds.OneOf(*MODES)), ("single",)),
    "start": (kinds.OneOf("warm", "scratch"), "warm"),
    "keep_models": (kinds.boolean, False),
    "step": (_query, None),
}


def _scalar(value: Any) -> Scalar:
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"expected a string, number or boolean, got {value!r}")
    return value


def _data(
    table: Table, folder: Path, data_root: Path
) -> tuple[dict[str, tuple[SourceConfig, ...]], int]:
    sample_seed = table.get("seed", _SEED, 0)
    data = {
        part: tuple(_source(item, folder, data_root) for item in table.tables(part))
        for part in PARTS
    }
    table.finish()
    for part in REQUIRED_PARTS:
        if not data[part]:
            raise table.missing(part, f"say what the {part} set is in [[data.{part}]]")
    if data["pretrain_valid"] and not data["pretrain"]:
        raise table.error("pretrain_valid", "needs [[data.pretrain]] beside it")
    return data, sample_seed


def _source(table: Table, folder: Path, data_root: Path) -> SourceConfig:
    manifest = table.required("manifest", kinds.text, "name a manifest")
    own_root = table.get("root", kinds.text, "")
    filters, additions = table.table("where"), table.table("add")
    scalars = kinds.one_or_list_of(_scalar)
    exclude = kinds.one_or_list_of(kinds.OneOf(*PARTS))
    source = SourceConfig(
        manifest=((folder / own_root).resolve() if own_root else data_root) / manifest,
        where=MappingProxyType({k: filters.required(k, scalars, "") for k in filters.content}),
        exclude=table.get("exclude", exclude, ()),
        sample=table.get("sample", kinds.Integer(1), None),
        prefix=table.get("prefix", kinds.text, ""),
        add=MappingProxyType({k: additions.required(k, _scalar, "") for k in additions.content}),
        path=table.path,
    )
    table.finish()
    for key in ("audio_filepath", "id", "text", "duration", "offset"):
        if key in source.add:
            raise additions.error(key, "means something in a manifest already; take another name")
    return source


def _plain_source(source: SourceConfig) -> dict[str, Any]:
    """Without what is empty, or no part of the file."""
    return {name: value for name, value in vars(source).items() if value and name != "path"}


def _model(table: Table, folder: Path) -> tuple[ModelConfig, Path | None]:
    init = table.get("init", kinds.text, "")
    for name in table.content if init else ():
        if name != "init":
            raise table.error(name, "the file of init has its sizes already; remove one of them")
    config = PRESETS[table.get("preset", kinds.OneOf(*PRESETS), "small")]
    chosen = _fields(table, config, but=_GIVEN_SIZES)
    table.finish()
    try:
        return replace(config, **chosen), (folder / init).resolve() if init else None
    except ModelError as error:
        raise table.error(None, str(error)) from None


def _fields(table: Table, defaults: Any, *, but: Sequence[str]) -> dict[str, Any]:
    """What a table says of the fields of a dataclass with kinds, or else its defaults."""
    return {
        described.name: table.get(
            described.name, kinds.kind_of(described), getattr(defaults, described.name)
        )
        for described in fields(defaults)
        if described.name not in but
    }


def _training(table: Table, defaults: TrainingPlan) -> TrainingPlan:
    chosen = _fields(table, defaults.config, but=_GIVEN_TRAINING)
    rate = kinds.Number(above=0)
    rates = table.get("learning_rate", kinds.one_or_list_of(rate), defaults.learning_rates)
    table.finish()
    return TrainingPlan(TrainingConfig(**chosen, learning_rate=rates[0]), rates)


def _plain_training(plan: TrainingPlan) -> dict[str, Any]:
    settings = {n: v for n, v in asdict(plan.config).items() if n not in _GIVEN_TRAINING}
    return settings | {"learning_rate": plan.learning_rates}


def _scoring(table: Table, strategies: Sequence[str], root: Table) -> tuple[ScoringOptions, int]:
    chosen: dict[str, Any] = {
        own.name: table.get(own.name, kinds.kind_of(own), own.default)
        for own in fields(ScoringOptions)
        if own.name not in _GIVEN_SCORING
    }
    num_hypotheses = table.get("hypotheses", kinds.Integer(0), 5)
    table.finish()
    if "egl_full" in strategies and not chosen["full"]:
        raise root.error("strategies", "egl_full needs full = true in [scoring]")
    try:
        # Norms of single hypotheses come at no cost, and egl_unsquared is made of them.
        return ScoringOptions(**chosen, per_hypothesis=True), num_hypotheses
    except ValueError as error:
        name, _, message = str(error).partition(": ")
        raise table.error(name, message) from None
