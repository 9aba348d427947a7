"""The memory that a traced tensor would have: which value of the program lies in it now.

Programs know only values that never change; tensors share memory and overwrite it. A `Storage`
stands between them. A write gives the storage a new value, and every view of it that is read
afterwards is a window on that one.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from groundup.backends.api import View
from groundup.errors import TraceError
from groundup.layout import Layout
from groundup.program.program import Value


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TraceError(
        "this tensor was made while a function was traced, and has no memory",
        hint="return it from the compiled function",
    )


class Storage:
    """One piece of memory, that of `root` and all views of it."""

    __slots__ = ("captured", "root", "value", "version", "windows", "written")

    def __init__(self, root: View, value: Value, captured: Value | None = None) -> None:
        self.root = root
        self.value = value  # what it holds now; row-major unless `captured` came with strides
        self.captured = captured  # the value that stands for what it held before the run
        self.version = root.version  # before the trace, which counts it up as eager writes do
        self.written = False
        self.windows: dict[tuple[Layout, int], Value] = {}  # views of `value` made so far

    def __getattr__(self, name: str) -> NoReturn:
        """Asked for by a device, which takes it for its memory."""
        _refuse()

    def write(self, value: Value) -> None:
        """From now on it holds `value`."""
        self.value = value
        self.written = True
        self.windows = {}
        self.root.version += 1


class _NoMemory:
    """In place of a backend's handle: any use of it is a tensor used outside of its trace."""

    __array__ = __array_ufunc__ = __array_function__ = __index__ = __getitem__ = __setitem__ = (
        __add__
    ) = __radd__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        _refuse()


NO_MEMORY: Final[Any] = _NoMemory()


def symbolic(layout: Layout, value: Value) -> View:
    """The view of a whole new storage without memory that holds `value`."""
    root = View(None, 0, layout, NO_MEMORY)
    root.buffer = Storage(root, value)
    return root


def derived(view: View, layout: Layout, offset: int) -> View:
    """A view without memory of the storage of `view`, which may be real, `offset` bytes further."""
    return View(NO_MEMORY, view.offset + offset, layout, NO_MEMORY, view.root or view)


def is_written(view: View) -> bool:
    """Whether the storage of a view without memory was written since it was made."""
    buffer = (view.root or view).buffer
    return type(buffer) is Storage and buffer.written


def has_memory(view: View) -> bool:
    """Whether the view is a real one, from outside of the trace."""
    return view.native is not NO_MEMORY
