"""The sets of a simulation: which utterances are in them, and that none is in two."""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path
from typing import NoReturn, TypeAlias

from egl_fast.data.audio import audio_seconds
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.errors import AudioError, ManifestError, one_line
from egl_fast.evaluation.simulation.config import PARTS, SimulationConfig, SourceConfig
from egl_fast.evaluation.simulation.filters import matching
from egl_fast.files.addresses import Place
from egl_fast.files.remote import reading, version_of
from egl_fast.hashing import hashed

#: Pairs of parts that must not share an utterance.
_DISJOINT = (
    *(("base", part) for part in ("pool", "valid", "test")),
    ("pool", "valid"),
    ("pool", "test"),
    ("valid", "test"),
    *(("pretrain", part) for part in ("pool", "valid", "test", "pretrain_valid")),
    # Pretraining must not be validated on hidden texts, or on what models are tested on.
    *(("pretrain_valid", part) for part in ("pool", "test")),
)

#: Two utterances may share this much audio, in seconds: less than a syllable, where cuts were
#: rounded or padded.
SHARED_SECONDS = 0.1

#: This much of a file's start, and its size, identify it.
_IDENTITY_BYTES = 1 << 20


@dataclass(frozen=True)
class Member:
    """A transcribed utterance of a set.

    Attributes:
        utterance: its line, id prefixed and keys added as the configuration says.
        seconds: length of the audio.
        audio_identity: hash of the audio file, wherever it lies.
    """

    utterance: Utterance
    seconds: float
    audio_identity: str

    @cached_property
    def identity(self) -> str:
        """Everything about the utterance that training sees, as one line."""
        own = self.utterance
        place = (own.offset_seconds, own.duration_seconds)
        return json.dumps([own.id, self.audio_identity, *place, own.text])


#: Utterances of a part, each with the source that it comes from.
_Sourced: TypeAlias = list[tuple[SourceConfig, Member]]


def digest(members: Iterable[Member]) -> str:
    """A name for a sequence of utterances: texts, audio and order."""
    return hashed(*(member.identity for member in members), separator="\n").hex()[:32]


def hidden(members: Iterable[Member]) -> list[Utterance]:
    """The utterances as a scorer may see them: without their texts."""

    def without_text(utterance: Utterance) -> Utterance:
        record = {key: value for key, value in utterance.record.items() if key != "text"}
        return replace(utterance, text=None, record=record)

    return [without_text(member.utterance) for member in members]


def total_seconds(members: Iterable[Member]) -> float:
    """Audio of a set, in seconds."""
    return sum(member.seconds for member in members)


def read_sets(config: SimulationConfig) -> dict[str, tuple[Member, ...]]:
    """All parts of the configuration's data, checked.

    Returns:
        Part -> its utterances, source by source, in the manifests' order.

    Raises:
        ConfigError: a manifest cannot be used, a filter leaves nothing, an utterance has no text or
            no audio, an id is there twice, or two parts share a recording.
    """
    reader = _Reader(config)
    sets = {part: reader.part(part) for part in PARTS}
    for part, other in _DISJOINT:
        _refuse_overlap(config, sets, part, other)
    # Base and pool are trained on together.
    for parts in (("base", "pool"), ("valid",), ("test",), ("pretrain",), ("pretrain_valid",)):
        _refuse_equal_ids(config, sets, parts)
    return {part: tuple(member for _, member in members) for part, members in sets.items()}


class _Reader:
    def __init__(self, config: SimulationConfig) -> None:
        self.config = config
        self._parts: dict[str, _Sourced] = {}
        self._under_way: list[str] = []
        self._manifest = cache(read_manifest)
        self._audio_identity = cache(_audio_identity)

    def part(self, name: str) -> _Sourced:
        if name not in self._parts:
            self._under_way.append(name)
            self._parts[name] = [
                (source, member)
                for source in self.config.data[name]
                for member in self._source(name, source)
            ]
            self._under_way.pop()
        return self._parts[name]

    def _source(self, name: str, source: SourceConfig) -> list[Member]:
        out: list[tuple[Place, Member]] = []
        for other in source.exclude:
            if other in self._under_way:
                chain = " excludes ".join([*self._under_way, other])
                self._refuse(source, f"{chain}: remove one of them", "exclude")
            out += [
                (member.utterance.audio_path.resolve(), member) for _, member in self.part(other)
            ]
        excluded = _Recordings(out)
        try:
            taken = self._manifest(source.manifest)
        except ManifestError as error:
            self._refuse(source, str(error), "manifest")
        taken = matching(
            taken,
            source.where,
            lambda utterance: utterance.record,
            source=source.manifest,
            refuse=lambda message, key: self._refuse(source, message, "where", key),
        )
        taken = [
            u
            for u in taken
            if not excluded.twin_of(
                u.audio_path.resolve(),
                u.offset_seconds,
                math.inf if u.duration_seconds is None else u.duration_seconds,
            )
        ]
        if not taken:
            self._refuse(source, f"{name}: no utterance is left of {source.manifest}")
        if source.sample is not None:
            if source.sample > len(taken):
                message = f"sample = {source.sample}, but only {len(taken)} utterances are left"
                self._refuse(source, message, "sample")
            by_chance = sorted(taken, key=lambda u: hashed(self.config.sample_seed, u.id))
            chosen = {u.id for u in by_chance[: source.sample]}
            taken = [u for u in taken if u.id in chosen]
        return [self._member(name, source, utterance) for utterance in taken]

    def _member(self, name: str, source: SourceConfig, utterance: Utterance) -> Member:
        place = utterance.place or f"{source.manifest}, line {utterance.line}"
        where = f"{name}: utterance {utterance.id!r} ({place})"
        if utterance.text is None:
            self._refuse(
                source,
                f'{where} has no text; add its transcript, "" for no speech, or filter it out',
            )
        try:
            seconds = audio_seconds(utterance)
            identity = self._audio_identity(utterance.audio_path)
        except (AudioError, OSError) as error:
            self._refuse(source, f"{where}: {one_line(error)}")
        record = {**utterance.record, **source.add}
        named = replace(utterance, id=source.prefix + utterance.id, record=record)
        return Member(named, seconds, identity)

    def _refuse(self, source: SourceConfig, message: str, *keys: str) -> NoReturn:
        raise self.config.source.error((*source.path, *keys), message) from None


def _audio_identity(path: Place) -> str:
    start = reading(path, lambda file: file.read(_IDENTITY_BYTES))
    _, _, size = version_of(path)
    content = hashlib.sha256(f"{size}\0".encode() + start)
    return content.hexdigest()[:32]


class _Recordings:
    """The stretches of recordings that are taken, to find others that share audio with them."""

    def __init__(self, members: Iterable[tuple[Hashable, Member]]) -> None:
        self._taken: dict[Hashable, list[tuple[float, float, Utterance]]] = {}
        for recording, member in members:
            start = member.utterance.offset_seconds
            stretch = start, start + member.seconds, member.utterance
            self._taken.setdefault(recording, []).append(stretch)
        for stretches in self._taken.values():
            stretches.sort(key=itemgetter(0))
        self._longest = {
            recording: max(end - start for start, end, _ in stretches)
            for recording, stretches in self._taken.items()
        }

    def twin_of(self, recording: Hashable, start: float, seconds: float) -> Utterance | None:
        """One that shares audio with a stretch of the same recording, if there is any."""
        stretches = self._taken.get(recording, [])
        earliest = start - self._longest.get(recording, 0.0)
        for other_start, other_end, utterance in stretches[
            bisect_left(stretches, earliest, key=itemgetter(0)) :
        ]:
            if other_start > start + seconds:
                break
            shared = min(start + seconds, other_end) - max(start, other_start)
            if shared > min(SHARED_SECONDS, seconds / 2, (other_end - other_start) / 2):
                return utterance
        return None


def _refuse_overlap(
    config: SimulationConfig, sets: Mapping[str, _Sourced], part: str, other: str
) -> None:
    seen = _Recordings((member.audio_identity, member) for _, member in sets[part])
    for source, member in sets[other]:
        start = member.utterance.offset_seconds
        twin = seen.twin_of(member.audio_identity, start, member.seconds)
        if twin is not None:
            is_same = twin.offset_seconds == start
            what = "is the same recording as" if is_same else "shares audio with"
            raise config.source.error(
                source.path,
                f"{other}: utterance {member.utterance.id!r} {what} {twin.id!r} of {part}; "
                f'give exclude = ["{part}"], or filter one of them out',
            )


def _refuse_equal_ids(
    config: SimulationConfig, sets: Mapping[str, _Sourced], parts: Sequence[str]
) -> None:
    first: dict[str, Path] = {}
    for part in parts:
        for source, member in sets[part]:
            name = member.utterance.id
            if name in first:
                raise config.source.error(
                    source.path,
                    f"{part}: id {name!r} of {source.manifest} is in {first[name]} already; "
                    'tell them apart with prefix = "..."',
                )
            first[name] = source.manifest
