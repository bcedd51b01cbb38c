"""All kinds of sources, and their utterances together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from egl_fast.data.sources import (
    file_list,
    folder,
    huggingface,
    kaldi,
    lhotse,
    manifest,
    nemo_tarred,
    table,
)
from egl_fast.data.sources.source import Entry, Kind, Source
from egl_fast.data.unique_ids import without_repeats
from egl_fast.errors import ManifestError

#: The first that recognizes a source reads it.
KINDS: Final[tuple[Kind, ...]] = (
    kaldi.KIND,
    huggingface.SAVED,
    nemo_tarred.FOLDER,
    table.DESCRIBED_FOLDER,
    huggingface.PARQUET_FOLDER,
    folder.KIND,
    huggingface.PARQUET,
    file_list.RECORDING,
    nemo_tarred.KIND,
    manifest.KIND,
    lhotse.CUTS,
    lhotse.RECORDINGS,
    lhotse.SUPERVISIONS,
    table.METADATA,
    table.COMMON_VOICE,
    table.TABLE,
    file_list.LIST,
)


class Recognized(NamedTuple):
    """A source, its kind, and what its ids begin with."""

    source: Source
    kind: Kind
    prefix: str

    @property
    def is_manifest(self) -> bool:
        """Whether it is one of our manifests, with its records and ids as they are."""
        return self.kind is manifest.KIND and not self.prefix and not self.source.is_standard_input


@contextmanager
def recognized(given: Sequence[str | Path]) -> Iterator[list[Recognized]]:
    """Sources with their kinds, opened; what belongs to another of them is left out.

    Args:
        given: paths, "-" for standard input, or NAME=PATH, which puts ``NAME/`` before all ids.

    Raises:
        ManifestError: one does not exist, or cannot be read.
    """
    with ExitStack() as stack:
        found = []
        for one in given:
            prefix, path = _prefix_and_path(str(one))
            source = stack.enter_context(Source(path))
            # What nobody recognizes gets the messages about a line that is not JSON.
            kind = next((kind for kind in KINDS if kind.recognizes(source)), manifest.KIND)
            found.append(Recognized(source, kind, prefix))
        read = {os.path.abspath(path) for one in found for path in one.kind.companions(one.source)}
        yield [one for one in found if os.path.abspath(one.source.path) not in read]


def entries(found: Sequence[Recognized]) -> Iterator[Entry]:
    """All utterances of some sources, one at a time.

    Raises:
        ManifestError: a source is damaged, holds what cannot be read here, or nothing; two
            utterances have the same id.
    """

    def named() -> Iterator[tuple[str, tuple[Entry, Source]]]:
        for source, kind, prefix in found:
            for entry in kind.entries(source):
                identity = f"{prefix}{entry.record['id']}"
                record = {**entry.record, "id": identity}
                yield identity, (entry._replace(record=record), source)

    seen = set()
    for entry, source in without_repeats(named, _repeated):
        seen.add(source)
        yield entry
    for source, kind, _ in found:
        if source not in seen:
            raise ManifestError(f"{source.name}: {kind.name} without any recording")


def _repeated(
    identity: str, first: tuple[Entry, Source], again: tuple[Entry, Source]
) -> ManifestError:
    (_, other), (entry, source) = first, again
    remedy = "give each its own id"
    if other != source:
        remedy = f"put a name before one of them: NAME={source.name}"
    return ManifestError(f"{entry.where}: id {identity!r} is already in {other.name}; {remedy}")


def _prefix_and_path(given: str) -> tuple[str, str]:
    name, equals, path = given.partition("=")
    if not equals or not name or os.path.exists(given) or os.sep in name:
        return "", given
    return f"{name}/", path
