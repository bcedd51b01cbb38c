"""Which units a simulation asks for, as far as is known yet.

What a query trains on depends on scores, and those on a trained model, so a plan unfolds while
its units get done. ``Plan.expand`` looks at what is done and says the rest: units that are known
by now, and steps that will be known later. It is a function of the configuration, the data and
the folder of units, so any process can pick up at any time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias

from egl_fast.errors import ConfigError, SelectionError
from egl_fast.evaluation.simulation.config import MODEL_FREE, SimulationConfig, TrainingPlan
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
from egl_fast.selection import Budget, parse_budget, rank, within_budget

#: Identity of a step whose unit is not known yet.
StepKey: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Point:
    """One point of the experiment: a model, and what of the pool it was trained on.

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
    """What is known of a plan at one time.

    Attributes:
        points: all of them, in the order of the tables.
        units: name -> unit, in the order they should be done; those done are among them.
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
        init: where the first training of all starts; a fresh one gets each seed's own number.

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
        self._durations = [{"duration": member.seconds} for member in self.pool]
        for number, query in enumerate(config.queries):
            self._check_query(query, ("queries", number))
        self.rounds = {
            "single": config.queries,
            "sequential": self._sequential_rounds() if "sequential" in config.modes else (),
        }

    def expand(self, store: UnitStore) -> Expansion:
        """Everything that is known, given what is done."""
        return _Expander(self, store).expand()

    def picks(self, ranking: Sequence[int], query: str) -> tuple[int, ...]:
        """The start of a ranking of the whole pool that a query allows."""
        return tuple(within_budget(self._durations, ranking, budget=query))

    def expected_seconds(self, query: str) -> float:
        """About how much audio a query labels, before anything is ranked."""
        budget = parse_budget(query)
        if budget.seconds is not None:
            return float(budget.seconds)
        of = 100 if budget.unit == "%" else len(self.pool)
        return float(budget.amount / of) * total_seconds(self.pool)

    def labeled(self, picks: Sequence[int]) -> tuple[Member, ...]:
        """Base set and picks. In the pool's order, so that equal sets are equal work."""
        return self.sets["base"] + tuple(self.pool[index] for index in sorted(picks))

    def _check_query(self, query: str, path: tuple[str | int, ...]) -> None:
        budget = parse_budget(query)
        whole = Fraction(total_seconds(self.pool))
        try:
            if budget.seconds is not None and budget.seconds >= whole:
                raise SelectionError(
                    f"budget {query}: the pool has only {float(whole):.0f} s of audio"
                )
            # The longest first: a ranking may begin with one that a short time cannot hold.
            longest_first = rank([member.seconds for member in self.pool])
            if len(self.picks(longest_first, query)) == len(self.pool):
                raise SelectionError(
                    f"budget {query}: takes all {len(self.pool)} utterances of the pool, which is "
                    f"an "
                    "end point"
                )
        except SelectionError as error:
            raise self.config.source.error(path, str(error)) from None

    def _sequential_rounds(self) -> tuple[str, ...]:
        config = self.config
        budgets = [parse_budget(query) for query in config.queries]
        parsed = [*budgets, *([parse_budget(config.step)] if config.step else [])]
        if len({"time" if b.seconds is not None else b.unit for b in parsed}) > 1:
            raise self._rounds_error("rounds need queries and step in one unit")
        amounts = [_amount(budget) for budget in budgets]
        if sorted(amounts) != amounts:
            raise self._rounds_error('"sequential" needs queries from small to large')
        if config.step is None:
            return config.queries
        step = _amount(parse_budget(config.step))
        for query, amount in zip(config.queries, amounts, strict=True):
            if amount % step:
                raise self._rounds_error(
                    f"{query} is not a multiple of step = {config.step!r}; change one of them"
                )
        written = dict(zip(amounts, config.queries, strict=True))
        unit = parse_budget(config.step).unit
        per_unit = _amount(Budget(Fraction(1), unit))
        rounds = []
        for number in range(1, math.floor(amounts[-1] / step) + 1):
            amount = number * step
            rounds.append(written.get(amount, f"{_decimal(amount / per_unit)}{unit}"))
        for query in rounds:
            self._check_query(query, ("step",))
        return tuple(rounds)

    def _rounds_error(self, message: str) -> ConfigError:
        path = ("step",) if self.config.step else ("queries",)
        return self.config.source.error(path, message)


class _Expander:
    """One expansion. A step takes None for what is not known yet, and hands None on."""

    def __init__(self, plan: Plan, store: UnitStore) -> None:
        self.plan = plan
        self.config = plan.config
        self.store = store
        self.out = Expansion()
        self._points: dict[tuple[str, int], dict[str, list[Point]]] = {}

    def expand(self) -> Expansion:
        config = self.config
        init: Start | None = self.plan.init
        pretrain = config.pretrain
        if pretrain is not None:
            assert not isinstance(init, TrainUnit)
            if isinstance(init, FreshInit):
                init = replace(init, seed=config.pretrain_seed)
            members, seed = self.plan.sets["pretrain"], config.pretrain_seed
            init = self._train(
                ("pretrain",), "pretrain", init, members, pretrain, seed, "pretraining"
            )
        for seed in config.seeds:
            own = replace(init, seed=seed) if isinstance(init, FreshInit) else init
            self._seed(seed, own)
        for mode in config.modes:
            for seed in config.seeds:
                for points in self._points[mode, seed].values():
                    self.out.points += points
        return self.out

    def _seed(self, seed: int, init: Start | None) -> None:
        config, plan = self.config, self.plan
        base = self._train(
            ("base", seed), "base", init, plan.sets["base"], config.base, seed, f"base, seed {seed}"
        )
        scores = self._score(("score", seed), base, range(len(plan.pool)), seed, f"seed {seed}")
        if scores is not None:
            self.out.base_scores[seed] = scores
        start = base if config.start == "warm" else init
        everything = tuple(range(len(plan.pool)))
        full = None
        if config.end_points:
            full = self._query(("full", seed), start, everything, seed, f"all of it, seed {seed}")
        for mode in config.modes:
            points: dict[str, list[Point]] = {"0%": [], "": [], "100%": []}
            self._points[mode, seed] = points
            if config.end_points:
                points["0%"] = [Point("", mode, seed, 0, "0%", (), base)]
                points["100%"] = [Point("", mode, seed, 1, "100%", everything, full)]
            run = self._single if mode == "single" else self._sequential
            for strategy in config.strategies:
                points[""] += run(strategy, seed, scores, start)

    def _single(
        self, strategy: str, seed: int, scores: ScoreUnit | None, start: Start | None
    ) -> list[Point]:
        ranking = None if scores is None else self._ranking(scores, strategy)
        points = []
        for query in self.plan.rounds["single"]:
            picks = None if ranking is None else self.plan.picks(ranking, query)
            title = f"{strategy} {query}, seed {seed}"
            unit = self._query(("single", strategy, seed, query), start, picks, seed, title)
            points.append(Point(strategy, "single", seed, 1, query, picks, unit))
        return points

    def _sequential(
        self, strategy: str, seed: int, scores: ScoreUnit | None, start: Start | None
    ) -> list[Point]:
        points = []
        picked: tuple[int, ...] | None = ()
        left: Sequence[int] = range(len(self.plan.pool))
        rounds = self.plan.rounds["sequential"]
        for number, query in enumerate(rounds, start=1):
            if picked is not None and scores is not None:
                order = self._ranking(scores, strategy)
                taken = set(picked)
                rest = (left[place] for place in order)
                ranking = [*picked, *(index for index in rest if index not in taken)]
                picked = self.plan.picks(ranking, query)
            else:
                picked = None
            title = f"{strategy} {query} in rounds, seed {seed}"
            key = ("sequential", strategy, seed, query)
            unit = self._query(key, start, picked, seed, title)
            points.append(Point(strategy, "sequential", seed, number, query, picked, unit))
            if number == len(rounds):
                break
            if self.config.start == "warm":
                start = unit
            if strategy in MODEL_FREE:
                continue
            if picked is not None:
                taken = set(picked)
                left = [index for index in range(len(self.plan.pool)) if index not in taken]
            scores = self._score(("rescore", *key[1:]), unit, left, seed, f"after {title}")
        return points

    def _ranking(self, scores: ScoreUnit, strategy: str) -> list[int]:
        return rank([record[strategy] for record in self.store.scores(scores)])

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
        candidates = [
            TrainUnit(
                kind=kind,
                init=init,
                train=members,
                valid=valid,
                test=test,
                config=config,
                title=f"{title}, rate {config.learning_rate:g}" if several else title,
            )
            for config in plan.candidates(seed)
        ]
        losses = []
        for unit in candidates:
            self.out.units.setdefault(unit.name, unit)
            result = self.store.result(unit.name)
            if result is None:
                self._keep(init)
            else:
                loss = result["valid_loss"]
                # Null is infinite: the model rules a text out.
                losses.append(math.inf if loss is None else loss)
        if len(losses) < len(candidates):
            return None
        return candidates[losses.index(min(losses))]

    def _score(
        self, key: StepKey, model: TrainUnit | None, indices: Sequence[int], seed: int, title: str
    ) -> ScoreUnit | None:
        pool = tuple(self.plan.pool[index] for index in indices)
        if model is None:
            self.out.later[key] = "score", total_seconds(pool)
            return None
        unit = ScoreUnit(
            model=model,
            pool=pool,
            options=replace(self.config.scoring, seed=seed),
            num_hypotheses=self.config.num_hypotheses,
            title=f"scores, {title}",
        )
        self.out.units.setdefault(unit.name, unit)
        if self.store.result(unit.name) is None:
            self._keep(model)
            return None
        return unit

    def _keep(self, init: Start | None) -> None:
        if isinstance(init, TrainUnit):
            self.out.needed_models.add(init.name)
            # A model that is gone is made again, which starts from another.
            if not self.store.has_model(init.name):
                self._keep(init.init)


def _amount(budget: Budget) -> Fraction:
    return budget.amount if budget.seconds is None else budget.seconds


def _decimal(amount: Fraction) -> str:
    return str(amount.numerator) if amount.denominator == 1 else f"{float(amount):g}"
