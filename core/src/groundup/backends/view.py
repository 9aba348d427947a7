"""The `View` of the contract in `api.py`: a tensor's memory, as kernels see it."""

from __future__ import annotations

from typing import Any

from groundup.layout import Layout


class View:
    """A strided window on a buffer: what kernels read and write.

    `offset` is in bytes. `native` is the backend's cached handle (an ndarray, a CuPy array, ...).
    `root` is the view that owns the storage, None if it is this one; its `version` counts writes.
    """

    __slots__ = ("__weakref__", "buffer", "layout", "native", "offset", "root", "version")

    def __init__(
        self, buffer: Any, offset: int, layout: Layout, native: Any = None, root: View | None = None
    ) -> None:
        self.buffer = buffer
        self.offset = offset
        self.layout = layout
        self.native = native
        self.root = root
        self.version = 0
