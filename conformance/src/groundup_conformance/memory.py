"""Bytes of the suite's own: inputs put into device memory, results taken out, nothing trusted.

No op moves them, only `Device.write` and `Device.read` on whole buffers, so that a broken copy
kernel cannot hide another broken kernel. While a `Guard` is active, every buffer that the core asks
for is filled with poison first and lies between two canaries: an element that a kernel forgets, or
writes where it should not, shows.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

import attrs
import numpy as np

from groundup import dispatch
from groundup.backends.api import Device, View
from groundup.dtypes import DType, as_dtype
from groundup.layout import Layout, Spec
from groundup.ops.samples import Operand
from groundup.shapes import Shape, row_major
from groundup.tensor import Tensor
from groundup_conformance.budgets.units import Array

_MARGIN: Final = 64  # elements at least on each side of a tensor that must stay as they are


@attrs.frozen(eq=False)
class Placed:
    """An array and how it is to lie in memory: a flat base, offset and strides in elements."""

    base: Array
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def array(self) -> Array:
        """The values."""
        steps = [stride * self.base.itemsize for stride in self.strides]
        return np.ndarray(
            self.shape, self.base.dtype, self.base, self.offset * self.base.itemsize, steps
        )

    @property
    def dtype(self) -> DType:
        """The dtype, as groundup knows it."""
        return as_dtype(self.base.dtype)

    @property
    def layout(self) -> Layout:
        """Shape, strides and dtype."""
        return Layout(self.shape, self.strides, self.dtype)


def placed(array: Array) -> Placed:
    """The array row-major at the start of its memory."""
    return Placed(np.ascontiguousarray(array).reshape(-1), array.shape, row_major(array.shape))


def as_given(operand: Operand) -> Placed:
    """A sample's operand with the strides and the offset of its view."""
    base, view = operand.base, operand.array
    if not base.flags.c_contiguous or not np.may_share_memory(base, view):
        return placed(view)  # the sample makes a copy
    start = _address(view) - _address(base)
    strides = tuple(step // base.itemsize for step in view.strides)
    return Placed(base.reshape(-1), view.shape, strides, start // base.itemsize)


def poison(dtype: DType, count: int, kind: int = 0) -> Array:
    """What memory holds before a kernel writes it; two kinds that differ in every element.

    0: NaN, bytes of 0xA5, True and False in turn; 1: large numbers, bytes of 0x5A, the reverse.
    """
    if dtype.is_floating:
        return np.full(count, (np.nan, -3e4)[kind], dtype.numpy)
    if dtype.kind == "bool":
        return np.asarray(np.arange(kind, count + kind) % 2 == 0)
    return np.full(count * dtype.itemsize, (0xA5, 0x5A)[kind], np.uint8).view(dtype.numpy)


@attrs.frozen(eq=False)
class Block:
    """One guarded allocation: its root, what was written to it, and where its middle lies."""

    root: View
    written: Array
    start: int
    count: int

    def damage(self, device: Device, *, middle: bool) -> str | None:
        """What happened to it: None if the canaries, and with `middle` the values, are as before.

        Bits count, not values: -0 in the place of 0 is damage.
        """
        now = _bits(device.read(self.root))
        changed = np.flatnonzero(now != _bits(self.written))
        inside = (changed >= self.start) & (changed < self.start + self.count)
        outside = changed[~inside]
        if outside.size:
            where = outside[0] - self.start - (self.count if outside[0] > self.start else 0)
            return f"memory outside of a tensor was overwritten, at element {where:+d} from it"
        if middle and changed.size:
            return f"an input was changed, at element {changed[0] - self.start} of its memory"
        return None


class Guard:
    """While active, allocations on `device` are poisoned (of that `kind`) and guarded."""

    def __init__(self, device: Device, kind: int = 0) -> None:
        self.device = device
        self.kind = kind
        self.inputs: list[Block] = []
        self.blocks: list[Block] = []
        self._allocate = device.empty
        self._before = vars(device).get("empty")

    def __enter__(self) -> Guard:
        self.device.empty = self._empty  # type: ignore[method-assign]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before is None:
            del self.device.empty  # the class's method is back
        else:
            self.device.empty = self._before  # type: ignore[method-assign]

    def put(self, value: Placed) -> Tensor:
        """A tensor on the device with that memory layout, itself between canaries."""
        count = value.base.size
        block = self._block(value.dtype, count)
        block.written[block.start : block.start + count] = value.base
        self.device.write(block.root, block.written)
        self.inputs.append(block)
        offset = (block.start + value.offset) * self._itemsize(value.dtype)
        view = dispatch.derive(block.root, value.layout, offset, self.device)
        return dispatch.make(view, self.device, None, 0)

    def check(self, *, everything: bool = False) -> str | None:
        """The first damage: to an input, to what surrounds one, with `everything` to any canary."""
        for block in self.inputs:
            found = block.damage(self.device, middle=True)
            if found:
                return found
        for block in self.blocks if everything else ():
            found = block.damage(self.device, middle=False)
            if found:
                return found
        return None

    def fetch(self, tensor: Tensor) -> tuple[Array, str | None]:
        """A result's values, and damage to what surrounds it.

        A view of an input is read from the input's memory.
        """
        view = tensor._view
        root = view.root or view
        host = self.device.read(root)
        damage = None
        for block in self.blocks:
            if block.root is root:
                damage = _around(block, host)
        return _window(host, view, root, self._itemsize(view.layout.dtype)), damage

    def _empty(self, layout: Layout) -> View:
        block = self._block(layout.dtype, layout.size)
        self.device.write(block.root, block.written)
        self.blocks.append(block)
        offset = block.start * self._itemsize(layout.dtype)
        return dispatch.derive(block.root, layout, offset, self.device)

    def _block(self, dtype: DType, count: int) -> Block:
        """Memory for `count` elements whose first is as aligned as the memory itself."""
        start = max(_MARGIN, -(-self.device.info.alignment // self._itemsize(dtype)))
        whole = start + count + _MARGIN
        whole += -whole % 8  # WebGPU copies whole words, of up to four elements
        root = self._allocate(Layout.contiguous(Spec((whole,), dtype)))
        return Block(root, poison(dtype, whole, self.kind), start, count)

    def _itemsize(self, dtype: DType) -> int:
        return self.device.info.itemsize(dtype)


def read(tensor: Tensor) -> Array:
    """A tensor's values by way of its whole buffer."""
    view = tensor._view
    root = view.root or view
    device = tensor._device
    return _window(device.read(root), view, root, device.info.itemsize(view.layout.dtype))


def _window(host: Array, view: View, root: View, itemsize: int) -> Array:
    """The view's elements, row-major, from all of its root's."""
    layout = view.layout
    flat = np.ascontiguousarray(host).reshape(-1)
    steps = [stride * flat.itemsize for stride in layout.strides]
    first = (view.offset - root.offset) // itemsize * flat.itemsize
    if not layout.size:
        return np.zeros(layout.shape, flat.dtype)
    return np.ndarray(layout.shape, flat.dtype, flat, first, steps).copy()


def _around(block: Block, host: Array) -> str | None:
    now, before = _bits(host), _bits(block.written)
    stop = block.start + block.count
    if (now[: block.start] != before[: block.start]).any():
        return "memory before a result was overwritten"
    if (now[stop:] != before[stop:]).any():
        return "memory after a result was overwritten"
    return None


def _bits(array: Array) -> Array:
    """The elements as unsigned integers, so that NaN equals itself."""
    kinds: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
    return np.ascontiguousarray(array).view(kinds[array.itemsize])


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
