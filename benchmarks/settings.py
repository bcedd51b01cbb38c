"""How much is measured: everything, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Sizes of one run.

    Attributes:
        deep: preset used as the model of seven layers of 512.
        k: hypotheses.
        rows: numbers of cotangents R that the engine is measured with, on 2 s of audio.
        threads: likewise; the goals are for the largest number.
        most_rows_alone: largest R on one thread, where more take minutes and say nothing new.
        seconds: lengths of audio that the engine is measured with.
        rows_by_length: R for these.
        recordings: of the pipeline, by model.
        looped: hypotheses that the plain loop is timed on, by model; the rest is extrapolated.
        emissions: of the search.
        frames: of an emission.
        rounds: of whatever does not take seconds.
        engine_seconds: roughly, of all rounds of a case of the engine.
    """

    deep: str = "paper"
    k: int = 100
    rows: tuple[int, ...] = (1, 4, 16, 100, 1000)
    threads: tuple[int, ...] = (1, 2)
    most_rows_alone: int = 100
    seconds: tuple[float, ...] = (0.5, 2.0, 8.0, 30.0)
    rows_by_length: int = 16
    recordings: tuple[int, int] = (3, 2)
    looped: tuple[int, int] = (100, 10)
    emissions: int = 8
    frames: int = 200
    rounds: int = 7
    engine_seconds: float = 20.0


FULL = Settings()

#: Sizes at which no floor is judged.
QUICK = Settings(
    deep="tiny",
    k=20,
    rows=(1, 16),
    threads=(1,),
    most_rows_alone=16,
    seconds=(0.5, 2.0),
    recordings=(1, 1),
    looped=(4, 2),
    emissions=2,
    frames=100,
    rounds=2,
    engine_seconds=1.0,
)
