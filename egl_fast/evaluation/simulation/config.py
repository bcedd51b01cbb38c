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
from egl_fast.errors import ModelError, SelectionError
from egl_fast.evaluation.simulation.toml_lines import KeyPath
from egl_fast.evaluation.simulation.toml_reading import Table, TomlSource
from egl_fast.model import PRESETS, ModelConfig
from egl_fast.records import STRATEGIES
from egl_fast.scoring.options import METHODS, ScoringOptions
from egl_fast.selection import parse_budget
from egl_fast.training.loop import TrainingConfig
from egl_fast.training.schedule import SCHEDULES

#: What a pool can be ranked by, beyond the scores of ``egl-fast score``.
CONTROLS: Final[dict[str, str]] = {
    "longest": "seconds of audio, most first",
    "shortest": "seconds of audio, least first",
    "oracle_loss": "true CTC loss of the hidden text under the current model",
}

#: Of these, later rounds would say what the first said: they need no model.
MODEL_FREE: Final = frozenset({"random", "longest", "shortest"})

MODES: Final = ("single", "sequential")
PARTS: Final = ("base", "pool", "valid", "test", "pretrain", "pretrain_valid")
REQUIRED_PARTS: Final = PARTS[:4]

#: torch takes no larger ones.
_SEED: Final = kinds.integer(0, at_most=2**63 - 1)

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class SourceConfig:
    """Clips out of one manifest.

    Attributes:
        manifest: resolved path.
        where: manifest key -> the values that are taken.
        exclude: parts whose clips are left out.
        sample: take so many by chance, in the manifest's order; None: all.
        prefix: put before every id, to tell the clips of two manifests apart.
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
        """One configuration a learning rate."""
        return [replace(self.config, learning_rate=rate, seed=seed) for rate in self.learning_rates]


@dataclass(frozen=True)
class SimulationConfig:
    """A simulation, every default filled in.

    Attributes:
        source: the file, for errors found later on.
        data_root: folder that manifest paths are relative to, where a source names no other.
        data: part -> its sources.
        sample_seed: of the samples drawn from manifests; the same for all ``seeds``.
        strategies: what to rank the pool by.
        queries: budgets, as written.
        end_points: train on nothing of the pool and on all of it, too.
        seeds: of initialisation, order, augmentation, the random strategy, signs.
        modes: "single" and "sequential".
        step: budget of a round of "sequential"; None: from query to query.
        start: "warm", from the base model (or the last round's), or "scratch".
        keep_models: keep the model files of query trainings.
        model: sizes of the network.
        init_file: model file that everything starts from, instead of random weights.
        base, query, pretrain: how to train; ``pretrain`` is None without such data.
        pretrain_seed: of the pretraining, which all seeds share.
        scoring: options, with seed 0.
        num_hypotheses: labelings of each clip that are kept beside its scores.
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
    """Read and check a configuration; nothing is looked up yet but the file itself.

    Args:
        path: a TOML file.
        overrides: ``key=value`` each, as of ``--set``.

    Raises:
        ConfigError: a key is unknown, missing or wrong; the message names the line.
    """
    source = TomlSource(path, overrides)
    root = source.table()
    data_root = (path.parent / root.get("data_root", kinds.text, ".")).resolve()
    strategies = root.required(
        "strategies",
        kinds.list_of(kinds.one_of(*STRATEGIES, *CONTROLS)),
        'list some, such as ["random", "egl"]',
    )
    queries = root.required("queries", kinds.list_of(_query), 'list some, such as ["10%", "0.5h"]')
    modes = root.get("modes", kinds.list_of(kinds.one_of(*MODES)), ["single"])
    step = root.get("step", _query, "")
    if step and "sequential" not in modes:
        raise root.error("step", 'only "sequential" has rounds; add it to modes, or remove step')
    end_points = root.get("end_points", kinds.boolean, True)
    seeds = root.get("seeds", kinds.list_of(_SEED), [0])
    start = root.get("start", kinds.one_of("warm", "scratch"), "warm")
    keep_models = root.get("keep_models", kinds.boolean, False)
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
    scoring, num_hypotheses = _scoring(root.table("scoring"), strategies, root)
    root.finish()
    return SimulationConfig(
        source=source,
        data_root=data_root,
        data=MappingProxyType(data),
        sample_seed=sample_seed,
        strategies=tuple(strategies),
        queries=tuple(queries),
        end_points=end_points,
        seeds=tuple(seeds),
        modes=tuple(modes),
        step=step or None,
        start=start,
        keep_models=keep_models,
        model=model,
        init_file=init_file,
        base=base,
        query=query,
        pretrain=pretrain if data["pretrain"] else None,
        pretrain_seed=pretrain_seed,
        scoring=scoring,
        num_hypotheses=num_hypotheses,
    )


def resolved(config: SimulationConfig) -> dict[str, Any]:
    """The configuration as TOML values, defaults and overrides included; paths are absolute."""
    content: dict[str, Any] = {
        "data_root": str(config.data_root),
        "strategies": list(config.strategies),
        "queries": list(config.queries),
        "end_points": config.end_points,
        "seeds": list(config.seeds),
        "modes": list(config.modes),
        "start": config.start,
        "keep_models": config.keep_models,
        "data": {"seed": config.sample_seed}
        | {part: [_plain_source(s) for s in sources] for part, sources in config.data.items()},
        "model": {"init": str(config.init_file)} if config.init_file else _plain_model(config),
        "scoring": {
            key: value
            for key, value in asdict(config.scoring).items()
            if value is not None and key not in _GIVEN_SCORING
        }
        | {"hypotheses": config.num_hypotheses},
        "training": _plain_training(config.query),
        "base_training": _plain_training(config.base),
    }
    if config.step is not None:
        content["step"] = config.step
    if config.pretrain is not None:
        content["pretraining"] = _plain_training(config.pretrain) | {"seed": config.pretrain_seed}
    return content


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
    filters = table.table("where")
    scalars = kinds.one_or_list_of(_scalar)
    where = {key: tuple(filters.required(key, scalars, "")) for key in filters.content}
    additions = table.table("add")
    add = {key: additions.required(key, _scalar, "") for key in additions.content}
    no_parts: list[str] = []
    exclude = table.get("exclude", kinds.one_or_list_of(kinds.one_of(*PARTS)), no_parts)
    sample = table.get("sample", kinds.integer(1), 0)
    prefix = table.get("prefix", kinds.text, "")
    table.finish()
    for key in ("audio_filepath", "id", "text", "duration", "offset"):
        if key in add:
            raise additions.error(key, "means something in a manifest already; take another name")
    return SourceConfig(
        manifest=(folder / own_root).resolve() / manifest if own_root else data_root / manifest,
        where=MappingProxyType(where),
        exclude=tuple(exclude),
        sample=sample or None,
        prefix=prefix,
        add=MappingProxyType(add),
        path=table.path,
    )


def _plain_source(source: SourceConfig) -> dict[str, Any]:
    plain: dict[str, Any] = {"manifest": str(source.manifest)}
    if source.where:
        plain["where"] = {key: list(values) for key, values in source.where.items()}
    if source.exclude:
        plain["exclude"] = list(source.exclude)
    if source.sample is not None:
        plain["sample"] = source.sample
    if source.prefix:
        plain["prefix"] = source.prefix
    if source.add:
        plain["add"] = dict(source.add)
    return plain


def _model(table: Table, folder: Path) -> tuple[ModelConfig, Path | None]:
    init = table.get("init", kinds.text, "")
    if init:
        for name in table.content:
            if name != "init":
                raise table.error(
                    name, "the file of init has its sizes already; remove one of both"
                )
    config = PRESETS[table.get("preset", kinds.one_of(*PRESETS), "small")]
    readers = {
        described.name: kinds.kind_of(described)
        for described in fields(ModelConfig)
        if described.name not in ("num_bins", "num_classes")
    }
    chosen = {
        name: table.get(name, reader, getattr(config, name)) for name, reader in readers.items()
    }
    table.finish()
    try:
        return replace(config, **chosen), (folder / init).resolve() if init else None
    except ModelError as error:
        raise table.error(None, str(error)) from None


def _plain_model(config: SimulationConfig) -> dict[str, Any]:
    model = config.model
    return {
        "conv_channels": model.conv_channels,
        "conv_shapes": [[list(s.kernel), list(s.stride)] for s in model.conv_shapes],
        "cell": model.cell,
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "dropout": model.dropout,
    }


_TRAINING_KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "max_epochs": kinds.integer(1),
    "patience": kinds.integer(0),
    "monitor": kinds.one_of("loss", "cer"),
    "batch_seconds": kinds.number(above=0),
    "optimizer": kinds.one_of("adamw", "sgd"),
    "weight_decay": kinds.number(at_least=0),
    "schedule": kinds.one_of(*SCHEDULES),
    "warm_up_epochs": kinds.number(at_least=0),
    "max_grad_norm": kinds.number(above=0),
    "spec_augment": kinds.boolean,
    "speed_perturb": kinds.number(at_least=0, below=0.5),
}


def _training(table: Table, defaults: TrainingPlan) -> TrainingPlan:
    chosen = {
        name: table.get(name, kind, getattr(defaults.config, name))
        for name, kind in _TRAINING_KINDS.items()
    }
    rates = table.get(
        "learning_rate",
        kinds.one_or_list_of(kinds.number(above=0)),
        list(defaults.learning_rates),
    )
    table.finish()
    return TrainingPlan(TrainingConfig(**chosen, learning_rate=rates[0]), tuple(rates))


def _plain_training(plan: TrainingPlan) -> dict[str, Any]:
    plain = {name: getattr(plan.config, name) for name in _TRAINING_KINDS}
    return {**plain, "learning_rate": list(plan.learning_rates)}


#: Options of scoring that the simulation sets itself.
_GIVEN_SCORING: Final = ("seed", "per_hypothesis")


def _scoring(table: Table, strategies: Sequence[str], root: Table) -> tuple[ScoringOptions, int]:
    readers: dict[str, Callable[[Any], Any]] = {
        "k": kinds.integer(1),
        "beam_width": kinds.integer(1),
        "method": kinds.one_of(*METHODS),
        "tolerance": kinds.number(above=0, below=1),
        "probes": kinds.integer(2),
        "full": kinds.boolean,
        "full_samples": kinds.integer(2),
        "params": kinds.text,
    }
    assert {*readers, *_GIVEN_SCORING} == {field.name for field in fields(ScoringOptions)}
    default = ScoringOptions()
    chosen = {
        name: table.get(name, reader, getattr(default, name)) for name, reader in readers.items()
    }
    num_hypotheses = table.get("hypotheses", kinds.integer(0), 5)
    table.finish()
    if "egl_full" in strategies and not chosen["full"]:
        raise root.error("strategies", "egl_full needs full = true in [scoring]")
    try:
        # Norms of single hypotheses come at no cost, and egl_unsquared is made of them.
        return ScoringOptions(**chosen, per_hypothesis=True), num_hypotheses
    except ValueError as error:
        name, _, message = str(error).partition(": ")
        raise table.error(name, message) from None
