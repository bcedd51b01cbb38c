"""The configuration of a simulation: what its TOML file may contain, and what that means.

docs/simulate.md shows every key in a commented example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from egl_fast import kinds
from egl_fast.checkpoint import plain_config
from egl_fast.errors import ModelError, SelectionError
from egl_fast.evaluation.simulation.choices import Choice, plain_choices, read_choices
from egl_fast.evaluation.simulation.filters import Filter, Scalar, read_filter, scalar
from egl_fast.evaluation.simulation.toml_reading import KeyPath, Table, TomlSource
from egl_fast.model import PRESETS, ModelConfig
from egl_fast.records import ASKED_FOR_BY, NEED_GRADIENTS
from egl_fast.scoring.options import ScoringOptions
from egl_fast.selection import parse_budget
from egl_fast.selection.strategies import split_unit
from egl_fast.training.config import TrainingConfig

MODES: Final = ("single", "sequential")
PARTS: Final = ("base", "pool", "valid", "test", "pretrain", "pretrain_valid")
REQUIRED_PARTS: Final = PARTS[:4]

#: torch takes no larger ones.
_SEED: Final = kinds.Integer(0, at_most=2**63 - 1)

#: Settings that the simulation, its data or the features decide, not the file.
_GIVEN_SIZES: Final = ("num_bins", "num_classes")
_GIVEN_TRAINING: Final = ("learning_rate", "seed")
_GIVEN_SCORING: Final = ("seed", "per_hypothesis")


@dataclass(frozen=True)
class SourceConfig:
    """Utterances of one manifest.

    Attributes:
        manifest: resolved path.
        where: which utterances are taken.
        exclude: parts whose utterances are left out.
        sample: take this many at random, in the manifest's order; None: all.
        prefix: put before every id, to tell the utterances of two manifests apart.
        add: keys added to every line.
        path: of the table in the file, for errors.
    """

    manifest: Path
    where: Filter
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
    """A simulation, with all defaults filled in; other attributes are named as in the file.

    Attributes:
        source: the file, for errors found later on.
        data_root: folder that manifest paths are relative to, unless a source names another.
        data: part -> its sources.
        sample_seed: of the samples drawn from manifests; the same for all ``seeds``.
        choices: of the file's ``strategies``.
        strategy_sha256: the user's files among these -> hash of their content.
        reject: utterances of the pool that are paid for, but not trained on.
        by: key of test and pool whose values get separate tables.
        queries: budgets, as written.
        step: budget of a round of "sequential"; None: from query to query.
        init_file: model file that everything starts from, instead of random weights.
        pretrain: None if there is no such data.
        scoring: options, with seed 0.
        num_hypotheses: labelings of each utterance that are kept beside its scores.
    """

    source: TomlSource
    data_root: Path
    data: Mapping[str, tuple[SourceConfig, ...]]
    sample_seed: int
    choices: tuple[Choice, ...]
    strategy_sha256: Mapping[str, str]
    reject: Filter
    by: str | None
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
    """Read and check a configuration; the only other files read are the user's strategies.

    Args:
        path: a TOML file.
        overrides: ``key=value`` each, as given to ``--set``.

    Raises:
        ConfigError: a key is unknown, missing or wrong; the message names the line.
    """
    source = TomlSource(path, overrides)
    root = source.table()
    data_root = (path.parent / root.get("data_root", kinds.text, ".")).resolve()
    choices, strategy_sha256 = read_choices(root, path.parent)
    queries = kinds.list_of(_query)
    settings: dict[str, Any] = {
        "queries": root.required("queries", queries, 'list some, such as ["10%", "0.5h"]'),
        **{name: root.get(name, kind, default) for name, (kind, default) in _SETTINGS.items()},
    }
    if settings["step"] and "sequential" not in settings["modes"]:
        raise root.error("step", 'only "sequential" has rounds; add it to modes, or remove step')
    in_time = {parse_budget(query).seconds is not None for query in settings["queries"]}
    if len(in_time) > 1 and any(choice.depends_on_prices for choice in choices):
        raise root.error(
            "queries",
            "what batch and share choose depends on whether a budget is audio or utterances; give "
            "all queries in one, and put the others into a separate run with the same --units",
        )
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
    may_drop = init_file is not None or model.dropout > 0  # a file's model is read later
    scoring, num_hypotheses = _scoring(root.table("scoring"), choices, root, may_drop=may_drop)
    reject = read_filter(root.table("reject"))
    root.finish()
    return SimulationConfig(
        source=source,
        data_root=data_root,
        data=MappingProxyType(data),
        sample_seed=sample_seed,
        choices=choices,
        strategy_sha256=MappingProxyType(strategy_sha256),
        reject=reject,
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
    sizes = {n: v for n, v in plain_config(config.model).items() if n not in _GIVEN_SIZES}
    scoring = {n: v for n, v in asdict(config.scoring).items() if n not in _GIVEN_SCORING}
    pretrain = config.pretrain
    content: dict[str, Any] = {
        "data_root": config.data_root,
        **plain_choices(config.choices, config.strategy_sha256),
        "queries": config.queries,
        **{name: getattr(config, name) for name in _SETTINGS},
        "reject": config.reject or None,
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
    """Plain values, without None, which TOML cannot express."""
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
    "by": (kinds.text, None),
}


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
    additions = table.table("add")
    exclude = kinds.one_or_list_of(kinds.OneOf(*PARTS))
    source = SourceConfig(
        manifest=((folder / own_root).resolve() if own_root else data_root) / manifest,
        where=read_filter(table.table("where")),
        exclude=table.get("exclude", exclude, ()),
        sample=table.get("sample", kinds.Integer(1), None),
        prefix=table.get("prefix", kinds.text, ""),
        add=MappingProxyType({k: additions.required(k, scalar, "") for k in additions.content}),
        path=table.path,
    )
    table.finish()
    for key in ("audio_filepath", "id", "text", "duration", "offset"):
        if key in source.add:
            raise additions.error(key, "means something in a manifest already; take another name")
    return source


def _plain_source(source: SourceConfig) -> dict[str, Any]:
    """The source as the file would give it, without empty fields."""
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
    """A table's values for the fields of a dataclass with kinds, or else its defaults."""
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


def _scoring(
    table: Table, choices: Sequence[Choice], root: Table, *, may_drop: bool
) -> tuple[ScoringOptions, int]:
    chosen: dict[str, Any] = {
        own.name: table.get(own.name, kinds.kind_of(own), own.default)
        for own in fields(ScoringOptions)
        if own.name not in _GIVEN_SCORING
    }
    num_hypotheses = table.get("hypotheses", kinds.Integer(0), 5)
    table.finish()
    for choice in choices:
        strategy = split_unit(choice.strategy)[0]
        option = ASKED_FOR_BY.get(strategy)
        if option is not None and not chosen[option]:
            value = "true" if chosen[option] is False else 8
            raise root.source.error(
                choice.path, f"{choice.name}: {strategy} needs {option} = {value} in [scoring]"
            )
        if strategy in NEED_GRADIENTS and chosen["method"] == "none":
            raise table.error("method", f"{strategy} needs gradients; take exact, lowrank or probe")
    if chosen["mc_dropout"] and not may_drop:
        raise table.error("mc_dropout", "needs a model with dropout; add dropout = 0.1 to [model]")
    try:
        # Norms of single hypotheses cost nothing, and egl_unsquared is computed from them.
        return ScoringOptions(**chosen, per_hypothesis=True), num_hypotheses
    except ValueError as error:
        name, _, message = str(error).partition(": ")
        raise table.error(name, message) from None
