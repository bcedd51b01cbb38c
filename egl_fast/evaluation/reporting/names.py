"""What strategies are called and how they look, the same in every table and figure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.wording import shown_text


@dataclass(frozen=True)
class Look:
    """How a series is drawn.

    Attributes:
        label: its name for people.
        light: color on a light page.
        dark: color on a dark page.
        shape: marker, by Vega's names.
        meaning: what it ranks by, or "" where we don't know.
        dashed: whether its line is dashed; sequential querying is.
    """

    label: str
    light: str
    dark: str
    shape: str
    meaning: str = ""
    dashed: bool = False


#: The EGL family is blue to violet, confidence orange to red, controls gray, green and olive:
#: families stay apart for every kind of color vision, members by lightness; markers and labels say
#: the same again. At least 3:1 against the page. The page says before the meanings what a labeling
#: is.
_KNOWN = {
    "egl": Look(
        "EGL", "#0067a5", "#5cb0ee", "circle",
        "expected gradient length: how much a recording would change the model if it were "
        "transcribed. The transcript is unknown, so this is an expectation over the K most "
        "probable labelings: the squared length of the loss gradient, weighted by the labeling's "
        "probability",
    ),
    "egl_normalized": Look(
        "EGL normalized", "#3f8fd0", "#a5d4fb", "square",
        "EGL divided by the probability that those K labelings hold together",
    ),
    "egl_full": Look(
        "EGL full", "#3b2f8f", "#a79bff", "triangle-up",
        "EGL over all possible labelings instead of the best K; always an estimate",
    ),
    "egl_unsquared": Look(
        "EGL unsquared", "#9c3d92", "#e29bd8", "diamond",
        "EGL with the gradient's length instead of its square",
    ),
    "entropy": Look(
        "entropy", "#bf7a00", "#f5b942", "triangle-down",
        "how unsure the model is of its outputs, averaged over frames",
    ),
    "pctc": Look(
        "pCTC", "#c8441b", "#ff8d5e", "cross",
        "minus the log probability of the model's best labeling, per frame",
    ),
    "tsallis": Look(
        "Tsallis", "#8f5a00", "#ffd98a", "square",
        "how unsure the model is of the words it hears, by the Tsallis entropy of each word's "
        "least certain frame",
    ),
    "renyi": Look(
        "Rényi", "#a83a00", "#ffb08a", "triangle-up",
        "how unsure the model is of the words it hears, by the Rényi entropy of each word's "
        "least certain frame",
    ),
    "mc_dropout": Look(
        "MC dropout", "#b3264f", "#ff86ab", "diamond",
        "how much the transcript changes if random parts of the model are left out",
    ),
    "random": Look("random", "#6b7280", "#a3adba", "circle", "random order, the baseline"),
    "longest": Look("longest", "#117a4c", "#55cf98", "square", "longest recordings first"),
    "shortest": Look("shortest", "#757515", "#cfcf62", "triangle-up", "shortest recordings first"),
    "oracle_loss": Look(
        "oracle loss", "#1f2328", "#f0f3f6", "diamond",
        "CTC loss of the true transcript. Real pools have none, so this is only a comparison",
    ),
    "oracle_cer": Look(
        "oracle CER", "#3d4450", "#d3dae2", "square",
        "character error rate against the true transcript; only a comparison, as the oracle loss",
    ),
    "oracle_gradient": Look(
        "oracle gradient", "#545c66", "#bcc5ce", "triangle-up",
        "squared gradient length for the true transcript, of which EGL is the expectation; only a "
        "comparison, as the oracle loss",
    ),
}  # fmt: skip
_SPARE = (
    ("#8a4f2a", "#d9a17c", "square"),
    ("#0f7f86", "#58c9d1", "diamond"),
    ("#a02c5a", "#f08bb3", "cross"),
)


def label(strategy: str) -> str:
    """A strategy's name for people; one we don't know keeps its own.

    Example:
        >>> label("pctc"), label("badge")
        ('pCTC', 'badge')
    """
    known = _KNOWN.get(strategy)
    return known.label if known else shown_text(strategy, most=40)


def look(series: Series) -> Look:
    """What a series is called and how it is drawn; this depends on the series alone."""
    # Not hash(), which differs from one process to the next.
    spare = _SPARE[sum(series.strategy.encode()) % len(_SPARE)]
    single = _KNOWN.get(series.strategy) or Look(label(series.strategy), *spare)
    if series.mode == "single":
        return single
    return replace(
        single,
        label=f"{single.label} ({shown_text(series.mode, most=40)})",
        shape="triangle-right",
        meaning=f"{single.label}, in rounds: the pool is scored again after each round of labeling",
        dashed=True,
    )
