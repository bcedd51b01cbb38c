"""How the trainings of a run went, epoch by epoch, as far as its folder still tells."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.page_model import Cell, Page, Table
from egl_fast.evaluation.reporting.run_folder import RunFolder
from egl_fast.evaluation.reporting.wording import plain, shown_text

#: Key of a line of metrics.jsonl -> what it is, and what it is shown multiplied by.
_METRICS = {
    "valid_loss": ("validation loss", "validation loss, nats per utterance", 1.0),
    "train_loss": ("training loss", "training loss, nats per utterance", 1.0),
    "valid_cer": ("validation CER", "validation character error rate, %", 100.0),
}
#: Units are named by a table, which anyone may have written.
_UNIT = re.compile("[a-z]+-[0-9a-f]{8,64}")
#: Of all trainings together.
MAX_EPOCHS = 20_000

_Curve = list[list[float | None]]


def add_training(page: Page, run: RunFolder) -> None:
    """Curves of all trainings whose units are in the run folder; nothing where there are none."""
    curves, num_epochs, left_out = dict[str, _Curve](), 0, set[str]()
    trainings = []
    for row in run.results.sort("seed").iter_rows(named=True):
        unit = row["unit"]
        if unit not in curves and (read := _read(run.path, unit)):
            num_epochs += len(read[0])
            if num_epochs > MAX_EPOCHS:
                left_out.add(unit)
                continue
            curves[unit] = read
        if unit in curves:
            series = Series(row["strategy"], row["mode"])
            trainings.append((series, row["query"], int(row["seed"]), unit))
    if not trainings:
        return
    units = list(curves)
    own = [series for series in dict.fromkeys(one[0] for one in trainings) if series.strategy]
    queries = list(dict.fromkeys(query for _, query, _, _ in sorted(trainings, key=_by_query)))
    page.data["training"] = {
        "metrics": [{"label": name, "title": title} for name, title, _ in _METRICS.values()],
        "queries": [shown_text(query, most=40) for query in queries],
        "curves": [curves[unit] for unit in units],
        "runs": [
            {
                "s": page.place(series) if series.strategy else None,
                "q": queries.index(query),
                "seed": seed,
                "of": units.index(unit),
            }
            for series, query, seed, unit in dict.fromkeys(trainings)
        ],
    }
    if left_out:
        page.notes.append(f"Curves of {len(left_out)} trainings are left out, for size.")
    page.training_table = Table(
        "Lowest validation loss of a training, nats per utterance; averages over seeds",
        tuple(shown_text(query, most=40) for query in queries),
        tuple(
            page.row(series, (_cell(trainings, curves, series, query) for query in queries))
            for series in own
        ),
        more="Below: how many epochs.",
    )


def _by_query(training: tuple[Series, str, int, str]) -> float:
    number = re.match(r"[0-9.]+", training[1])
    try:
        return float(number[0]) if number else math.inf
    except ValueError:
        return math.inf


def _cell(
    trainings: list[tuple[Series, str, int, str]],
    curves: Mapping[str, _Curve],
    series: Series,
    query: str,
) -> Cell:
    """Of the series itself, or where all series start and end."""
    of = [curves[unit] for one, name, _, unit in trainings if name == query and one == series]
    of = of or [
        curves[unit] for one, name, _, unit in trainings if name == query and not one.strategy
    ]
    lowest = [min(known) for curve in of if (known := [x for x in curve[0] if x is not None])]
    if not lowest:
        return Cell("–")
    counts = sorted(len(curve[0]) for curve in of)
    epochs = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    return Cell(plain(sum(lowest) / len(lowest)), epochs)


def _read(folder: Path, unit: str) -> _Curve:
    """Each metric by epoch, None where it is unknown; [] where there is no such training."""
    if not _UNIT.fullmatch(unit):
        return []
    try:
        lines = list(_lines(folder / "units" / unit / "metrics.jsonl"))
    except (OSError, ValueError, RecursionError):
        return []
    of = [[_value(line.get(key), scale) for line in lines] for key, (*_, scale) in _METRICS.items()]
    return of if lines else []


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def _value(value: object, scale: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        return None
    return float(f"{value * scale:.4g}")
