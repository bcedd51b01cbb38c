"""What a page shows, in plain pieces that a template puts in place; no HTML here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from egl_fast.evaluation.reporting.excerpts import Excerpt
from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import Look, look
from egl_fast.evaluation.reporting.wording import Finding


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        text: the number.
        note: beneath it, smaller; "" for none.
        best: the best of its column.
        verdict: against random selection, as ``Comparison.verdict``; "" where it was not compared.
        level: tint of the cell, 0 (much less than expected) to 4 (much more); 2 is none.
    """

    text: str
    note: str = ""
    best: bool = False
    verdict: str = ""
    level: int = 2


@dataclass(frozen=True)
class Row:
    """One row: its header, the look's place in the page's list (or None), the cells."""

    header: str
    place: int | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table with a caption that says what its numbers are, and if need be more about them."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    corner: str = "Strategy"
    more: str = ""


@dataclass(frozen=True)
class Heard:
    """One line of a hypothesis list."""

    text: str
    probability: str
    sq_grad_norm: str
    share: str


@dataclass(frozen=True)
class Listen:
    """One recording of the listening table.

    Attributes:
        number: its place in the page, from 1.
        id: of the utterance.
        tags: what the manifest says of it (corpus, kind, speaker).
        seconds: its length.
        text: what was said, or None where the manifest does not tell.
        pred_text: what the model heard.
        scores: (label, look's place, rank in the pool from 1, score), by every strategy.
        top_of: place of each series of which this is a top pick -> its rank there.
        excerpt: sound and picture.
        hypotheses: best first.
        beam_mass: probability that all hypotheses hold, or "".
    """

    number: int
    id: str
    tags: tuple[str, ...]
    seconds: float
    text: str | None
    pred_text: str
    scores: tuple[tuple[str, int, int, str], ...]
    top_of: dict[int, int]
    excerpt: Excerpt
    hypotheses: tuple[Heard, ...]
    beam_mass: str


@dataclass
class Page:
    """All that the template needs, but style and script.

    Attributes:
        title: of the page.
        lead: one sentence beneath it.
        facts: (number, what it counts).
        findings: in sentences.
        looks: every series on the page; the place in this list decides its color.
        made: how the scores were made: (what, its value).
        error_bars: how far the scores are estimates, or "".
        warnings: what a reader must know before anything else.
        data: for the page's script, plain JSON.
    """

    title: str
    lead: str
    facts: list[tuple[str, str]]
    looks: list[Look]
    findings: list[Finding] = field(default_factory=list)
    metric_tables: list[Table] = field(default_factory=list)
    curve_tables: list[Table] = field(default_factory=list)
    reduction_tables: list[Table] = field(default_factory=list)
    efficiency_tables: list[Table] = field(default_factory=list)
    equal_tables: list[Table] = field(default_factory=list)
    paper_tables: list[Table] = field(default_factory=list)
    correlation_table: Table | None = None
    picked_tables: list[Table] = field(default_factory=list)
    duration_table: Table | None = None
    histogram_rows: list[Row] = field(default_factory=list)
    budget: str = ""
    listen: list[Listen] = field(default_factory=list)
    listen_series: list[tuple[int, str]] = field(default_factory=list)
    listen_note: str = ""
    notes: list[str] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)
    error_bars: str = ""
    warnings: list[str] = field(default_factory=list)
    config: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def row(self, series: Series, cells: Iterable[Cell]) -> Row:
        """The row of a series that is on the page."""
        of = look(series)
        return Row(of.label, self.looks.index(of), tuple(cells))
