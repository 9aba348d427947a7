"""Spans: named stretches of a thread's time, told to whoever records them.

    with span("data"):
        x, y = next(batches)

Without a recorder (see `groundup.profile`) a span costs less than a microsecond, and nothing else
happens. This module lies at the bottom, so that every layer can say what it is doing.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Final, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Spans of these names are the lanes that all work of a training run falls into.
LANES: Final = ("data", "forward", "backward", "optimizer", "compiled", "eval", "save")


class Recorder(Protocol):
    """What a recorder must understand. Calls of one thread nest: each `end` is the last begin's."""

    def begin(self, kind: str, name: str) -> None:
        """A span begins. `kind`: "span", "wait", "compile", "plan", "allocate", "trace"."""

    def begin_module(self, module: Any) -> None:
        """An nn.Module is called."""

    def begin_update(self, op: Any, inputs: Any) -> None:
        """An op runs that interceptors do not see, most often in place."""

    def begin_launch(self, node: Any, device: Any) -> None:
        """A launch of a compiled program runs, one of `node`."""

    def at(self, node: Any) -> None:
        """What follows is the gradient of this graph node."""

    def end(self) -> None:
        """What began last has ended."""


class Current(threading.local):
    """What the thread is told to record, and whether it waits for a device already."""

    recorder: Recorder | None = None
    waiting: bool = False


current: Final = Current()


class span:  # noqa: N801 - used like a function, as a context manager or decorator
    """A named stretch of time in profiles: `with span("data"):` or `@span("data")`.

    The outermost of the names in LANES says on which lane of a profile the work appears; other
    names are just shown.
    """

    __slots__ = ("_kind", "_name", "_recorder")

    def __init__(self, name: str, kind: str = "span") -> None:
        self._name = name
        self._kind = kind

    def __enter__(self) -> None:
        recorder = self._recorder = current.recorder
        if recorder is not None:
            recorder.begin(self._kind, self._name)

    def __exit__(self, *_: object) -> None:
        if self._recorder is not None:
            self._recorder.end()

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """`function`, each call of it a span."""

        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            if current.recorder is None:
                return function(*args, **kwargs)
            with span(self._name, self._kind):
                return function(*args, **kwargs)

        return wrapped


def counts_waits(method: Callable[..., Any]) -> Callable[..., Any]:
    """A device's `read` or `synchronize`, counted as one wait, whatever it calls inside."""

    @functools.wraps(method)
    def waits(device: Any, *arguments: Any) -> Any:
        if current.waiting:
            return method(device, *arguments)
        device.waits += 1
        current.waiting = True
        try:
            with span(method.__name__, "wait"):
                return method(device, *arguments)
        finally:
            current.waiting = False

    return waits
