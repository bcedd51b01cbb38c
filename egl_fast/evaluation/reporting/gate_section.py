"""The section on what a gate leaves out: how much, how atypical, and a few of each kind to hear."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from egl_fast.evaluation.reporting.left_out import LeftOut
from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.page_model import Cell, GateSection, Page, Row, Table
from egl_fast.evaluation.reporting.sounds import Sounds, heard
from egl_fast.evaluation.reporting.wording import MINUS, duration, percent, plain, shown_text
from egl_fast.evaluation.statistics.bootstrap import Floats
from egl_fast.files.addresses import Place
from egl_fast.records import STRATEGIES

#: What sounds and pictures of the section may take.
MAX_MEDIA_BYTES = 2 * 2**20
#: The histogram's upper end at most: nothing is surrounded 20 times as densely as its neighbors.
_HIGHEST = 3.0
_MAX_OPTION = 80


def add_gate(
    page: Page,
    left_out: LeftOut,
    *,
    folder: Place,
    audio: int,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """What the gate leaves out.

    Args:
        page: gets the section.
        left_out: what it is.
        folder: what relative audio paths start from.
        audio: players of each group; 0 for none.
        advance: called for each recording to hear.
    """
    page.warnings += left_out.warnings
    count = len(left_out.groups)
    numbers = sorted(set(left_out.groups.tolist()))
    places = {number: np.flatnonzero(left_out.groups == number).tolist() for number in numbers}
    sounds = Sounds(folder, MAX_MEDIA_BYTES)
    players = _players(left_out, places, audio, sounds, advance)
    page.warnings += sounds.warnings("atypical recording")
    groups = [
        {
            "number": number,
            "size": f"{len(own):,} recording{'s' if len(own) > 1 else ''}",
            "audio": _length(left_out.seconds[own]),
            "option": _taking_back(left_out, number),
            "players": players[number],
        }
        for number, own in places.items()
        if players[number]
    ]
    silent = len(numbers) - len(groups)
    page.gate = GateSection(
        option=_option(left_out),
        lead=_lead(left_out),
        rate=_rate(left_out),
        groups=groups,
        table=_table(left_out, places) if count else None,
        quantiles=_quantiles(left_out) if left_out.pool else None,
        note=f"{silent} of {len(numbers)} groups are without players, to keep the page small."
        if silent and audio
        else "",
        has_trusted=bool(left_out.trusted),
        is_made=left_out.is_made,
    )
    if count:
        page.facts.append(
            (f"{count:,}", "left out by the gate" if left_out.is_made else "atypical recordings")
        )
    if left_out.counts:
        page.data["typicality"] = _histogram(left_out)


def _option(left_out: LeftOut) -> str:
    return shown_text(left_out.option, most=_MAX_OPTION)


def _lead(left_out: LeftOut) -> str:
    count, total = len(left_out.groups), left_out.num_candidates
    if not left_out.is_made and not left_out.option:
        return (
            "The scores' .meta.json holds no calibrated threshold, so this page does not show what "
            "select --drop-atypical auto would leave out. Give a percentage instead, such as "
            "--drop-atypical 10%, and make the page of the selection."
        )
    does = "left out" if left_out.is_made else "would leave out"
    does = does if left_out.option else f"The gate {does}"
    if not count:
        return f"{does} nothing."
    of = "" if total is None else f" of {total:,}"
    length = _length(left_out.seconds)
    if left_out.candidate_seconds is not None:
        length += f" of {duration(left_out.candidate_seconds / 3600)}"
    parts = [f"{does} {count:,}{of} recordings ({length})"]
    if left_out.threshold is not None:
        parts.append(f", those with a typicality below {_typicality(left_out.threshold)}")
    if left_out.kept_groups:
        several = "s" if len(left_out.kept_groups) > 1 else ""
        numbers = ", ".join(map(str, left_out.kept_groups))
        parts.append(f", except for group{several} {numbers}, taken back by --keep-group")
    return "".join(parts) + "."


def _rate(left_out: LeftOut) -> str:
    """How many recordings like the trusted ones a gate leaves out by mistake."""
    if left_out.threshold is None or not left_out.trusted:
        return ""
    shares = np.linspace(0, 1, len(left_out.trusted))
    share = float(np.interp(left_out.threshold, left_out.trusted, shares, left=0.0, right=1.0))
    return (
        f"{percent(share)} of the trusted recordings lie below that threshold, too, so it leaves "
        "out about that share of recordings like them by mistake."
    )


def _taking_back(left_out: LeftOut, number: int) -> str:
    """The exact options that take a group back."""
    kept = (f"--keep-group {kept}" for kept in (*left_out.kept_groups, number))
    return " ".join(filter(None, [_option(left_out), *kept]))


def _table(left_out: LeftOut, places: Mapping[int, Sequence[int]]) -> Table:
    rows = []
    for number, own in places.items():
        values = left_out.typicality[own]
        cells = (
            f"{len(own):,}",
            _length(left_out.seconds[own]),
            f"{_typicality(values.min())} to {_typicality(values.max())}",
            _taking_back(left_out, number),
        )
        rows.append(Row(f"{number}", None, tuple(map(Cell, cells))))
    return Table(
        "Groups of like recordings",
        ("recordings", "audio", "typicality", "taken back by"),
        tuple(rows),
        corner="Group",
    )


def _quantiles(left_out: LeftOut) -> Table:
    shares = (0.0, 0.02, 0.1, 0.5, 0.9, 1.0)
    rows = [
        Row(name, None, tuple(Cell(_typicality(value)) for value in _at(shares, of)))
        for name, of in (("pool", left_out.pool), ("trusted recordings", left_out.trusted))
        if of
    ]
    columns = ("lowest", "2%", "10%", "median", "90%", "highest")
    return Table("Quantiles of typicality", columns, tuple(rows), corner="Recordings")


def _at(shares: Sequence[float], quantiles: Sequence[float]) -> list[float]:
    found: list[float] = np.interp(shares, np.linspace(0, 1, len(quantiles)), quantiles).tolist()
    return found


def _players(
    left_out: LeftOut,
    places: Mapping[int, Sequence[int]],
    most: int,
    sounds: Sounds,
    advance: Callable[[], None],
) -> dict[int, list[dict[str, Any]]]:
    """Recordings of each group to hear, least typical first; as many as there is room for."""
    wanted = []
    for number, own in places.items():
        for at, place in enumerate(spread := _spread(own, most)):
            # The middle of every group comes before the ends of any, and these before the rest.
            is_end = at in (0, len(spread) - 1)
            wanted.append((0 if at == len(spread) // 2 else 1 if is_end else 2, number, place))
    wanted.sort()
    chosen = [place for _, _, place in wanted]
    found: dict[int, list[tuple[int, dict[str, Any]]]] = {number: [] for number in places}
    records = left_out.records(chosen) if chosen else []
    for (_, number, place), record in zip(wanted, records, strict=True):
        advance()
        if sounds.is_full:
            break
        found[number].append((place, _player(left_out, places[number], place, record, sounds)))
    return {
        number: [player for _, player in sorted(players, key=lambda pair: pair[0])]
        for number, players in found.items()
    }


def _spread(own: Sequence[int], most: int) -> list[int]:
    """The least typical of a group, the most typical, and others at equal steps between."""
    if most == 1:
        return [own[len(own) // 2]]
    steps = np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int)
    return [own[step] for step in steps.tolist()]


def _player(
    left_out: LeftOut, own: Sequence[int], place: int, record: Mapping[str, Any], sounds: Sounds
) -> dict[str, Any]:
    if len(own) == 1:
        where = ""
    elif place == own[0]:
        where = "least typical"
    else:
        where = "most typical" if place == own[-1] else "in between"
    return {
        **heard(record, float(left_out.seconds[place]), sounds),
        "typicality": _typicality(float(left_out.typicality[place])),
        "where": where,
        "scores": [
            (label(name), plain(value))
            for name in STRATEGIES
            if name != "random" and (value := _score(record.get(name))) is not None
        ],
    }


def _score(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        return None
    return float(value)


def _histogram(left_out: LeftOut) -> dict[str, Any]:
    """Pool and trusted recordings by typicality, counted; the threshold is an edge of bins."""
    edges, trusted, threshold = np.array(left_out.edges), left_out.trusted, left_out.threshold
    width = float(edges[1] - edges[0])
    counts = {"pool": np.array(left_out.counts)}
    if trusted:
        # As wide as the pool's, as far as these go beyond them.
        beyond = math.ceil((min(max(trusted), _HIGHEST) - float(edges[-1])) / width)
        edges = np.append(edges, edges[-1] + width * np.arange(1, beyond + 1))
        counts["trusted"] = np.histogram(np.clip(trusted, edges[0], edges[-1]), edges)[0]
    rows = []
    for of, own in counts.items():
        total = int(own.sum())
        for at, count in enumerate(own.tolist()):
            left, right = float(edges[at]), float(edges[at + 1])
            if not count:
                continue
            span = f"from {_typicality(left)} to {_typicality(right)}"
            share = f"{plain(100 * count / total, digits=2)}%"
            whole = "the pool" if of == "pool" else "the trusted recordings"
            # Of many trusted recordings, metadata hold quantiles.
            number = f"{count:,} recording{'s' if count > 1 else ''}, " if of == "pool" else ""
            rows.append(
                {
                    "of": of,
                    "low": round(left, 6),
                    "high": round(right, 6),
                    "share": round(100 * count / total, 4),
                    "out": threshold is not None and right <= threshold + width / 2,
                    "said": f"{number}{share} of {whole}, "
                    + (span if at else f"up to {_typicality(right)}"),
                }
            )
    drawn = threshold is not None and bool(edges[0] <= threshold <= edges[-1])
    lowest = min([*left_out.pool[:1], *trusted[:1]], default=edges[0])
    return {
        "rows": rows,
        "threshold": threshold if drawn else None,
        "isCut": bool(lowest < edges[0]),
        "said": "" if threshold is None else f"threshold {_typicality(threshold)}",
    }


def _length(seconds: Floats) -> str:
    return duration(float(seconds.sum()) / 3600)


def _typicality(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)
