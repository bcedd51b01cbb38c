"""Recordings read ahead: each gives its content, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.data.prefetch import prefetch
from egl_fast.errors import AudioError, EglError, one_line

Result = TypeVar("Result")

#: How long reading and decoding one recording may take by default.
READ_TIMEOUT_SECONDS = 120.0


def read_ahead(
    load: Callable[[Utterance], Result],
    utterances: Iterable[Utterance],
    *,
    num_threads: int,
    timeout_seconds: float | None = READ_TIMEOUT_SECONDS,
) -> Iterator[Result | EglError]:
    """The results of ``load`` for each recording, in order; a failure does not stop the others.

    Args:
        load: called once per utterance, from any thread. Whatever it raises becomes the result.
        utterances: consumed lazily.
        num_threads: number of threads.
        timeout_seconds: how long one recording may take; None: forever.
    """

    def attempt(utterance: Utterance) -> Result | EglError:
        try:
            return load(utterance)
        except EglError as error:
            return error
        except MemoryError:
            return failed(utterance, "does not fit into memory; cut it")
        except Exception as error:  # Whatever a decoder does to one recording, the others continue.
            return failed(utterance, f"cannot be read ({type(error).__name__}: {one_line(error)})")

    def failed(utterance: Utterance, what: str) -> EglError:
        return AudioError(f"{recording_name(utterance.audio_path)}: {what}")

    def on_timeout(utterance: Utterance) -> Result | EglError:
        remedy = "check its disk, or raise `score --read-timeout`"
        return failed(utterance, f"was not read within {timeout_seconds:g} s; {remedy}")

    return prefetch(
        attempt,
        utterances,
        num_threads=num_threads,
        timeout_seconds=timeout_seconds,
        on_timeout=on_timeout,
    )
