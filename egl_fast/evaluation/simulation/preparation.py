"""From a configuration to a plan: everything is read and checked before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from egl_fast.checkpoint import Checkpoint, load_checkpoint
from egl_fast.errors import CheckpointError, ManifestError, ModelError
from egl_fast.evaluation.simulation.config import PARTS, SimulationConfig
from egl_fast.evaluation.simulation.execution import examples, starting_point
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.sets import Member, read_sets
from egl_fast.evaluation.simulation.units import FileInit, FreshInit
from egl_fast.gradients.engine import GradientEngine
from egl_fast.vocabulary import ENGLISH_CHARACTERS


def prepare(config: SimulationConfig) -> Plan:
    """Read the data of a configuration and plan its units.

    Raises:
        ConfigError: data, texts, model file, parameters or queries cannot be used; the message
            names the line of the configuration.
    """
    init = _init(config)
    start = starting_point(init)
    try:
        GradientEngine(start.model, params=config.scoring.params)
    except ModelError as error:
        raise config.source.error(("scoring", "params"), str(error)) from None
    sets = read_sets(config)
    _check_texts(config, sets, start)
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
