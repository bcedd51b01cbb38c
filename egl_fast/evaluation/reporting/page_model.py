"""What a page shows, in plain pieces that a template puts in place; no HTML here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import Look, look
from egl_fast.evaluation.reporting.wording import Finding


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        text: the number.
        note: below it, smaller; "" for none.
        best: the best of its column.
        verdict: against random selection, as ``Comparison.verdict``; "" where it was not compared.
        level: tint of the cell, from 0 (much less than expected) to 4 (much more); 2 is none.
    """

    text: str
    note: str = ""
    best: bool = False
    verdict: str = ""
    level: int = 2


@dataclass(frozen=True)
class Row:
    """One row: its header, the position of its look in the page's list (or None), the cells."""

    header: str
    place: int | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table; the caption says what its numbers are, and ``more`` adds to it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    corner: str = "Strategy"
    more: str = ""


@dataclass(frozen=True)
class GateSection:
    """What a gate leaves out.

    Attributes:
        option: the gate, as a user gives it, or "".
        lead: how much; goes on from the option.
        rate: how much of that by mistake, or "".
        groups: of like recordings, as ``gate_section`` describes them; those with players.
        table: of all groups, or None where nothing is left out.
        quantiles: of typicality, or None where they are unknown.
        note: on groups without players, or "".
        has_trusted: whether the histogram shows trusted recordings.
        is_made: whether a selection was made.
    """

    option: str
    lead: str
    rate: str
    groups: list[dict[str, Any]]
    table: Table | None
    quantiles: Table | None
    note: str
    has_trusted: bool
    is_made: bool


@dataclass(frozen=True)
class PickSection:
    """A list of picks; the list itself is in the page's data.

    Attributes:
        heading: of the section.
        slider: what the slider sets.
        lead: what the list is; goes on from the command, if there is one.
        command: the `select` that picks it, but for the budget; "" where it is picked already.
        gate: the gate's option, or "".
        notes: what is left out, and what the list does not hold.
        is_estimate: whether the scores it is ranked by have standard errors.
        saves: the list in several formats, as ``saving`` describes them.
        is_found: whether these hold absolute audio paths.
    """

    heading: str
    slider: str
    lead: str
    command: str
    gate: str
    notes: tuple[str, ...]
    is_estimate: bool
    saves: list[dict[str, Any]]
    is_found: bool


@dataclass
class Page:
    """All that the template needs, except for style and script.

    Attributes:
        title: of the page.
        lead: one sentence below it.
        facts: (number, what it counts).
        looks: every series on the page; the position in this list decides its color.
        findings: in sentences.
        budget: the one that the descriptions of picks are about.
        picked_heading: of the section that describes picks.
        picked_note: which picks these are.
        picked_by: what the picks of all strategies leave out, or "".
        see_also: (sentence, command) of another page to make, or None.
        has_ranks: whether the listening table shows ranks in the pool.
        listen: recordings of the listening table, as ``listening`` describes them.
        listen_series: (position of its look, label) of each series with top picks there.
        listen_numbers: position in the pool -> number in the listening table.
        picks: what to label at a budget, or None.
        training_table: how the trainings went, or None.
        latex: the tables of metrics, for papers.
        gate: what it leaves out, or None.
        made: how the scores were made: (what, its value).
        missing: files that should be beside the scores, or "".
        error_bars: how far the scores are estimates, or "".
        warnings: what a reader must know before anything else.
        config: the run's configuration, or None.
        data: for the page's script, plain JSON.

    The rest are tables of the sections that are named alike; without its content, a section is not
    on the page.
    """

    title: str
    lead: str
    facts: list[tuple[str, str]]
    looks: list[Look]
    findings: list[Finding] = field(default_factory=list)
    metric_tables: list[Table] = field(default_factory=list)
    value_tables: list[Table] = field(default_factory=list)
    curve_tables: list[Table] = field(default_factory=list)
    reduction_tables: list[Table] = field(default_factory=list)
    efficiency_tables: list[Table] = field(default_factory=list)
    equal_tables: list[Table] = field(default_factory=list)
    paper_tables: list[Table] = field(default_factory=list)
    histogram_table: Table | None = None
    correlation_table: Table | None = None
    duration_table: Table | None = None
    picked_tables: list[Table] = field(default_factory=list)
    budget: str = ""
    picked_heading: str = "What each strategy picked"
    picked_note: str = ""
    see_also: tuple[str, str] | None = None
    has_ranks: bool = False
    picked_by: str = ""
    listen: list[dict[str, Any]] = field(default_factory=list)
    listen_series: list[tuple[int, str]] = field(default_factory=list)
    training_table: Table | None = None
    latex: str = ""
    listen_numbers: dict[int, int] = field(default_factory=dict)
    picks: PickSection | None = None
    listen_note: str = ""
    gate: GateSection | None = None
    notes: list[str] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)
    missing: str = ""
    error_bars: str = ""
    warnings: list[str] = field(default_factory=list)
    config: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def place(self, series: Series) -> int:
        """The position of a series' look."""
        return self.looks.index(look(series))

    def row(self, series: Series, cells: Iterable[Cell]) -> Row:
        """The row of a series that is on the page."""
        return Row(look(series).label, self.place(series), tuple(cells))
