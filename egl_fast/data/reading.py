"""Recordings read ahead, each to what it holds or to what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from egl_fast.data.manifest import Utterance
from egl_fast.data.prefetch import prefetch
from egl_fast.data.recording_names import recording_name
from egl_fast.errors import AudioError, EglError, one_line

Result = TypeVar("Result")

#: How long one recording may take to be read and decoded, unless somebody says otherwise.
READ_TIMEOUT_SECONDS = 120.0


def read_ahead(
    load: Callable[[Utterance], Result],
    utterances: Iterable[Utterance],
    *,
    num_threads: int,
    timeout_seconds: float | None = READ_TIMEOUT_SECONDS,
) -> Iterator[Result | EglError]:
    """What ``load`` makes of each recording, in order; no failure stops the others.

    Args:
        load: called once per utterance, from any thread. Whatever it raises becomes the result.
        utterances: consumed lazily.
        num_threads: threads at work.
        timeout_seconds: how long one recording may take; None: forever.
    """

    def attempt(utterance: Utterance) -> Result | EglError:
        try:
            return load(utterance)
        except EglError as error:
            return error
        except MemoryError:
            return AudioError(
                f"{recording_name(utterance.audio_path)}: does not fit into memory; cut it"
            )
        except Exception as error:  # Whatever a decoder does to one recording, others go on.
            return AudioError(
                f"{recording_name(utterance.audio_path)}: cannot be read "
                f"({type(error).__name__}: {one_line(error)})"
            )

    def overdue(utterance: Utterance) -> Result | EglError:
        return AudioError(
            f"{recording_name(utterance.audio_path)}: was not read within "
            f"{timeout_seconds:g} s; check its disk, or raise --read-timeout of `score`"
        )

    return prefetch(
        attempt,
        utterances,
        num_threads=num_threads,
        timeout_seconds=timeout_seconds,
        overdue=overdue,
    )
