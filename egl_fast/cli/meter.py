"""The progress line of commands that score."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from egl_fast.cli.console import say, warn
from egl_fast.data.true_lengths import TrueLengths
from egl_fast.scoring.run.journal import Tally
from egl_fast.scoring.run.outcome import Outcome
from egl_fast.selection import low_mass_warning

if TYPE_CHECKING:
    from rich.progress import Progress

    from egl_fast.scoring.options import ScoringOptions

#: With more time left than this, the progress line names the faster methods.
LONG_SECONDS = 1800.0


class Meter:
    """The progress line: the speed, the time left, and how it could be faster."""

    def __init__(
        self,
        bar: Progress,
        total: int,
        scoring: ScoringOptions,
        *,
        name: str = "scoring",
        done: int = 0,
    ) -> None:
        self._left = total - done
        self._method = scoring.chosen_method
        self._bar = bar
        self._task = bar.add_task(name, total=total, completed=done, note="")
        self._started = time.monotonic()
        self._num_done = 0
        self._lengths = TrueLengths()
        self._audio_seconds = 0.0

    def advance(self, outcomes: Sequence[Outcome]) -> None:
        """Count some outcomes."""
        self._num_done += len(outcomes)
        for outcome in outcomes:
            if outcome.record is not None:
                self._audio_seconds += outcome.record.duration
                self._lengths.add(outcome.utterance, outcome.record.duration)
        seconds = time.monotonic() - self._started
        rate = self._num_done / seconds
        note = f"{rate:.2f}/s, {self._audio_seconds / seconds:.1f} x real time"
        if self._method.name == "exact" and (self._left - self._num_done) / rate > LONG_SECONDS:
            note += " (--method lowrank or probe is faster)"
        self._bar.update(self._task, advance=len(outcomes), note=note)

    def low_mass(self, masses: Iterable[float | None]) -> str | None:
        """The warning that ``egl`` is likely to mislead, given ``beam_mass`` of all records."""
        if not self._method.pulls_back:
            return None
        return low_mass_warning({"beam_mass": mass} for mass in masses)

    def summarize(self, tally: Tally, low_mass: str | None, *, name: str | None = None) -> None:
        """Say how it went, once all is done."""
        seconds = time.monotonic() - self._started
        total = tally.num_scored + tally.num_failed
        if self._num_done:
            how = f"in {seconds:.1f} s ({self._num_done / seconds:.2f}/s)"
        else:
            how = "before: none was left to score"
        line = f"scored {tally.num_scored} of {total} recordings {how}"
        say(line if name is None else f"{line}: {name}")
        for warning in (self._lengths.warning(), low_mass):
            if warning is not None:
                warn(warning)
