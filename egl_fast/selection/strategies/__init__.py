"""What makes one utterance more worth transcribing than another: a file for each strategy.

A strategy is a function ``score(candidates) -> [n] numbers``, higher for what should be transcribed
first. Keys of a scores file are strategies by themselves (``records.STRATEGIES``); a module of this
package that has a ``score`` is one under the module's name, described by the first line of its
docstring; and ``FILE.py:FUNCTION`` is one of the user's own.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

from egl_fast.errors import SelectionError, one_line
from egl_fast.records import ASKED_FOR_BY, STRATEGIES
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.descriptions import descriptions

Strategy: TypeAlias = Callable[[Candidates], Sequence[float]]

#: What to rank by by default: the first of these that all records hold. The order is
#: that of the evidence, docs/choosing.md.
RECOMMENDED: Final = ("pctc", "egl_full", "egl")


@cache
def described() -> dict[str, str]:
    """Name -> one line, of all strategies that have a name."""
    return STRATEGIES | descriptions(Path(__file__).parent)


def recommended(candidates: Candidates) -> str:
    """The name of the default strategy; see ``RECOMMENDED``."""
    for name in RECOMMENDED:
        if None not in candidates.values(name):
            return name
    return RECOMMENDED[-1]


def strategy_of(name: str) -> Strategy:
    """The function that a name stands for; what it returns is checked.

    Args:
        name: of a strategy, or ``FILE.py:FUNCTION``, whose code is run now. ``/second`` at the end
            divides by the duration.

    Raises:
        SelectionError: the strategy is unknown, or its file cannot be run. The function itself
            raises it if it does not give a finite number for each candidate.
    """
    plain, unit = split_unit(name)
    if unit not in ("", "second"):
        raise SelectionError(f"strategy {name!r}: after the slash, give second")
    function = _plain(plain)
    return partial(_per_second, function) if unit else function


def scores_by(strategy: str | Strategy | None, candidates: Candidates) -> list[float]:
    """What a strategy gives each candidate.

    Args:
        strategy: a function, or what ``strategy_of`` knows one by; None: what is ``recommended``.
        candidates: the pool.

    Raises:
        SelectionError: as for ``strategy_of``.
    """
    strategy = recommended(candidates) if strategy is None else strategy
    function = strategy_of(strategy) if isinstance(strategy, str) else strategy
    return list(function(candidates))


def split_unit(name: str) -> tuple[str, str]:
    """A strategy's name and what its scores are per; "" for the utterance.

    Example:
        >>> split_unit("egl/second"), split_unit("my/file.py:score")
        (('egl', 'second'), ('my/file.py:score', ''))
    """
    plain, slash, unit = name.rpartition("/")
    return (plain, unit) if slash and ":" not in unit and not unit.endswith(".py") else (name, "")


def _per_second(function: Strategy, candidates: Candidates) -> list[float]:
    scores = function(candidates)
    if min(scores, default=0.0) < 0:
        raise SelectionError(
            "this strategy has scores below zero, which cannot be ranked per second: a longer "
            "utterance would rank higher for being longer"
        )
    durations = candidates.numbers("duration")
    for index, duration in enumerate(durations):
        if duration <= 0:
            raise SelectionError(
                f"{candidates.name(index)}: its duration is {duration:g}, so it has no score per "
                "second"
            )
    return [score / duration for score, duration in zip(scores, durations, strict=True)]


def _plain(name: str) -> Strategy:
    if name in STRATEGIES:
        return partial(_of_key, name)
    if name in described():
        function: Strategy = import_module(f"{__name__}.{name}").score
        return function
    if ":" not in name:
        raise SelectionError(
            f"strategy {name!r}: unknown; take one of {', '.join(described())}, or FILE.py:FUNCTION"
        )
    return partial(_by_own, name, _own(name))


def _by_own(name: str, function: Strategy, candidates: Candidates) -> list[float]:
    try:
        # What it prints must not get among the results, which may go to standard output.
        with redirect_stdout(sys.stderr):
            found: Any = function(candidates)
            found = list(found) if isinstance(found, Iterable) else found
    except SelectionError:
        raise
    except (Exception, SystemExit) as error:
        raise SelectionError(f"strategy {name!r}: fails: {_said(error)}") from error
    return _checked(name, found, candidates)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _of_key(key: str, candidates: Candidates) -> list[float]:
    if all(value is None for value in candidates.values(key)):
        held = [name for name in STRATEGIES if None not in candidates.values(name)]
        instead = f"rank by what it holds: {', '.join(held)}" if held else "is it a scores file?"
        option = ASKED_FOR_BY.get(key, "").replace("_", "-")
        asked = f", which `score --{option}` adds" if option else ""
        raise SelectionError(f"strategy {key}: this file holds no {key}{asked}; {instead}")
    return candidates.numbers(key)


def _own(name: str) -> Strategy:
    path, _, function_name = name.rpartition(":")
    if not Path(path).is_file():
        raise SelectionError(f"strategy {name!r}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise SelectionError(f"strategy {name!r}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SelectionError(f"strategy {name!r}: {path} fails: {_said(error)}") from error
    function: Strategy | None = getattr(module, function_name, None)
    if not callable(function):
        raise SelectionError(f"strategy {name!r}: {path} has no function {function_name!r}")
    return function


def _checked(name: str, scores: Any, candidates: Candidates) -> list[float]:
    try:
        if any(isinstance(score, str) for score in scores):
            raise TypeError("a string")
        numbers = [float(score) for score in scores]
    except (TypeError, ValueError):
        raise SelectionError(f"strategy {name!r}: does not return numbers") from None
    if len(numbers) != len(candidates):
        raise SelectionError(
            f"strategy {name!r}: returned {len(numbers)} scores for {len(candidates)} utterances"
        )
    for index, number in enumerate(numbers):
        if not math.isfinite(number):
            raise SelectionError(f"strategy {name!r}: gives {candidates.name(index)} {number}")
    return numbers
