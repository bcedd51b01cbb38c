"""Recordings whose names and texts any list of them might stumble over."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import Utterance

RATE_HZ = 16000

#: 64 names, with slashes, spaces, quotes, and letters beyond ASCII.
NAMES = [
    f"{folder}{stem}{number}"
    for folder, stem, number in product(
        ("", "a/", "a/b b/", "ü/"), ("plain", 'q"uote', "it's", "größe,日本"), range(4)
    )
]


class Speech(NamedTuple):
    """A folder of recordings, and their texts by id."""

    folder: Path
    texts: dict[str, str]

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.wav"


def samples_of(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Different for each, 20 ms and more, exact in 16 bits."""
    count = 320 + 16 * number
    return (np.arange(count, dtype=np.float32) % (number + 2)) / 128


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    folder = tmp_path_factory.mktemp("speech")
    texts = {}
    for number, name in enumerate(NAMES):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples_of(number), RATE_HZ)
        texts[name] = f'{name} said "ja, größe"\u2028number {number}'
    return Speech(folder, texts)


def check(
    utterances: list[Utterance], *, texts: dict[str, str] | None, ids: list[str] = NAMES
) -> None:
    """That each recording is there, in any order, with its own samples and text."""
    assert sorted(u.id for u in utterances) == sorted(ids)
    for utterance in utterances:
        number = ids.index(utterance.id)
        found = load_audio(utterance, sample_rate_hz=RATE_HZ)
        np.testing.assert_array_equal(found, samples_of(number))
        assert utterance.text == (None if texts is None else texts[NAMES[number]])
