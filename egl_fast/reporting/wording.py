"""How a report says numbers, and what a finding is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from egl_fast.reporting.evaluation import Metric, Query
from egl_fast.statistics.bootstrap import Interval

#: What counts as the same length of audio: 2 %.
SAME_HOURS = 0.02

MINUS = "\N{MINUS SIGN}"
RHO = "\N{GREEK SMALL LETTER RHO}"


@dataclass(frozen=True)
class Finding:
    """One result.

    Attributes:
        verdict: as ``Comparison.verdict``, or "fact" where nothing is compared.
        title: the result in a few words.
        text: the same with its numbers.
    """

    verdict: str
    title: str
    text: str


def number(value: float, metric: Metric, *, digits: int = 1) -> str:
    """A metric's value as people write it, with its unit.

    Example:
        >>> from egl_fast.reporting.evaluation import METRICS
        >>> number(0.1284, METRICS[0])
        '12.8 %'
    """
    return f"{value * metric.scale:.{digits}f}{metric.unit}"


def percent(share: float, *, digits: int = 0) -> str:
    """A share in percent; infinite where a curve was left.

    Example:
        >>> percent(0.386), percent(math.inf), percent(-math.inf)
        ('39 %', 'more than 100 %', 'nothing')
    """
    if math.isinf(share):
        return "more than 100 %" if share > 0 else "nothing"
    return f"{share * 100:.{digits}f} %"


def percent_range(span: Interval, *, digits: int = 0) -> str:
    """The interval of a share, in words that hold for infinite ends too.

    Example:
        >>> percent_range(Interval(0.386, 0.352, 0.463))
        '35 to 46 %'
        >>> percent_range(Interval(0.5, 0.3, math.inf))
        '30 % to more than 100 %'
    """
    if math.isinf(span.low) or math.isinf(span.high):
        return f"{percent(span.low, digits=digits)} to {percent(span.high, digits=digits)}"
    low, high = (f"{end * 100:.{digits}f}".replace("-", MINUS) for end in (span.low, span.high))
    return f"{low} to {high} %"


def signed(value: float) -> str:
    """A correlation with a true minus sign.

    Example:
        >>> signed(0.451), signed(-0.451) == MINUS + "0.45"
        ('0.45', True)
    """
    return f"{value:.2f}".replace("-", MINUS)


def shown(query: Query) -> str:
    """A query's name with a space before its unit.

    Example:
        >>> shown(Query("20%", 0.2)), shown(Query("0.5h", 0.1))
        ('20 %', '0.5 h')
    """
    return re.sub(r"(?<=[0-9])(?=[%hms]$)", " ", query.name)
