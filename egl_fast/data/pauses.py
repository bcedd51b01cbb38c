"""Long recordings cut at pauses, which Silero's voice activity detector finds.

Its model is run by ONNX Runtime, without importing Silero's own package, which wants torchaudio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.data.audio import Waveform, blocks_of
from egl_fast.data.manifest import Utterance

#: The detector takes 32 ms at a time, with the last 4 ms of what came before.
_RATE_HZ, _FRAME_SAMPLES, _CONTEXT_SAMPLES = 16000, 512, 64
_FRAME_SECONDS = _FRAME_SAMPLES / _RATE_HZ

#: Below this probability of speech, a frame is part of a pause: the value that Silero recommends
#: for the end of speech.
_PAUSE_BELOW = 0.35

#: A cut where nobody pauses goes where speech is least probable on average over this time.
_AROUND_SECONDS = 0.2


def pieces(utterance: Utterance, *, most_seconds: float) -> list[tuple[float, float]]:
    """Offsets and durations of segments that cover an utterance, in seconds.

    Args:
        utterance: names the recording, and possibly a segment of it.
        most_seconds: no segment is longer.

    Raises:
        AudioError: the recording cannot be read.
    """
    speech, seconds = _speech(utterance)
    cuts = [0.0, *(c * _FRAME_SECONDS for c in cut(speech, round(most_seconds / _FRAME_SECONDS)))]
    start = utterance.offset_seconds
    return [
        (round(start + begin, 3), round(end - begin, 3))
        for begin, end in zip(cuts, [*cuts[1:], seconds], strict=True)
    ]


def cut(speech: Sequence[float] | npt.NDArray[np.float32], most: int) -> list[int]:
    """Where to cut a recording so that no piece is longer than a number of frames.

    Each cut is in the middle of the longest pause in the second half of what the piece may hold,
    so pieces are at least half as long as allowed but for the last one, which has at least a
    quarter.

    Args:
        speech: [T] probability of speech in each frame.
        most: frames.
    """
    scores = _pause_scores(np.asarray(speech, np.float32))
    cuts: list[int] = []
    start = 0
    while len(scores) - start > most:
        low, high = start + most // 2, min(start + most, len(scores) - most // 4)
        # Of equals, the last: fewer pieces.
        start = high - 1 - int(np.argmax(scores[low:high][::-1]))
        cuts.append(start)
    return cuts


def _pause_scores(speech: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[T] how good a cut before each frame is: frames of its pause, most in its middle.

    Without a pause it is minus the average probability of speech around.
    """
    width = max(1, round(_AROUND_SECONDS / _FRAME_SECONDS))
    scores = -np.convolve(speech, np.full(width, 1 / width, np.float32), mode="same")
    quiet = np.concatenate([[False], speech < _PAUSE_BELOW, [False]])
    edges = np.flatnonzero(quiet[1:] != quiet[:-1])
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        inside = np.arange(begin, end)
        # How far it is to the nearer end of the pause.
        scores[begin:end] = np.minimum(inside - begin, end - inside)
    return scores


def _speech(utterance: Utterance) -> tuple[list[float], float]:
    """The probability of speech in each frame, and the length in seconds."""
    detector = _detector()
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros(_CONTEXT_SAMPLES, np.float32)
    rate_hz = np.array(_RATE_HZ)
    found = []
    num_samples = 0
    for frame in _frames(blocks_of(utterance, sample_rate_hz=_RATE_HZ)):
        num_samples += len(frame)
        padded = np.pad(frame, (0, _FRAME_SAMPLES - len(frame)))
        given = {"input": np.concatenate([context, padded])[None], "state": state, "sr": rate_hz}
        speech, state = detector.run(None, given)
        context = padded[-_CONTEXT_SAMPLES:]
        found.append(float(speech[0, 0]))
    return found, num_samples / _RATE_HZ


@lru_cache(maxsize=1)
def _detector() -> Any:
    import onnxruntime

    package = find_spec("silero_vad")
    assert package is not None
    assert package.origin is not None
    options = onnxruntime.SessionOptions()
    # Recordings are looked at by several threads already.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(package.origin).parent / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _frames(blocks: Iterator[Waveform]) -> Iterator[Waveform]:
    rest = np.zeros(0, np.float32)
    for block in blocks:
        samples = np.concatenate([rest, block])
        whole = len(samples) // _FRAME_SAMPLES * _FRAME_SAMPLES
        yield from samples[:whole].reshape(-1, _FRAME_SAMPLES)
        rest = samples[whole:]
    if len(rest) > 0:
        yield rest
