"""Ctrl-C and a polite kill ask a run to stop; it stops between two steps and saves."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While active, the first SIGINT or SIGTERM only sets `signal`; a second SIGINT interrupts.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if number == signal.SIGINT:
            _tell(b"saving after this step; Ctrl-C again stops at once\n")


def _tell(text: bytes) -> None:
    """Straight to stderr: in a signal handler, Python's buffers may be in the middle of a write."""
    with contextlib.suppress(OSError):
        os.write(2, b"\n" + text if os.isatty(2) else text)
