"""How a report says numbers, and what a finding is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from egl_fast.display import escaped, shortened
from egl_fast.evaluation.reporting.measures import Metric, Query
from egl_fast.evaluation.statistics.bootstrap import Interval

#: What counts as the same length of audio: 2%.
SAME_HOURS = 0.02

MINUS = "\N{MINUS SIGN}"
RHO = "\N{GREEK SMALL LETTER RHO}"


@dataclass(frozen=True)
class Finding:
    """One result: in a few words, and again with its numbers.

    The verdict is that of ``Comparison``, or "fact" where nothing is compared.
    """

    verdict: str
    title: str
    text: str


def number(value: float, metric: Metric, *, digits: int = 1) -> str:
    """A metric's value as people write it, with its unit.

    Example:
        >>> from egl_fast.evaluation.reporting.measures import METRICS
        >>> number(0.1284, METRICS[0])
        '12.8%'
    """
    return f"{value * metric.scale:.{digits}f}{metric.unit}"


def percent(share: float, *, digits: int = 0) -> str:
    """A share in percent; infinite means beyond either end of a curve.

    Example:
        >>> percent(0.386), percent(math.inf), percent(-math.inf)
        ('39%', 'more than 100%', 'nothing')
    """
    if math.isinf(share):
        return "more than 100%" if share > 0 else "nothing"
    return f"{share * 100:.{digits}f}%"


def percent_range(span: Interval, *, digits: int = 0) -> str:
    """The interval of a share, in words that hold for infinite ends, too.

    Example:
        >>> percent_range(Interval(0.386, 0.352, 0.463))
        '35 to 46%'
        >>> percent_range(Interval(0.5, 0.3, math.inf))
        '30% to more than 100%'
    """
    if math.isinf(span.low) or math.isinf(span.high):
        return f"{percent(span.low, digits=digits)} to {percent(span.high, digits=digits)}"
    low, high = (_fixed(end * 100, digits) for end in (span.low, span.high))
    return f"{low} to {high}%"


def duration(hours: float, *, digits: tuple[int, int] = (2, 1)) -> str:
    """Hours, minutes below two hours, to a number of decimals each, or seconds below a minute.

    Example:
        >>> duration(0.25), duration(3.0), duration(0.005)
        ('15.0 min', '3.00 h', '18.0 s')
    """
    if hours >= 2:
        return f"{hours:,.{digits[0]}f} h"
    if hours < 1 / 60:
        return f"{hours * 3600:.1f} s"
    return f"{hours * 60:.{digits[1]}f} min"


def plain(value: float, *, digits: int = 3) -> str:
    """A number of any size for people to read, to a number of significant digits.

    Example:
        >>> plain(2e3), plain(0.0003), plain(1234567.0), plain(-0.0)
        ('2,000', '0.0003', '1,234,567', '0')
        >>> plain(2.7e-7).replace("\N{NO-BREAK SPACE}", " ")
        '2.7 × 10⁻⁷'
    """
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    power = int(exponent)
    if not -4 <= power < 7:
        return _times_power(mantissa, power)
    text = f"{value:,.{max(0, digits - 1 - power)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)


def plain_exp(log_value: float) -> str:
    """``plain(exp(log_value))``, also where that is too small or too large for a float.

    Example:
        >>> plain_exp(-1000 * math.log(10)).replace("\N{NO-BREAK SPACE}", " ")
        '1 × 10⁻¹⁰⁰⁰'
    """
    if abs(log_value) < 700:
        return plain(math.exp(log_value))
    power = math.floor(log_value / math.log(10))
    mantissa = f"{math.exp(log_value - power * math.log(10)):.2f}"
    return _times_power("1.00", power + 1) if mantissa == "10.00" else _times_power(mantissa, power)


def _times_power(mantissa: str, power: int) -> str:
    digits = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits} × 10{raised}".replace(" ", "\N{NO-BREAK SPACE}").replace("-", MINUS)


#: What a browser would not show, or what could reorder the text around it: control characters,
#: embeddings and overrides of direction, halves of surrogate pairs.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: What follows four accents on one letter: hundreds of them would be drawn across the page.
_ACCENT = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED = re.compile(f"(?<={_ACCENT}{{4}}){_ACCENT}+")


def shown_text(value: object, *, most: int = 300) -> str:
    """Text from a manifest as a page shows it: cut, with what cannot be seen as an escape.

    Args:
        value: whatever the record holds; "" comes of what is not a string.
        most: characters that are kept.

    Example:
        >>> shown_text("a\\u202eb\\x00\\nc"), shown_text(["a"]), shown_text("abcdef", most=4)
        ('a\\\\u202eb\\\\x00 c', '', 'abc…')
    """
    if not isinstance(value, str):
        return ""
    cut = shortened(_STACKED.sub("", value), most)
    return _INVISIBLE.sub(lambda found: " " if found[0] in "\t\n\r" else escaped(found), cut)


def shown_id(identity: str) -> str:
    """An id as a page shows it; even a blank one has to be something to point at.

    Example:
        >>> shown_id("a/b.wav"), shown_id(" ")
        ('a/b.wav', '(blank)')
    """
    return shown_text(identity) if identity.strip() else "(blank)"


def signed(value: float) -> str:
    """A correlation with a true minus sign.

    Example:
        >>> signed(0.451), signed(-0.451), signed(-0.001)
        ('0.45', '−0.45', '0.00')
    """
    return _fixed(value, 2)


def _fixed(value: float, digits: int) -> str:
    """A fixed number of decimals, with a true minus sign, but never before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def shown(query: Query) -> str:
    """A query's name with a space before its unit.

    Example:
        >>> shown(Query("20%", 0.2)), shown(Query("0.5h", 0.1))
        ('20%', '0.5 h')
    """
    return re.sub(r"(?<=[0-9])(?=[hms]$)", " ", shown_text(query.name, most=40))


def recordings(count: int) -> str:
    """How many recordings.

    Example:
        >>> recordings(1), recordings(2000)
        ('1 recording', '2,000 recordings')
    """
    return f"{count:,} recording{'' if count == 1 else 's'}"


def listed(names: list[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"])
        ('a, b and c', 'a')
    """
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
