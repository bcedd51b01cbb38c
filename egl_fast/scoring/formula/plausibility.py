"""Warns of outputs that a trained CTC model hardly has.

Where the blank, the sample rate, or the weights are not what the caller believes, everything can
still be computed, and every score is wrong. The outputs give some of these mistakes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.warning import warn

#: Frames after which a verdict is due: 10 to 20 s of speech.
_ENOUGH_FRAMES: Final = 500

#: More than any label but the blank has of the frames of speech: a label is there for the frames
#: that one sound takes, and most often for a single one.
_MOST_OF_A_LABEL: Final = 0.5

#: Shorter recordings may be padded to what the model needs.
_LONG_SECONDS: Final = 2.0

#: How many times too many or too few frames there may be. Sample rates in use are further apart.
_OFF: Final = 1.25


class Plausibility:
    """Watches the first outputs of a model, and warns once of each mistake.

    Args:
        recognizer: whose outputs they are.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._wins = torch.zeros(len(recognizer.classes.vocabulary), dtype=torch.int64)
        self._frames, self._seconds = 0, 0.0  # of long recordings
        self._is_done = False

    def see(self, log_probs: Tensor, lengths: Tensor, durations: Sequence[float]) -> None:
        """Take in the outputs of some utterances, until there are enough.

        Args:
            log_probs: [N, T, C], of any scale.
            lengths: [N] frames.
            durations: N, in seconds, 0 if unknown.
        """
        if self._is_done:
            return
        for best, end, seconds in zip(
            log_probs.detach().argmax(dim=2), lengths.tolist(), durations, strict=True
        ):
            self._wins += best[:end].cpu().bincount(minlength=len(self._wins))
            if seconds >= _LONG_SECONDS:
                self._frames += end
                self._seconds += seconds
        if int(self._wins.sum()) >= _ENOUGH_FRAMES:
            self.judge()

    def judge(self) -> None:
        """Warn of what the outputs so far give away; those to come are not looked at."""
        self._is_done = True
        for message in (self._of_blank(), self._of_frames()):
            if message is not None:
                warn(message)

    def _of_blank(self) -> str | None:
        classes = self._recognizer.classes
        best = int(self._wins.argmax())
        share = self._wins[best] / self._wins.sum().clamp(min=1)
        if best == classes.blank or share <= _MOST_OF_A_LABEL:
            return None
        # Without numbers: several workers say the same then, which is shown once.
        return (
            f"class {best} ({classes.vocabulary[best]!r}) has the highest probability in more than "
            f"half of the frames, and the blank (class {classes.blank}) has not; in a trained CTC "
            f"model, no class but the blank has: is the blank class {best}, or are the weights not "
            "loaded?"
        )

    def _of_frames(self) -> str | None:
        frame_seconds = self._recognizer.frame_seconds
        if frame_seconds is None or self._seconds == 0:
            return None
        factor = self._frames * frame_seconds / self._seconds
        if 1 / _OFF <= factor <= _OFF:
            return None
        front_end = self._recognizer.front_end
        rate = "" if front_end is None else f", or sample_rate_hz ({front_end.sample_rate_hz})"
        return (
            f"the model returns a frame for every {1000 * self._seconds / self._frames:.2g} ms of "
            f"audio, and frame_seconds says {1000 * frame_seconds:g} ms; one of them is wrong: "
            f"frame_seconds{rate}"
        )
