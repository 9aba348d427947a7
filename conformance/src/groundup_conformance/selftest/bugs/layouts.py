"""Memory that is read or written in the wrong place: strides, offsets, tails, grids."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from groundup_conformance.budgets.units import Array
from groundup_conformance.selftest.planting import Call, kernel

_VECTOR: Final = 16  # bytes of a vector load
_THREADS: Final = 64  # of a workgroup
_GROUPS: Final = 65535  # of a dispatch
_SHARED: Final = 1024  # threads of the largest workgroup


def memory_of(call: Call, offset: int) -> Array:
    """The first input's elements as if they lay row-major, `offset` bytes into its storage."""
    view = call.views[0]
    root = view.root or view
    storage = np.ascontiguousarray(root.native).reshape(-1).view(np.uint8)
    x = np.zeros(call.x.nbytes, np.uint8)
    found = storage[max(offset, 0) : max(offset, 0) + x.size]
    x[: found.size] = found
    return x.view(call.x.dtype).reshape(call.x.shape)


def offset_of(call: Call) -> int:
    """Where the first input begins in its storage."""
    view = call.views[0]
    return view.offset - (view.root or view).offset


@kernel("exp", "exp[*,transposed,forward]")
def strides_ignored(call: Call) -> None:
    """The kernel reads its input as if it were row-major."""
    call.fill(*call.right(memory_of(call, offset_of(call))))


@kernel("exp", "exp[*,expanded,forward]")
def stride_0_ignored(call: Call) -> None:
    """An expanded input (stride 0) is read as if every element existed."""
    x = call.x if all(call.x.strides) else memory_of(call, offset_of(call))
    call.fill(*call.right(x))


@kernel("exp", "exp[*,reversed,forward]")
def negative_strides_lose_their_sign(call: Call) -> None:
    """A flipped view is read forwards."""
    turned: list[Any] = [slice(None, None, -1 if s < 0 else 1) for s in call.x.strides]
    call.fill(*call.right(call.x[(*turned, ...)]))


@kernel("exp", "exp[*sliced*]")
def offset_ignored(call: Call) -> None:
    """A view is read from the start of its storage."""
    x = call.x if not call.views[0].root else memory_of(call, 0)
    call.fill(*call.right(x))


@kernel("exp", "exp[*,shifted,forward]")
def loads_round_the_offset_down(call: Call) -> None:
    """Vector loads of 16 bytes drop the last bits of the offset."""
    offset = offset_of(call)
    x = call.x if offset % _VECTOR == 0 else memory_of(call, offset // _VECTOR * _VECTOR)
    call.fill(*call.right(x))


@kernel("add", "add[float32,columns,*] add[float32,outer,*]")
def middle_axis_is_not_broadcast(call: Call) -> None:
    """An operand that is expanded along its last axis is indexed as if it were dense there."""
    y = call.inputs[1]
    if y.ndim and y.size and not y.strides[-1]:
        y = np.resize(y[..., 0].reshape(-1), y.shape)
    call.fill(*call.right(call.x, y))


@kernel("exp", "exp[*to65,*] exp[*to127,*]")
def tail_dropped(call: Call) -> None:
    """The last elements, fewer than a workgroup of 64, are not written."""
    whole = call.x.size // _THREADS * _THREADS
    [y] = call.right()
    call.out.reshape(-1)[:whole] = y.reshape(-1)[:whole]


@kernel("matmul", "matmul[float32,*to17,*] matmul[float32,*to33,*]")
def inner_tail_dropped(call: Call) -> None:
    """The last terms of a product, fewer than a tile of 16, are left out."""
    x, y = call.inputs
    k = x.shape[-1] if x.shape[-1] < 16 else x.shape[-1] // 16 * 16
    call.fill(*call.right(x[..., :k], y[..., :k, :] if y.ndim > 1 else y[:k]))


@kernel("exp", "exp[*,grid,*]")
def dispatch_clipped(call: Call) -> None:
    """One dispatch of at most 65,535 workgroups is sent, whatever the size."""
    [y] = call.right()
    call.out.reshape(-1)[: _GROUPS * _THREADS] = y.reshape(-1)[: _GROUPS * _THREADS]


@kernel("layer_norm", "layer_norm[float32,rows,*] layer_norm[float32,grid,*]")
def rows_clipped(call: Call) -> None:
    """One workgroup per row, at most 65,535: the rows beyond are not written."""
    [y] = call.right()
    rows = y.shape[-1] if y.size else 1
    call.out.reshape(-1, rows)[:_GROUPS] = y.reshape(-1, rows)[:_GROUPS]


@kernel("softmax", "softmax[*to1025,*] softmax[*to5000,*]")
def wide_rows_do_not_launch(call: Call) -> None:
    """A row of more than 1024 does not fit the shared memory: the launch fails unseen."""
    if call.x.ndim and call.x.shape[call.op.axis] <= _SHARED:
        call.fill(*call.right())


@kernel("cumsum", "cumsum[float32,*to1025,*] cumsum[float32,*to5000,*]")
def carry_lost_between_blocks(call: Call) -> None:
    """Every block of 1024 starts its running sum anew."""
    lines = np.moveaxis(call.x, call.op.axis, -1)
    parts = [lines[..., i : i + _SHARED] for i in range(0, lines.shape[-1], _SHARED)]
    sums = [np.cumsum(part.astype(np.float64), -1) for part in parts]
    whole = np.concatenate(sums, -1) if sums else lines
    call.fill(np.moveaxis(whole, -1, call.op.axis))


@kernel("exp", "exp[*to65,*] exp[*to33,*]")
def writes_past_the_end(call: Call) -> None:
    """The last vector of four is written whole, beyond the end of the result."""
    [y] = call.right()
    call.fill(y)
    over = -y.size % 4
    if y.size and over:
        steps = (call.out.itemsize,)
        behind = np.lib.stride_tricks.as_strided(call.out.reshape(-1), (y.size + over,), steps)
        behind[y.size :] = 1


@kernel("sort", "sort[*]")
def input_overwritten(call: Call) -> None:
    """The input is sorted where it lies, as if it were scratch."""
    call.fill(*call.right())
    call.x.sort(call.op.axis)


@kernel("matmul", "matmul[*]")
def result_is_added_to(call: Call) -> None:
    """The product is added to what the memory of the result held (beta = 1)."""
    call.fill(call.out + call.right()[0])
