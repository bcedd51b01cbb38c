"""``--by-layer``: each layer's share of the scores of a pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from egl_fast.display import printable

#: Score -> the record's field that divides it among layers.
FIELDS = {"egl": "by_layer", "egl_full": "by_layer_full"}


class LayerShares:
    """Mean shares over recordings, so that a few with very large scores do not decide.

    A recording whose score is 0 has none.
    """

    def __init__(self) -> None:
        self._means: dict[str, dict[str, float]] = {}
        self._counts = dict.fromkeys(FIELDS, 0)

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> LayerShares:
        """From records of a scores file."""
        found = cls()
        for record in records:
            found.add(record)
        return found

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a recording."""
        for score, field in FIELDS.items():
            layers: Mapping[str, float] = record.get(field, {})
            total = sum(layers.values())
            if total <= 0.0:
                continue
            self._counts[score] += 1
            means = self._means.setdefault(score, {})
            for layer in {**means, **layers}:
                before = means.get(layer, 0.0)
                share = layers.get(layer, 0.0) / total
                means[layer] = before + (share - before) / self._counts[score]

    def as_json(self) -> dict[str, dict[str, float]]:
        """For metadata: by score and layer."""
        return self._means


def layer_table(shares: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> Table:
    """What ``LayerShares.as_json`` gave, beside the parameters of each layer."""
    table = Table(title="share of each layer, mean over recordings")
    table.add_column("layer", no_wrap=True)
    table.add_column("parameters", justify="right")
    for score in shares:
        table.add_column(score, justify="right")
    for layer, size in sizes.items():
        table.add_row(
            printable(layer),
            f"{size:,}",
            *(f"{of_score.get(layer, 0.0):.1%}" for of_score in shares.values()),
        )
    return table
