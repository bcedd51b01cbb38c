"""Recordings on a page, to be heard, seen, and read, as long as the page stays small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from egl_fast.data.manifest import seconds_of
from egl_fast.errors import ManifestError
from egl_fast.evaluation.reporting.excerpts import MAX_SECONDS, Excerpt, make_excerpt
from egl_fast.evaluation.reporting.scores_file import GROUP_KEYS
from egl_fast.evaluation.reporting.wording import shown_id, shown_text
from egl_fast.files.addresses import Place, joined

MAX_TEXT = 600
_MAX_TAG = 60


class Sounds:
    """Excerpts of recordings, up to a size.

    Args:
        folder: what relative audio paths start from.
        max_bytes: of sounds and pictures, as written into the page.

    Attributes:
        num_left_out: recordings beyond that size.
    """

    def __init__(self, folder: Place, max_bytes: int) -> None:
        self.num_left_out = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._num_recordings = 0
        self._problems: list[str] = []

    @property
    def is_full(self) -> bool:
        """Whether further recordings are left out."""
        return self._num_bytes > self._max_bytes

    def of(self, record: Mapping[str, Any]) -> Excerpt:
        """What can be heard of a record's recording, or why nothing can."""
        self._num_recordings += 1
        if self.is_full:
            self.num_left_out += 1
            return Excerpt(None, None, 0.0, "left out, to keep the page small")
        excerpt = _excerpt_of(record, self._folder)
        if excerpt.problem is not None:
            self._problems.append(excerpt.problem)
        self._num_bytes += len(excerpt.audio or "") + len(excerpt.thumbnail or "")
        return excerpt

    def warnings(self, what: str) -> list[str]:
        """A sentence if some recordings cannot be played; ``what`` is one of them in words."""
        failed, total = len(self._problems), self._num_recordings
        if not failed:
            return []
        if failed == total == 1:
            return [f"The {what} cannot be played: {self._problems[0]}."]
        if failed == total:
            return [f"None of the {total} {what}s can be played. The first: {self._problems[0]}."]
        return [
            f"{failed} of the {total} {what}s cannot be played; their rows say why. The first: "
            f"{self._problems[0]}."
        ]


def heard(record: Mapping[str, Any], seconds: float, sounds: Sounds) -> dict[str, Any]:
    """What the template shows of any recording: sound, transcripts, and where it comes from."""
    tags = (shown_text(record.get(key), most=_MAX_TAG) for key in GROUP_KEYS)
    text = record.get("text")
    return {
        "id": shown_id(record["id"]),
        "tags": [tag for tag in tags if tag],
        "seconds": seconds,
        "text": shown_text(text, most=MAX_TEXT) if isinstance(text, str) else None,
        "pred_text": shown_text(record.get("pred_text"), most=MAX_TEXT),
        "excerpt": sounds.of(record),
    }


def _excerpt_of(record: Mapping[str, Any], audio_folder: Place) -> Excerpt:
    audio = record.get("audio_filepath")
    if not isinstance(audio, str) or not audio or "\0" in audio:
        return Excerpt(None, None, 0.0, "the record names no recording")
    offset, duration = (seconds_in(record, key) for key in ("offset", "duration"))
    return make_excerpt(
        joined(audio_folder, audio),
        offset_seconds=offset or 0.0,
        duration_seconds=duration or MAX_SECONDS,
    )


def seconds_in(record: Mapping[str, Any], key: str) -> float | None:
    """What a record says in seconds; None where it says nothing that could be."""
    try:
        return seconds_of(record, key, "")
    except ManifestError:
        return None
