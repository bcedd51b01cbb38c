"""Stopping when told to, but not in the middle of something."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from egl_fast.cli.console import say

#: Ctrl-C, what `kill` and job schedulers send, and the end of a remote session.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether the command has been asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def stop_if_requested(self) -> None:
        """End the command here, where everything finished is kept.

        Raises:
            KeyboardInterrupt: a signal has come.
        """
        if self.requested:
            raise KeyboardInterrupt


@contextmanager
def interruption_after(step: str) -> Iterator[Interruption]:
    """Let a first signal wait for the end of a step, and a second one stop at once.

    Args:
        step: what is being finished, for the message.
    """
    interruption = Interruption()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if interruption.requested:
            earlier = handled[number]
            if not callable(earlier):
                raise KeyboardInterrupt
            earlier(number, frame)
            return
        interruption.requested = True
        say(f"finishing {step}; press Ctrl-C again to stop at once")

    with _handled_by(on_signal) as handled:
        yield interruption


@contextmanager
def as_keyboard_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: contexts are left, the status is 130.

    Once: who presses Ctrl-C again out of impatience does not break into the leaving of contexts.
    """
    leaving = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal leaving
        if not leaving:
            leaving = True
            raise KeyboardInterrupt

    try:
        with _handled_by(on_signal):
            yield
    finally:
        # The interpreter takes a while to end, torch being there; all is done and said by then.
        atexit.register(_ignore_signals)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handled_by(handler: signal._HANDLER) -> Iterator[dict[int, signal._HANDLER]]:
    """Yields the handlers before, by signal."""
    before: dict[int, signal._HANDLER] = {}
    try:
        for number in _SIGNALS:
            # nohup and the like have a signal ignored: so it stays.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield before
    finally:
        for handled, earlier in before.items():
            signal.signal(handled, earlier)
