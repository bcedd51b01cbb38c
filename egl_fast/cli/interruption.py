"""Stopping on request, but not in the middle of something."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from egl_fast.cli.console import say

#: Ctrl-C, `kill` and job schedulers, the end of a remote session.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruption_after(step: str) -> Iterator[Event]:
    """Let a first signal set an event, to be heeded after a step; a second one stops at once.

    ``step`` is what a message calls it.
    """
    requested = Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            earlier = handled[number]
            if not callable(earlier):
                raise KeyboardInterrupt
            earlier(number, frame)
            return
        requested.set()
        say(f"finishing {step}; press Ctrl-C again to stop at once")

    with _handled_by(on_signal) as handled:
        yield requested


@contextmanager
def as_keyboard_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: contexts are left, the status is 130.

    Only once: further signals, as from an impatient Ctrl-C, do not interrupt the leaving of
    contexts.
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
        # With torch loaded, the interpreter takes a while to exit; all is done by then.
        atexit.register(_ignore_signals)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handled_by(handler: signal._HANDLER) -> Iterator[dict[int, signal._HANDLER]]:
    """Yields the previous handlers, by signal."""
    before: dict[int, signal._HANDLER] = {}
    try:
        for number in _SIGNALS:
            # A signal that is ignored, as under nohup, remains ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield before
    finally:
        for handled, earlier in before.items():
            signal.signal(handled, earlier)
