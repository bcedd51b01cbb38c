"""Which recordings of a pool are measured, and how many others each stands for.

A pool sorted by duration is cut into strata with about the same seconds of audio, and from each one
recording is drawn with a probability proportional to its duration. Then the recording's time,
scaled by the ratio of its stratum's audio to its own, is an unbiased estimate of the stratum's
time, however time depends on duration.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from egl_fast.data.audio import audio_seconds
from egl_fast.data.manifest import Utterance
from egl_fast.errors import AudioError, ManifestError
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.recognizers.recognizer import Recognizer

#: Headers to read if the manifest lacks durations; some file systems take 10 ms for each.
MOST_HEADERS = 500

#: Recordings of a stratum to try before giving up.
MOST_TRIED = 20

NOISE_SECONDS = 2.0

_Entry = tuple[float, int]


@dataclass(frozen=True)
class Recording:
    """A recording as the model reads it.

    Attributes:
        id: of the manifest.
        prepared: the model's inputs, and seconds of audio.
        load: makes the inputs again, from a file if there is one.
    """

    id: str
    prepared: RecordingInput
    load: Callable[[], RecordingInput]

    @staticmethod
    def of(name: str, load: Callable[[], RecordingInput]) -> Recording:
        """Load a recording.

        Raises:
            AudioError: it cannot be read.
        """
        return Recording(name, load(), load)

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return self.prepared.seconds


@dataclass(frozen=True)
class Stratum:
    """Recordings of similar duration, some of which are measured.

    Attributes:
        audio_seconds: of all of them.
        shortest: seconds of the shortest.
        longest: seconds of the longest.
        recordings: the measured one, then its neighbors in duration.
    """

    audio_seconds: float
    shortest: float
    longest: float
    recordings: list[Recording]


@dataclass(frozen=True)
class Durations:
    """How long the recordings of a pool are, as far as known.

    Attributes:
        known: (seconds, index) of the recordings whose duration is known, shortest first.
        audio_seconds: of the pool; an estimate if some are unknown.
        origin: where durations come from, in words.
    """

    known: list[_Entry]
    audio_seconds: float
    origin: str

    @staticmethod
    def of(utterances: Sequence[Utterance], *, seed: int) -> Durations:
        """Durations from the manifest, or else from the headers of a random sample of files.

        Raises:
            ManifestError: not a single duration is known.
        """
        known = [
            (one.duration_seconds, i)
            for i, one in enumerate(utterances)
            if one.duration_seconds is not None
        ]
        told = sum(seconds for seconds, _ in known)
        lacking = [i for i, one in enumerate(utterances) if one.duration_seconds is None]
        read = lacking
        if len(lacking) > MOST_HEADERS:
            read = sorted(random.Random(seed).sample(lacking, MOST_HEADERS))
        from_headers = []
        error: AudioError | None = None
        for i in read:
            try:
                from_headers.append((audio_seconds(utterances[i]), i))
            except AudioError as problem:
                error = error or problem
        known += [(seconds, i) for seconds, i in from_headers if seconds > 0]
        if not known:
            raise ManifestError(f"none of {len(read)} recordings tried can be read: {error}")
        # Recordings that cannot be read take no time.
        in_headers = sum(seconds for seconds, _ in from_headers)
        total = told + (in_headers / len(read) * len(lacking) if read else 0.0)
        return Durations(sorted(known), total, _origin(len(utterances), len(lacking), len(read)))


def _origin(total: int, lacking: int, read: int) -> str:
    if not lacking:
        return "the manifest"
    headers = "files' headers" if read == lacking else f"the headers of {read} files"
    if lacking == total:
        return headers
    return f"the manifest, and for {lacking} recordings that it lacks, {headers}"


def choose(
    utterances: Sequence[Utterance],
    durations: Durations,
    load: Callable[[Utterance], RecordingInput],
    *,
    num_strata: int,
    batch_seconds: float,
    seed: int,
) -> tuple[list[Stratum], int]:
    """Draw the recordings to measure, the same for the same pool and seed.

    Args:
        utterances: the pool.
        durations: of it.
        load: reads a recording, see ``Recognizer.load``.
        num_strata: recordings to draw, each from its own stratum.
        batch_seconds: padded audio that a recording and its neighbors may have together.
        seed: of the draw.

    Returns:
        The strata, shortest first, and how many recordings could not be read and were skipped.

    Raises:
        ManifestError: nothing that was tried in a stratum can be read.
    """
    known = durations.known
    num_strata = min(num_strata, len(known))
    scale = durations.audio_seconds / sum(seconds for seconds, _ in known)
    generator = random.Random(seed)
    strata = []
    num_broken = 0
    for start, end in _cuts([seconds for seconds, _ in known], num_strata):
        within = known[start:end]
        error: AudioError | None = None
        for place in itertools.islice(_drawn([s for s, _ in within], generator), MOST_TRIED):
            found: list[Recording] = []
            longest = 0.0
            for seconds, i in _with_neighbors(known, start + place):
                longest = max(longest, seconds)
                if found and longest * (len(found) + 1) > batch_seconds:
                    break
                one = utterances[i]
                try:
                    found.append(Recording.of(one.id, partial(load, one)))
                except AudioError as problem:
                    num_broken += 1
                    error = error or problem
                    if not found:
                        break
            if found:
                audio = scale * sum(seconds for seconds, _ in within)
                strata.append(Stratum(audio, within[0][0], within[-1][0], found))
                break
        else:
            tried = min(MOST_TRIED, len(within))
            raise ManifestError(
                f"none of {tried} recordings of {within[0][0]:.1f} to {within[-1][0]:.1f} s that "
                f"were tried can be read: {error}"
            )
    return strata, num_broken


def _cuts(seconds: Sequence[float], count: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each stratum of a sorted pool: equal audio, and at least one recording."""
    until = list(itertools.accumulate(seconds))
    start = 0
    for number in range(1, count + 1):
        end = bisect.bisect_left(until, until[-1] * number / count) + 1
        end = min(max(end, start + 1), len(seconds) - (count - number))
        yield start, end
        start = end


def _drawn(weights: Sequence[float], generator: random.Random) -> Iterator[int]:
    """Indices drawn without replacement, each with probability proportional to its weight."""
    # Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
    keys = [math.log(1.0 - generator.random()) / weight for weight in weights]
    yield from sorted(range(len(weights)), key=lambda i: -keys[i])


def _with_neighbors(known: Sequence[_Entry], place: int) -> Iterator[_Entry]:
    """An entry of a sorted list, then those before it, nearest first, then those after it."""
    yield from reversed(known[: place + 1])
    yield from known[place + 1 :]


def noise(recognizer: Recognizer, count: int, *, seed: int = 0) -> list[Recording]:
    """White noise, in place of recordings."""
    generator = torch.Generator().manual_seed(seed)
    samples = round(NOISE_SECONDS * recognizer.required_front_end().sample_rate_hz)
    recordings = []
    for number in range(count):
        name = f"noise {number}"
        waveform = (0.1 * torch.randn(samples, generator=generator)).numpy()
        recordings.append(Recording.of(name, partial(recognizer.prepare, waveform, name=name)))
    return recordings


def noise_strata(
    recognizer: Recognizer, num_strata: int, *, batch_seconds: float, seed: int
) -> list[Stratum]:
    """Strata of noise that stand for themselves."""
    together = max(1, int(batch_seconds / NOISE_SECONDS))
    recordings = noise(recognizer, num_strata * together, seed=seed)
    return [
        Stratum(NOISE_SECONDS, NOISE_SECONDS, NOISE_SECONDS, recordings[start : start + together])
        for start in range(0, len(recordings), together)
    ]
