"""What manifests say of durations, against the audio that was decoded."""

from __future__ import annotations

from egl_fast.data.manifest import Utterance

#: Missing audio that is not worth a word: manifests round, and an MP3's length is known to about
#: one of its frames.
_ALLOWED_GAP_SECONDS = 0.1


def lacks_audio(utterance: Utterance, seconds: float) -> bool:
    """Whether a manifest promises more of an utterance than was decoded of it."""
    promised = utterance.duration_seconds
    return promised is not None and promised - seconds > _ALLOWED_GAP_SECONDS


class TrueLengths:
    """Collects the utterances whose audio ends before their ``duration`` does.

    A shorter ``duration`` is a stretch of a longer recording, and means what it says. A longer one
    is a mistake of the manifest: the audio that is there counts, everywhere, and this says so.

    Example:
        >>> from pathlib import Path
        >>> lengths = TrueLengths()
        >>> lengths.add(Utterance("a", Path("a.wav"), 0.0, 5.0, None, {}, 1), 1.5)
        >>> lengths.warning()[:58]
        "1 duration of the manifest is longer than its audio ('a': "
    """

    def __init__(self) -> None:
        self._num_short = 0
        self._first = ""

    def add(self, utterance: Utterance, seconds: float) -> None:
        """An utterance, and how long its audio was found to be."""
        if not lacks_audio(utterance, seconds):
            return
        self._num_short += 1
        if self._num_short == 1:
            promised = utterance.duration_seconds
            self._first = f"{utterance.id!r}: {promised:g} s, of which {seconds:.2f} are there"

    def warning(self) -> str | None:
        """One line for the user, or None where nothing is wrong."""
        if self._num_short == 0:
            return None
        what, audio = (
            ("1 duration of the manifest is", "its audio")
            if self._num_short == 1
            else (f"{self._num_short} durations of the manifest are", "their audio")
        )
        first = self._first if self._num_short == 1 else f"first {self._first}"
        return f"{what} longer than {audio} ({first}); the true length counts"
