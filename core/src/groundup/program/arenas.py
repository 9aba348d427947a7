"""The memory that programs compute in: one set of arenas for all programs of a device.

Nothing in an arena outlives a run: inputs are copied in first, results are copied out. So the
programs of a device take turns in the same memory, as the training step and the validation of one
model do. It is freed with the last program that is bound to it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Final

from groundup.backends.api import Device, View
from groundup.dtypes import int32
from groundup.layout import Layout, Spec

_WORD: Final = 4  # bytes of int32, which every device stores as such


class Arenas:
    """Those of one device; `turn` is held by the program that runs."""

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self._known: list[weakref.ref[View]] = []

    def take(self, sizes: Sequence[int], device: Device) -> list[View]:
        """One arena of at least each of these bytes; no two are the same."""
        with self.turn:
            free = [view for known in self._known if (view := known()) is not None]
            self._known = [weakref.ref(view) for view in free]
            taken: dict[int, View] = {}
            for place, size in sorted(enumerate(sizes), key=lambda pair: -pair[1]):
                large = [view for view in free if nbytes(view) >= size]
                if large:
                    taken[place] = min(large, key=nbytes)
                    free = [view for view in free if view is not taken[place]]
                else:
                    taken[place] = words(size, device)
                    self._known.append(weakref.ref(taken[place]))
            return [taken[place] for place in range(len(sizes))]


_lock: Final = threading.Lock()
_of_devices: Final[weakref.WeakKeyDictionary[Device, Arenas]] = weakref.WeakKeyDictionary()


def arenas_of(device: Device) -> Arenas:
    """The arenas of a device."""
    with _lock:
        return _of_devices.setdefault(device, Arenas())


def words_layout(size: int) -> Layout:
    """Of `size` bytes or a few more."""
    return Layout.contiguous(Spec((-(-size // _WORD),), int32))


def words(size: int, device: Device) -> View:
    """Memory of at least `size` bytes."""
    return device.empty(words_layout(size))


def nbytes(view: View) -> int:
    """Of memory that `words` gave."""
    return view.layout.size * _WORD
