"""Durations in manifests, compared with the decoded audio."""

from __future__ import annotations

from egl_fast.data.manifest import Utterance

#: Audio that may be missing: manifests round, and an MP3's length is known to about one of its
#: frames.
_ALLOWED_GAP_SECONDS = 0.1


def lacks_audio(utterance: Utterance, seconds: float) -> bool:
    """Whether a manifest promises more of an utterance than was decoded."""
    promised = utterance.duration_seconds
    return promised is not None and promised - seconds > _ALLOWED_GAP_SECONDS


class TrueLengths:
    """Collects the utterances whose audio ends before their ``duration`` does.

    A shorter ``duration`` is a segment of a longer recording. A longer one is a mistake in the
    manifest: the existing audio counts everywhere, and the user is warned.

    Example:
        >>> from pathlib import Path
        >>> lengths = TrueLengths()
        >>> lengths.add(Utterance("a", Path("a.wav"), 0.0, 5.0, None, {}, 1), 1.5)
        >>> lengths.warning()[:58]
        "1 duration in the manifest is longer than its audio ('a': "
    """

    def __init__(self) -> None:
        self._num_short = 0
        self._first = ""

    def add(self, utterance: Utterance, seconds: float) -> None:
        """An utterance, and the length of its decoded audio."""
        if not lacks_audio(utterance, seconds):
            return
        self._num_short += 1
        if self._num_short == 1:
            promised = utterance.duration_seconds
            self._first = f"{utterance.id!r}: {promised:g} s, but there are {seconds:.2f}"

    def warning(self) -> str | None:
        """One line for the user; None if nothing is wrong."""
        if self._num_short == 0:
            return None
        what, audio = (
            ("1 duration in the manifest is", "its audio")
            if self._num_short == 1
            else (f"{self._num_short} durations in the manifest are", "their audio")
        )
        first = self._first if self._num_short == 1 else f"first {self._first}"
        return f"{what} longer than {audio} ({first}); the true length counts"
