"""What strategies are called and how they look, the same in every table and figure."""

from __future__ import annotations

from dataclasses import dataclass

from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.wording import shown_text

_LABELS = {
    "egl": "EGL",
    "egl_normalized": "EGL normalized",
    "egl_unsquared": "EGL unsquared",
    "egl_full": "EGL full",
    "entropy": "entropy",
    "pctc": "pCTC",
    "random": "random",
    "longest": "longest",
    "shortest": "shortest",
    "oracle_loss": "oracle loss",
}

#: What a reader needs to know of each; the page says before them what a labeling is.
MEANINGS = {
    "egl": "expected gradient length: how much a recording would change the model if it were "
    "transcribed. The transcript is unknown, so this is an expectation over the K most probable "
    "labelings: the squared length of the loss gradient, weighted by the labeling's probability",
    "egl_normalized": "EGL divided by the probability that those K labelings hold together",
    "egl_unsquared": "EGL with the gradient's length instead of its square",
    "egl_full": "EGL over all possible labelings instead of the best K; always an estimate",
    "entropy": "how unsure the model is of its outputs, averaged over frames",
    "pctc": "minus the log probability of the model's best labeling, per frame",
    "random": "random order, the baseline",
    "longest": "longest recordings first",
    "shortest": "shortest recordings first",
    "oracle_loss": "CTC loss of the true transcript. Real pools have none, so this is only a "
    "comparison",
}

#: Light page, dark page, marker. The EGL family is blue to violet, confidence orange to red,
#: controls gray, green and olive: families stay apart for every kind of color vision, members by
#: lightness; markers and labels say the same again. At least 3:1 against the page.
_LOOKS = {
    "egl": ("#0067a5", "#5cb0ee", "circle"),
    "egl_normalized": ("#3f8fd0", "#a5d4fb", "square"),
    "egl_full": ("#3b2f8f", "#a79bff", "triangle-up"),
    "egl_unsquared": ("#9c3d92", "#e29bd8", "diamond"),
    "entropy": ("#bf7a00", "#f5b942", "triangle-down"),
    "pctc": ("#c8441b", "#ff8d5e", "cross"),
    "random": ("#6b7280", "#a3adba", "circle"),
    "longest": ("#117a4c", "#55cf98", "square"),
    "shortest": ("#757515", "#cfcf62", "triangle-up"),
    "oracle_loss": ("#1f2328", "#f0f3f6", "diamond"),
}
_SPARE = (
    ("#8a4f2a", "#d9a17c", "square"),
    ("#0f7f86", "#58c9d1", "diamond"),
    ("#a02c5a", "#f08bb3", "cross"),
)


@dataclass(frozen=True)
class Look:
    """How a series is drawn.

    Attributes:
        label: its name for people.
        light: color on a light page.
        dark: color on a dark page.
        shape: marker, by Vega's names.
        dashed: whether its line is dashed; sequential querying is.
        meaning: what it ranks by, or "" where we don't know.
    """

    label: str
    light: str
    dark: str
    shape: str
    dashed: bool
    meaning: str


def label(strategy: str) -> str:
    """A strategy's name for people; one we don't know keeps its own.

    Example:
        >>> label("pctc"), label("badge")
        ('pCTC', 'badge')
    """
    return _LABELS.get(strategy) or shown_text(strategy, most=40)


def look(series: Series) -> Look:
    """How a series is called and drawn; it depends on the series alone."""
    name = label(series.strategy)
    sequential = series.mode != "single"
    # Not hash(): that differs from one process to the next.
    spare = _SPARE[sum(series.strategy.encode()) % len(_SPARE)]
    light, dark, shape = _LOOKS.get(series.strategy, spare)
    if sequential:
        meaning = f"{name}, in rounds: the pool is scored again after each round of labeling"
        mode = shown_text(series.mode, most=40)
        return Look(f"{name} ({mode})", light, dark, "triangle-right", True, meaning)
    return Look(name, light, dark, shape, False, MEANINGS.get(series.strategy, ""))
