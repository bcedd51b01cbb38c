"""Pools to pick from, drawn again and again: trusted recordings, a pool, and a test set."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from halves import Cache
from sketches import packed

from egl_fast.embeddings.typicality import typicality
from egl_fast.selection.gate import FALSE_ALARMS

#: Share of the pool's audio that is picked.
BUDGET = 0.2


@dataclass(frozen=True)
class Split:
    """Indices into a cache."""

    pool: tuple[int, ...]
    trusted: tuple[int, ...]
    test: tuple[int, ...]


def accented(number: int, cache: Cache) -> Split:
    """Accented English: half of speechocean762's training speakers, and all outliers.

    Trusted recordings are of the other half. The test set is the collection's own, other speakers
    again, without the targets.
    """
    chance = random.Random(f"draw {number}")
    speech, others = _by_speaker(_of(cache, "speechocean762", "train"), cache, chance)
    hard = chance.sample(_of(cache, "hard"), 30)
    return Split(
        pool=tuple(sorted([*speech, *hard, *_of(cache, "outliers")])),
        trusted=tuple(sorted(chance.sample(others, 100))),
        test=tuple(sorted(set(_of(cache, "speechocean762", "test")) - set(targets(cache)))),
    )


def clean(number: int, cache: Cache) -> Split:
    """The accented pool with neither junk nor speech that is hardly intelligible."""
    split = accented(number, cache)
    pool = tuple(i for i in split.pool if cache.recordings[i].corpus == "speechocean762")
    return Split(pool, split.trusted, split.test)


def targets(cache: Cache) -> list[int]:
    """64 recordings of the test set's speakers, which aimed scores aim at."""
    split = _of(cache, "speechocean762", "test")
    free = sorted(set(split) - set(random.Random("test").sample(split, 300)))
    return random.Random("targets").sample(free, 64)


def mixed(number: int, cache: Cache) -> Split:
    """Mixed and redundant, as companies' pools are: five corpora and all outliers.

    One talker's 500 commands, 700 spoken digits, accented English as above, and what little there
    is of LibriSpeech and AN4. A few recordings of each are trusted.
    """
    base = accented(number, cache)
    chance = random.Random(f"mixed {number}")
    pool, trusted = list(base.pool), list(base.trusted)
    grid, digits = _of(cache, "grid_s1", "train"), _of(cache, "fsdd", "train")
    for found, num_pool, num_trusted in ((grid, 500, 20), (digits, 700, 30)):
        drawn = chance.sample(found, num_pool + num_trusted)
        pool += drawn[:num_pool]
        trusted += drawn[num_pool:]
    for corpus, num_trusted in (("librispeech", 10), ("an4", 8)):
        drawn = chance.sample(found := _of(cache, corpus, "train"), len(found))
        trusted += drawn[:num_trusted]
        pool += drawn[num_trusted:]
    same = random.Random("test")
    test = [
        *same.sample(base.test, 200),
        *same.sample(_of(cache, "grid_s1", "test"), 100),
        *same.sample(_of(cache, "fsdd", "test"), 200),
        *_of(cache, "librispeech", "test"),
        *_of(cache, "an4", "test"),
    ]
    return Split(tuple(sorted(pool)), tuple(sorted(trusted)), tuple(test))


#: Name -> the split of a draw, by its number.
POOLS: dict[str, Callable[[int, Cache], Split]] = {
    "accented": accented,
    "clean": clean,
    "mixed": mixed,
}


def _of(cache: Cache, corpus: str, split: str | None = None) -> list[int]:
    return [
        index
        for index, one in enumerate(cache.recordings)
        if one.corpus == corpus and split in (None, one.record.get("split"))
    ]


def _by_speaker(
    indices: list[int], cache: Cache, chance: random.Random
) -> tuple[list[int], list[int]]:
    """Recordings of half of the speakers, and of the other half."""

    def speaker(index: int) -> str:
        return str(cache.recordings[index].record["speaker"])

    speakers = sorted({speaker(index) for index in indices})
    inside = set(chance.sample(speakers, len(speakers) // 2))
    return (
        [index for index in indices if speaker(index) in inside],
        [index for index in indices if speaker(index) not in inside],
    )


@dataclass(frozen=True)
class Draw:
    """A split, and what is known of its recordings before anything is trained.

    Attributes:
        number: decides everything random.
        cache: of all recordings.
        scores: their records, by id.
        embeddings: [all, d].
        pool, trusted, test: indices into the cache.
    """

    number: int
    cache: Cache
    scores: dict[str, dict[str, Any]]
    embeddings: np.ndarray
    pool: tuple[int, ...]
    trusted: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def of(
        cls,
        kind: str,
        number: int,
        cache: Cache,
        scores: dict[str, dict[str, Any]],
        embeddings: np.ndarray,
    ) -> Draw:
        """A draw of a kind of pool (a key of ``POOLS``)."""
        split = POOLS[kind](number, cache)
        return cls(number, cache, scores, embeddings, split.pool, split.trusted, split.test)

    def score(self, index: int, name: str) -> float:
        """A field of a recording's record."""
        return float(self.scores[self.cache.recordings[index].id][name])

    def seconds(self, index: int) -> float:
        """Of a recording."""
        return self.cache.recordings[index].seconds

    def is_junk(self, index: int) -> bool:
        """Whether it is not speech of the domain."""
        return self.cache.recordings[index].corpus == "outliers"

    def is_rejected(self, index: int) -> bool:
        """Whether a careful annotator hands it back: junk, and what experts hardly understood.

        What the collection has for the latter is the prompt, which may not be what was said.
        """
        return self.is_junk(index) or self.cache.recordings[index].corpus == "hard"

    @cached_property
    def speech(self) -> list[int]:
        """What of the pool is not junk: a control that nobody has in practice."""
        return [index for index in self.pool if not self.is_junk(index)]

    @cached_property
    def gated(self) -> list[int]:
        """What the gate leaves of the pool, as ``select --drop-atypical auto`` draws the line."""
        found = typicality(self.embeddings[list(self.trusted)], self.embeddings[list(self.pool)])
        line = found.threshold(FALSE_ALARMS)
        return [i for i, value in zip(self.pool, found.pool, strict=True) if value >= line]

    @cached_property
    def budget(self) -> float:
        """Seconds of audio that may be picked."""
        return BUDGET * sum(self.seconds(index) for index in self.pool)

    def packed(self, indices: Iterable[int], name: str) -> np.ndarray:
        """What ``sketches.py`` keeps of some recordings."""
        return np.stack([packed(name)[self.cache.recordings[index].id] for index in indices])

    def within_budget(self, order: Iterable[int], *, share: float = 1.0) -> list[int]:
        """The start of an order that the budget, or a share of it, allows."""
        left = share * self.budget
        picks = []
        for index in order:
            left -= self.seconds(index)
            if left < 0:
                break
            picks.append(index)
        return picks
