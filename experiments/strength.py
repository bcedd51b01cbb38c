"""How rankings change from a weak base model to a strong one.

    python experiments/strength.py --config experiments/grid.toml \
        --units runs/grid/units --out experiments/results/grid/strength.json

Trains base models on more and more labeled utterances of a simulation's base set and pool, in an
order drawn by seed, each from the simulation's pretrained model. Each scores the simulation's test
set, which none of them has seen. Units of work are those of ``egl-fast simulate``: what is in UNITS
is not done again, and the same command resumes a run that was killed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from egl_fast.errors import EglError
from egl_fast.evaluation.simulation.config import SimulationConfig, read_config
from egl_fast.evaluation.simulation.execution import execute
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.preparation import prepare
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.units import ScoreUnit, TrainUnit
from egl_fast.evaluation.statistics.rank_correlation import spearman
from egl_fast.files import atomic

SCORES = ("egl", "egl_normalized", "egl_unsquared", "egl_full", "pctc")
AGAINST = ("entropy", "oracle_loss")

#: From this size on, trained like the simulation's queries: fewer epochs, more steps in each.
MANY_UTTERANCES = 100


def main() -> int:
    """Do what is not done, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--units", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 30, 100, 300, 760])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        config = read_config(arguments.config)
        plan, store = prepare(config), UnitStore(arguments.units)
        [pretraining] = [u for u in plan.expand(store).units.values() if u.kind == "pretrain"]
        assert isinstance(pretraining, TrainUnit)
        rows = []
        for size in arguments.sizes:
            for seed in arguments.seeds:
                trained, scored = units_of(plan, pretraining, size, seed)
                for unit in (pretraining, trained, scored):
                    do(unit, store, scored)
                rows.append(row(store, config, trained, scored, size, seed))
                print(json.dumps(rows[-1]))
    except EglError as error:
        print(error, file=sys.stderr)
        return 2
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(arguments.out, (json.dumps(rows, indent=1) + "\n").encode())
    return 0


def units_of(
    plan: Plan, pretraining: TrainUnit, size: int, seed: int
) -> tuple[TrainUnit, ScoreUnit]:
    """The training on that many utterances, and the scoring of the test set by its model."""
    utterances = [*plan.sets["base"], *plan.sets["pool"]]
    random.Random(seed).shuffle(utterances)
    config = plan.config
    how = config.query if size >= MANY_UTTERANCES else config.base
    trained = TrainUnit(
        kind="base",
        init=pretraining,
        train=tuple(utterances[:size]),
        valid=plan.sets["valid"],
        test=plan.sets["test"],
        config=how.candidates(seed)[0],
        title=f"{size} utterances, seed {seed}",
    )
    scored = ScoreUnit(
        model=trained,
        pool=plan.sets["test"],
        options=replace(config.scoring, seed=seed),
        num_hypotheses=0,
        title=f"scores after {size} utterances, seed {seed}",
    )
    return trained, scored


def do(unit: TrainUnit | ScoreUnit, store: UnitStore, last: ScoreUnit) -> None:
    """Do a unit, unless it is done and its model, if the last one needs it, is there."""
    wants_model = isinstance(unit, TrainUnit) and not store.is_done(last.name)
    if store.is_done(unit.name) and not (wants_model and not store.has_model(unit.name)):
        return
    with store.lock(unit.name):
        execute(
            unit,
            store,
            lambda words: print(f"\r{unit.title}: {words}\x1b[K", end="", file=sys.stderr),
        )
    print(file=sys.stderr)


def row(
    store: UnitStore,
    config: SimulationConfig,
    trained: TrainUnit,
    scored: ScoreUnit,
    size: int,
    seed: int,
) -> dict[str, Any]:
    """How good one base model is, and how its rankings of the test set correlate."""
    result, records = store.result(trained.name), store.scores(scored)
    assert result is not None
    names = (*SCORES, *AGAINST)
    found = spearman(np.array([[record[name] for record in records] for name in names]))
    return {
        "clips": size,
        "seed": seed,
        "seconds": round(sum(one.seconds for one in trained.train), 1),
        "cer": result["test"]["cer"],
        "median_beam_mass": float(np.median([record["beam_mass"] for record in records])),
        "correlations": {
            f"{name} {other}": [
                round(float(table[names.index(name), names.index(other)]), 4)
                for table in (found.estimate, found.low, found.high)
            ]
            for name in (*SCORES, "entropy")
            for other in AGAINST
            if name != other
        },
    }


if __name__ == "__main__":
    sys.exit(main())
