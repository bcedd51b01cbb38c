"""What is told of recordings as they are done: how many, how fast, and which ones failed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from egl_fast.cli.console import say, warn
from egl_fast.data.true_lengths import TrueLengths
from egl_fast.errors import ModelError, one_line
from egl_fast.scoring.run.journal import Tally
from egl_fast.scoring.run.outcome import Outcome
from egl_fast.selection import low_mass_warning

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance
    from egl_fast.scoring.options import ScoringOptions
    from egl_fast.tracking.listener import Listener

#: With more time left than this, the progress line names the faster methods.
LONG_SECONDS = 1800.0

#: A model that fails for so many recordings, and has scored none, will not score any.
HOPELESS = 20


class Meter:
    """Counts recordings, and tells a listener.

    Args:
        watch: the listener.
        step: what is done with the recordings.
        total: how many there are.
        done: how many of them earlier runs did.
        remedy: what would be faster, in case it takes long.
    """

    def __init__(
        self, watch: Listener, step: str, total: int, *, done: int = 0, remedy: str = ""
    ) -> None:
        self._watch, self._total, self._remedy = watch, total, remedy
        self._done = self._earlier = done
        self._lengths = TrueLengths()
        self._untold_seconds = self.audio_seconds = 0.0
        self._started = time.monotonic()
        watch.started(step, "recordings", total, done)

    def heard(self, utterance: Utterance, seconds: float) -> None:
        """A recording is done, and was that long."""
        self._done += 1
        self._untold_seconds += seconds
        self.audio_seconds += seconds
        self._lengths.add(utterance, seconds)

    def failed(self, utterance: Utterance, error: Exception) -> None:
        """A recording could not be used."""
        self._done += 1
        self._watch.failed(utterance.id, error)

    def tell(self) -> None:
        """Tell the listener how far it has come."""
        rate = self.rate
        note = f"{rate:.2f}/s, {self.audio_seconds / self.seconds:.1f} x real time"
        if self._remedy and self._total - self._done > rate * LONG_SECONDS:
            note += f" ({self._remedy})"
        seconds, self._untold_seconds = self._untold_seconds, 0.0
        self._watch.progressed(self._done, self._total, audio_seconds=seconds, note=note)

    @property
    def seconds(self) -> float:
        """Since the start, and never 0."""
        return max(1e-9, time.monotonic() - self._started)

    @property
    def rate(self) -> float:
        """Recordings per second, failed ones included."""
        return (self._done - self._earlier) / self.seconds

    def warn(self) -> None:
        """Warn of durations that the manifest has wrong, once all is done."""
        warning = self._lengths.warning()
        if warning is not None:
            warn(warning)


class ScoringMeter(Meter):
    """The meter of commands that score; ``scoring`` is how."""

    def __init__(
        self, watch: Listener, step: str, total: int, scoring: ScoringOptions, *, done: int = 0
    ) -> None:
        self._method = scoring.chosen_method
        slow = self._method.name == "exact"
        remedy = "--method lowrank or probe is faster" if slow else ""
        self._num_model_errors, self._has_scored = 0, done > 0
        super().__init__(watch, step, total, done=done, remedy=remedy)

    def advance(self, outcomes: Sequence[Outcome]) -> None:
        """Count some outcomes.

        Raises:
            ModelError: the model has failed for every recording so far, and these are many.
        """
        for outcome in outcomes:
            if outcome.record is not None:
                self._has_scored = True
                self.heard(outcome.utterance, outcome.record.duration)
            else:
                assert isinstance(outcome.result, Exception)
                self.failed(outcome.utterance, outcome.result)
                if isinstance(outcome.result, ModelError):
                    self._blame(outcome.utterance, outcome.result)
        self.tell()

    def _blame(self, utterance: Utterance, error: ModelError) -> None:
        """Say what is wrong with the model, once, and stop if it never works."""
        self._num_model_errors += 1
        if self._num_model_errors == 1:
            warn(f"the model failed for {utterance.id}: {one_line(error)}")
        if not self._has_scored and self._num_model_errors == HOPELESS:
            raise ModelError(
                f"the model failed for the first {HOPELESS} recordings, the last time with: "
                f"{one_line(error)}; `egl-fast check` says more"
            )

    def low_mass(self, masses: Iterable[float | None]) -> str | None:
        """The warning that ``egl`` is likely to mislead, given ``beam_mass`` of all records."""
        if not self._method.pulls_back:
            return None
        return low_mass_warning({"beam_mass": mass} for mass in masses)

    def summarize(self, tally: Tally, low_mass: str | None, *, name: str | None = None) -> None:
        """Say how it went, once all is done."""
        total = tally.num_scored + tally.num_failed
        if self._done > self._earlier:
            how = f"in {self.seconds:.1f} s ({self.rate:.2f}/s)"
        else:
            how = "before: none was left to score"
        line = f"scored {tally.num_scored} of {total} recordings {how}"
        say(line if name is None else f"{line}: {name}")
        self.warn()
        if low_mass is not None:
            warn(low_mass)
