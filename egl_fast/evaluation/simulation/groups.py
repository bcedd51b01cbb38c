"""Tables by the values of a manifest key: errors on each, and each one's share of the picks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from egl_fast.evaluation.simulation.plan import Expansion, Plan, Point
from egl_fast.evaluation.simulation.sets import Member
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.table_columns import MEAN


def value_of(member: Member, key: str) -> str:
    """The value of an utterance's line under a key, as text.

    Raises:
        ValueError: nothing, or more than one value.
    """
    value = member.utterance.record.get(key)
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(
            f"has no string, number or boolean under {key!r}; give it one with add, or leave out by"
        )
    return value if isinstance(value, str) else json.dumps(value)


def errors_by(plan: Plan, expansion: Expansion, store: UnitStore) -> Iterator[dict[str, Any]]:
    """A row for each finished point and value, then one for the mean over the values."""
    assert plan.config.by is not None
    places = _places(plan.sets["test"], plan.config.by)
    tested: dict[str, list[dict[str, Any]]] = {}
    for point in expansion.points:
        if point.unit is None:
            continue
        name = point.unit.name
        if name not in tested:
            tested[name] = _errors(store.test_numbers(name), places)
        for row in tested[name]:
            yield {**_identity(point), "unit": name, **row}


def picks_by(plan: Plan, expansion: Expansion) -> Iterator[dict[str, Any]]:
    """A row for each choice's point whose picks are known, and each value in the pool."""
    assert plan.config.by is not None
    places = _places(plan.pool, plan.config.by)
    of_pool = {value: _amount(plan, indices) for value, indices in places.items()}
    for point in expansion.points:
        if not point.strategy or point.picks is None:
            continue
        picked = set(point.picks)
        amounts = {v: _amount(plan, picked.intersection(own)) for v, own in places.items()}
        yield from (
            {
                **_identity(point),
                "value": value,
                "num_picked": count,
                "picked_seconds": round(seconds, 3),
                **_shares("", (count, seconds), amounts),
                **_shares("pool_", of_pool[value], of_pool),
            }
            for value, (count, seconds) in amounts.items()
        )


def _identity(point: Point) -> dict[str, Any]:
    return {name: getattr(point, name) for name in ("strategy", "mode", "round", "seed", "query")}


def _places(members: Sequence[Member], key: str) -> dict[str, list[int]]:
    """Value -> positions, in alphabetical order."""
    found: dict[str, list[int]] = {}
    for place, member in enumerate(members):
        found.setdefault(value_of(member, key), []).append(place)
    return dict(sorted(found.items()))


def _errors(
    numbers: Mapping[str, Sequence[Any]], places: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for value, own in places.items():
        loss = math.fsum(numbers["ctc_loss"][place] for place in own)
        chars, words, char_errors, word_errors = (
            sum(numbers[name][place] for place in own)
            for name in ("num_chars", "num_words", "char_errors", "word_errors")
        )
        # As for the whole test set, an error in an utterance without words counts as one.
        rates = {
            "ctc_loss": loss / len(own),
            "ctc_loss_per_char": loss / chars if chars else None,
            "cer": char_errors / (chars or len(own)),
            "wer": word_errors / (words or len(own)),
        }
        rows.append({"value": value, "test_clips": len(own), **rates})
    mean: dict[str, Any] = {"value": MEAN, "test_clips": sum(row["test_clips"] for row in rows)}
    for name in ("ctc_loss", "ctc_loss_per_char", "cer", "wer"):
        known = [row[name] for row in rows if row[name] is not None]
        mean[name] = math.fsum(known) / len(known) if len(known) == len(rows) else None
    return [*rows, mean]


def _amount(plan: Plan, indices: Any) -> tuple[int, float]:
    return len(indices), math.fsum(plan.pool[index].seconds for index in indices)


def _shares(
    prefix: str, own: tuple[int, float], amounts: Mapping[str, tuple[int, float]]
) -> dict[str, float]:
    of_all = [math.fsum(column) for column in zip(*amounts.values(), strict=True)]
    names = (f"{prefix}share", f"{prefix}share_of_seconds")
    return {name: part / all_ for name, part, all_ in zip(names, own, of_all, strict=True)}
