"""Makes a configuration's plan, after everything is read and checked and before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from egl_fast.checkpoint import Checkpoint, load_checkpoint
from egl_fast.embeddings.typicality import MIN_NEIGHBORS
from egl_fast.errors import CheckpointError, ManifestError, ModelError
from egl_fast.evaluation.simulation.choices import Choice
from egl_fast.evaluation.simulation.config import PARTS, SimulationConfig
from egl_fast.evaluation.simulation.execution import examples, starting_point
from egl_fast.evaluation.simulation.filters import Filter, matching
from egl_fast.evaluation.simulation.groups import value_of
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.sets import Member, read_sets
from egl_fast.evaluation.simulation.toml_reading import KeyPath
from egl_fast.evaluation.simulation.units import FileInit, FreshInit
from egl_fast.gradients.engine import GradientEngine
from egl_fast.vocabulary import ENGLISH_CHARACTERS


def prepare(config: SimulationConfig) -> Plan:
    """Read the data of a configuration and plan its units.

    Raises:
        ConfigError: data, texts, model file, parameters, queries or choices cannot be used; the
            message names the line of the configuration.
    """
    init = _init(config)
    start = starting_point(init)
    try:
        GradientEngine(start.model, params=config.scoring.params)
    except ModelError as error:
        raise config.source.error(("scoring", "params"), str(error)) from None
    sets = read_sets(config)
    _check_texts(config, sets, start)
    _check_pool_filter(config, sets["pool"], config.reject, ("reject",))
    for choice in config.choices:
        _check_choice(config, sets, choice)
    _check_by(config, sets)
    return Plan(config, sets, init)


def _init(config: SimulationConfig) -> FreshInit | FileInit:
    if config.init_file is None:
        return FreshInit(config.model, seed=0)
    try:
        checkpoint = load_checkpoint(config.init_file)
        if checkpoint.vocabulary != ENGLISH_CHARACTERS:
            raise CheckpointError(
                f"model {config.init_file}: has another vocabulary; take one that "
                "`egl-fast train` wrote"
            )
    except CheckpointError as error:
        raise config.source.error(("model", "init"), str(error)) from None
    return FileInit(config.init_file, checkpoint.sha256)


def _check_texts(
    config: SimulationConfig, sets: Mapping[str, Sequence[Member]], checkpoint: Checkpoint
) -> None:
    for part in PARTS:
        try:
            examples(sets[part], checkpoint)
        except ManifestError as error:
            raise config.source.error(("data", part), f"{part}: {error}") from None


def _check_pool_filter(
    config: SimulationConfig, pool: Sequence[Member], where: Filter, path: KeyPath
) -> None:
    def refuse(message: str, key: str) -> NoReturn:
        raise config.source.error((*path, key), message)

    left = matching(pool, where, lambda one: one.utterance.record, source="the pool", refuse=refuse)
    if where and len(left) == len(pool):
        raise config.source.error(path, f"{path[-1]}: matches all of the pool; filter for less")


def _check_choice(
    config: SimulationConfig, sets: Mapping[str, Sequence[Member]], choice: Choice
) -> None:
    pool = sets["pool"]
    _check_pool_filter(config, pool, choice.without, (*choice.path, "without"))
    keys: list[tuple[KeyPath, str]] = []
    if choice.share is not None:
        keys.append((("share",), choice.share))
    keys += [(("per", key), key) for key, _ in choice.per]
    for path, key in keys:
        if all(one.utterance.record.get(key) is None for one in pool):
            raise config.source.error(
                (*choice.path, *path), f"no line of the pool has the key {key!r}"
            )
    count = len(sets["base"]) + len(pool)
    if choice.needs_embeddings and count < MIN_NEIGHBORS + 2:
        raise config.source.error(
            choice.path,
            f"{choice.name}: typicality needs at least {MIN_NEIGHBORS + 2} utterances, base and "
            f"pool together; there are {count}",
        )


def _check_by(config: SimulationConfig, sets: Mapping[str, Sequence[Member]]) -> None:
    if config.by is None:
        return
    for part in ("pool", "test"):
        for one in sets[part]:
            try:
                value_of(one, config.by)
            except ValueError as error:
                raise config.source.error(
                    ("by",), f"by: utterance {one.utterance.id!r} of {part} {error}"
                ) from None
