"""Which units a simulation needs, as far as is known yet.

What a query trains on depends on scores, and scores depend on a trained model, so a plan unfolds
while its units get done. ``Plan.expand`` looks at what is done and returns the rest: units that are
already known, and steps whose units will be known later. It is a function of the configuration, the
data and the folder of units, so any process can pick up at any time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from egl_fast.evaluation.simulation.choices import Choice
from egl_fast.evaluation.simulation.config import SimulationConfig, TrainingPlan
from egl_fast.evaluation.simulation.filters import matches
from egl_fast.evaluation.simulation.picking import Picker
from egl_fast.evaluation.simulation.rounds import rounds_of
from egl_fast.evaluation.simulation.sets import Member, total_seconds
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.units import (
    FileInit,
    FreshInit,
    ScoreUnit,
    Start,
    TrainKind,
    TrainUnit,
    Unit,
)
from egl_fast.selection import parse_budget

#: Identity of a step whose unit is not known yet.
StepKey: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Point:
    """One point of the experiment: a model, and the part of the pool that it was trained on.

    Attributes:
        strategy: "" for the end points, which belong to every strategy.
        mode: "single" or "sequential".
        seed: one of the configuration's.
        round: 0 for the base model alone, then from 1.
        query: the budget as written; "0%" and "100%" are the end points.
        picks: indices into the pool, first picked first; None while not known.
        unit: the training that was best on the validation set; None while not done.
    """

    strategy: str
    mode: str
    seed: int
    round: int
    query: str
    picks: tuple[int, ...] | None
    unit: TrainUnit | None


@dataclass
class Expansion:
    """What is known about a plan at one time.

    Attributes:
        points: all of them, in the order of the tables.
        units: name -> unit, in the order they should be done, finished ones included.
        later: steps whose units are not known yet -> kind and seconds of audio.
        base_scores: seed -> the scoring of the whole pool by its base model, once done.
        needed_models: units whose models something unfinished starts from.
    """

    points: list[Point] = field(default_factory=list)
    units: dict[str, Unit] = field(default_factory=dict)
    later: dict[StepKey, tuple[str, float]] = field(default_factory=dict)
    base_scores: dict[int, ScoreUnit] = field(default_factory=dict)
    needed_models: set[str] = field(default_factory=set)


class Plan:
    """A configuration and its data, from which all units follow.

    Args:
        config: the configuration.
        sets: its parts, as ``read_sets`` gives them.
        init: where the very first training starts; a fresh one gets each seed's own number.

    Raises:
        ConfigError: a query does not fit the pool, or the step does not lead to the queries.
    """

    def __init__(
        self,
        config: SimulationConfig,
        sets: dict[str, tuple[Member, ...]],
        init: FreshInit | FileInit,
    ) -> None:
        self.config = config
        self.sets = sets
        self.init = init
        self.pool = sets["pool"]
        self.rounds = rounds_of(config, self.pool)
        self.picker = Picker(self.pool)

    def expand(self, store: UnitStore) -> Expansion:
        """Everything that follows from what is done."""
        return _Expander(self, store).expand()

    def expected_seconds(self, query: str) -> float:
        """About how much audio a query labels, before anything is ranked."""
        budget = parse_budget(query)
        if budget.seconds is not None:
            return float(budget.seconds)
        of = 100 if budget.unit == "%" else len(self.pool)
        return float(budget.amount / of) * total_seconds(self.pool)

    def labeled(self, picks: Sequence[int]) -> tuple[Member, ...]:
        """Base set and picks, less rejects; in the pool's order, so equal sets are equal work."""
        reject = self.config.reject
        picked = (self.pool[index] for index in sorted(picks))
        return self.sets["base"] + tuple(
            one for one in picked if not (reject and matches(one.utterance.record, reject))
        )


class _Expander:
    """One expansion. A step takes None for what is not known yet, and then returns None."""

    def __init__(self, plan: Plan, store: UnitStore) -> None:
        self.plan = plan
        self.config = plan.config
        self.store = store
        self.out = Expansion()

    def expand(self) -> Expansion:
        config = self.config
        init: Start | None = self.plan.init
        pretrain = config.pretrain
        if pretrain is not None:
            if isinstance(init, FreshInit):
                init = replace(init, seed=config.pretrain_seed)
            members, seed = self.plan.sets["pretrain"], config.pretrain_seed
            init = self._train(
                ("pretrain",), "pretrain", init, members, pretrain, seed, "pretraining"
            )
        points: dict[str, list[Point]] = {mode: [] for mode in config.modes}
        for seed in config.seeds:
            own = replace(init, seed=seed) if isinstance(init, FreshInit) else init
            self._seed(seed, own, points)
        for mode in config.modes:
            self.out.points += points[mode]
        return self.out

    def _seed(self, seed: int, init: Start | None, points: dict[str, list[Point]]) -> None:
        config, plan = self.config, self.plan
        base = self._train(
            ("base", seed), "base", init, plan.sets["base"], config.base, seed, f"base, seed {seed}"
        )
        everything = tuple(range(len(plan.pool)))
        scores = self._score(
            ("score", seed), base, everything, seed, config.choices, f"seed {seed}"
        )
        if scores is not None:
            self.out.base_scores[seed] = scores
        start = base if config.start == "warm" else init
        full = None
        if config.end_points:
            full = self._query(("full", seed), start, everything, seed, f"all of it, seed {seed}")
        for mode, found in points.items():
            if config.end_points:
                found.append(Point("", mode, seed, 0, "0%", (), base))
            for choice in config.choices:
                found += self._points(choice, mode, seed, scores, start)
            if config.end_points:
                found.append(Point("", mode, seed, 1, "100%", everything, full))

    def _points(
        self, choice: Choice, mode: str, seed: int, scores: ScoreUnit | None, start: Start | None
    ) -> list[Point]:
        """A choice's points; in rounds, each uses the scores of the previous point's model."""
        points = []
        strategy = choice.name
        picked: tuple[int, ...] | None = ()
        scored: Sequence[int] = range(len(self.plan.pool))
        in_rounds, rounds = mode == "sequential", self.plan.rounds[mode]
        for number, query in enumerate(rounds, start=1):
            before = picked if in_rounds else ()
            picked = None
            if scores is not None and before is not None:
                picked = self.plan.picker.pick(choice, query, scores, scored, before, self.store)
            key = (mode, strategy, seed, query)
            title = f"{strategy} {query}{' in rounds' if in_rounds else ''}, seed {seed}"
            unit = self._query(key, start, picked, seed, title)
            round_ = number if in_rounds else 1
            points.append(Point(strategy, mode, seed, round_, query, picked, unit))
            if not in_rounds or number == len(rounds):
                continue
            if self.config.start == "warm":
                start = unit
            if not choice.is_model_free:
                if picked is not None:
                    taken = set(picked)
                    scored = [at for at in range(len(self.plan.pool)) if at not in taken]
                after = ("rescore", strategy, seed, query)
                scores = self._score(after, unit, scored, seed, [choice], f"after {title}")
        return points

    def _query(
        self, key: StepKey, start: Start | None, picks: Sequence[int] | None, seed: int, title: str
    ) -> TrainUnit | None:
        if picks is None:
            query = str(key[-1])
            audio = total_seconds(self.plan.sets["base"]) + self.plan.expected_seconds(query)
            self.out.later[key] = "train", audio
            self._keep(start)
            return None
        members = self.plan.labeled(picks)
        return self._train(key, "train", start, members, self.config.query, seed, title)

    def _train(
        self,
        key: StepKey,
        kind: TrainKind,
        init: Start | None,
        members: tuple[Member, ...],
        plan: TrainingPlan,
        seed: int,
        title: str,
    ) -> TrainUnit | None:
        """The best of a training's candidates, once all are done."""
        if init is None:
            self.out.later[key] = kind, total_seconds(members)
            return None
        sets = self.plan.sets
        valid, test = sets["valid"], sets["test"]
        if kind == "pretrain":
            valid, test = sets["pretrain_valid"] or valid, ()
        several = len(plan.learning_rates) > 1
        candidates, losses = [], []
        for config in plan.candidates(seed):
            own = f"{title}, rate {config.learning_rate:g}" if several else title
            unit = TrainUnit(kind, init, members, valid, test, config, own)
            candidates.append(unit)
            self.out.units.setdefault(unit.name, unit)
            result = self.store.result(unit.name)
            if result is None:
                self._keep(init)
            else:
                # Null is infinite: the model rules out a text.
                loss = result["valid_loss"]
                losses.append(math.inf if loss is None else loss)
        if len(losses) < len(candidates):
            return None
        return candidates[losses.index(min(losses))]

    def _score(
        self,
        key: StepKey,
        model: TrainUnit | None,
        indices: Sequence[int],
        seed: int,
        choices: Sequence[Choice],
        title: str,
    ) -> ScoreUnit | None:
        pool = tuple(self.plan.pool[index] for index in indices)
        if model is None:
            self.out.later[key] = "score", total_seconds(pool)
            return None
        options = replace(self.config.scoring, seed=seed)
        embeds = any(choice.needs_embeddings for choice in choices)
        unit = ScoreUnit(
            model,
            pool,
            options,
            self.config.num_hypotheses,
            f"scores, {title}",
            trusted=self.plan.sets["base"] if embeds else None,
            oracles=any(choice.needs_oracles for choice in choices),
        )
        self.out.units.setdefault(unit.name, unit)
        if self.store.result(unit.name) is None:
            self._keep(model)
            return None
        return unit

    def _keep(self, init: Start | None) -> None:
        if isinstance(init, TrainUnit):
            self.out.needed_models.add(init.name)
            # A model that is gone is trained again, starting from another one.
            if not self.store.has_model(init.name):
                self._keep(init.init)
