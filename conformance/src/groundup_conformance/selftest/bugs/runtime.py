"""The device around the kernels: transfers, queues, caches, memory, threads, errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from groundup.backends.api import Declined, Device, HostArray, Kernel, Launch, View
from groundup.backends.pool import Buffer
from groundup.errors import OutOfMemory
from groundup.layout import Layout, Spec
from groundup.ops.op import Op
from groundup_conformance.selftest.planting import Call, compute, device, kernel

_SCRATCH: Final = 4096  # elements
_MOMENT: Final = 1e-4  # seconds, in which another thread comes by


def replace(target: Device, name: str, method: Callable[..., Any]) -> None:
    """Give a device another method; `Device` counts waits in the class's own, not in this."""
    setattr(target, name, method)


def memo(call: Call) -> dict[Any, Any]:
    """A cache that lives as long as the device."""
    found: dict[Any, Any] = vars(call.device).setdefault("_planted_cache", {})
    return found


# ---- transfers ----


@device("memory[*,transposed,read]")
def reads_in_memory_order(target: Device) -> None:
    """A transposed view is read back in the order of its memory."""
    true = target.read

    def read(view: View) -> HostArray:
        found = true(view)
        steps = view.layout.strides
        if view.layout.rank > 1 and list(steps) == sorted(steps):
            return np.ascontiguousarray(found.T).reshape(found.shape)
        return found

    replace(target, "read", read)


@device("memory[*,spaced,write]")
def writes_without_strides(target: Device) -> None:
    """Writing to a spaced view fills the memory from its start on."""
    true = target.write

    def write(view: View, array: HostArray) -> None:
        root = view.root
        if root is None or view.layout.is_row_major:
            true(view, array)
        else:
            start = (view.offset - root.offset) // array.itemsize
            room = root.native.reshape(-1)[start : start + array.size]
            room[...] = np.ascontiguousarray(array).reshape(-1)[: room.size]

    replace(target, "write", write)


@device("memory[*,round-trip]")
def host_array_not_copied(target: Device) -> None:
    """`write` keeps the caller's array and copies it when the tensor is first used."""
    true_write, true_read = target.write, target.read
    waiting: list[tuple[View, HostArray]] = []

    def read(view: View) -> HostArray:
        while waiting:
            true_write(*waiting.pop(0))
        return true_read(view)

    replace(target, "write", lambda view, array: waiting.append((view, array)))
    replace(target, "read", read)


# ---- the queue ----


class _Queue:
    """Launches that wait until they are flushed."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def flush(self, keep: int = 0) -> None:
        while len(self.waiting) > keep:
            self.waiting.pop(0)()


class _Later(Kernel):
    """A kernel whose launches go to a queue, of which the last `keep` may still be waiting."""

    def __init__(self, true: Kernel, queue: _Queue, keep: int) -> None:
        self._true, self._queue, self._keep = true, queue, keep
        self.params, self.in_place = true.params, true.in_place

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        launch = self._true.bind(inputs, outputs, workspace)

        def later() -> None:
            self._queue.waiting.append(launch)
            self._queue.flush(self._keep)

        return later  # type: ignore[return-value]  # nobody describes it


def _defer(target: Device, queue: _Queue, keep: int, direct: Sequence[str] = ()) -> None:
    """Let the device's kernels go through a queue, those of the ops `direct` excepted."""
    true = target.kernel

    def later(op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Kernel | Declined:
        found = true(op, inputs, outputs)
        if isinstance(found, Declined) or op.name in direct:
            return found
        return _Later(found, queue, keep)

    replace(target, "kernel", later)


@device("exp[float32,matrix,given,forward]", ops="exp")
def read_before_it_is_computed(target: Device) -> None:
    """`read` does not wait for the last kernel of the queue."""
    _defer(target, _Queue(), keep=1)


@device("train[float32,mlp-adamw,*]", level=3)
def updates_on_another_stream(target: Device) -> None:
    """Optimizers run on a stream of their own, which does not wait for gradients."""
    queue, true = _Queue(), target.read

    def read(view: View) -> HostArray:
        queue.flush()
        return true(view)

    _defer(target, queue, keep=1 << 30, direct=("adamw", "sgd", "assign"))
    replace(target, "read", read)


# ---- caches ----


@kernel("exp", "exp[*,forward]")
def stale_result(call: Call) -> None:
    """Results are remembered by the address of the input, whatever has been written there since."""
    key = (call.x.__array_interface__["data"][0], call.x.shape, call.x.dtype)
    if key not in memo(call):
        memo(call)[key] = call.right()[0]
    call.fill(memo(call)[key])


@kernel("exp", "exp[float32,matrix,*,forward]")
def compiled_without_strides_in_the_key(call: Call) -> None:
    """A kernel compiled for the first strides of a shape is used for all strides of that shape."""
    steps = memo(call).setdefault((call.x.shape, call.x.dtype), call.x.strides)
    if steps == call.x.strides or call.x.size < 2:
        call.fill(*call.right())
    else:
        order = np.argsort([-abs(step) for step in steps], kind="stable")
        turned = call.x.ravel("K").reshape([call.x.shape[a] for a in order])
        call.fill(*call.right(turned.transpose(np.argsort(order))))


@kernel("softmax", "softmax[float32,*]")
def compiled_without_parameters_in_the_key(call: Call) -> None:
    """A kernel compiled for the first axis that comes along is used for every axis."""
    axis = memo(call).setdefault(call.x.ndim, call.op.axis % call.x.ndim)
    call.fill(*call.right(axis=axis))


@device("memory[*,pool,given,reuse]")
def memory_handed_out_twice(target: Device) -> None:
    """A block that is still in use is handed out again."""
    true = target.empty
    last: dict[Layout, tuple[int, View | None]] = {}

    def empty(layout: Layout) -> View:
        count, view = last.get(layout, (0, None))
        if view is None or count % 3 != 2:
            view = true(layout)
        last[layout] = (count + 1, view)
        return View(view.buffer, view.offset, layout, view.native)

    replace(target, "empty", empty)


@device("memory[*,bytes0,*]")
def nothing_cannot_be_allocated(target: Device) -> None:
    """A tensor without elements is refused."""
    true = target.empty

    def empty(layout: Layout) -> View:
        if layout.size == 0:
            raise RuntimeError("the size of a buffer must not be 0")
        return true(layout)

    replace(target, "empty", empty)


# ---- faults ----


@device("r_faults[-,full_device,*]", ops="-", track="robust")
def out_of_memory_as_runtime_error(target: Device) -> None:
    """Memory that is full is reported as the driver's RuntimeError."""
    true = target.pool.take

    def take(nbytes: int) -> Buffer:
        try:
            return true(nbytes)
        except OutOfMemory as error:
            raise RuntimeError(f"driver error 2: {error}") from None

    target.pool.take = take  # type: ignore[method-assign]


@kernel("softmax", "softmax[*,no-memory]", track="robust")
def failed_scratch_goes_unseen(call: Call) -> None:
    """A kernel that gets no scratch memory returns without a word."""
    scratch = Layout.contiguous(Spec((_SCRATCH,), call.views[0].layout.dtype))
    try:
        call.device.empty(scratch)
    except OutOfMemory:
        return
    call.fill(*call.right())


@kernel("adamw", "adamw[*,no-memory-update]", track="robust", in_place=True)
def update_done_by_half(call: Call) -> None:
    """The parameter is written before memory for the rest is asked for."""
    results = call.right()
    call.fill(results[0], *(np.array(a) for a in call.outputs[1:]))
    call.device.empty(Layout.contiguous(Spec((_SCRATCH,), call.views[0].layout.dtype)))
    call.fill(*results)


# ---- long use, many threads ----


@kernel("exp", "exp[*,leak]", track="leaks")
def every_result_is_kept(call: Call) -> None:
    """A cache keeps every result for ever."""
    call.fill(*call.right())
    memo(call).setdefault("results", []).append(call.out)


@kernel("exp", "exp[*,leak]", track="leaks")
def every_call_makes_a_cycle(call: Call) -> None:
    """Each call leaves objects that only the garbage collector can free."""
    cycle: list[Any] = [call.x]
    cycle.append(cycle)
    call.fill(*call.right())


@kernel("layer_norm", "normalization[*,threads]", track="threads")
def scratch_shared_by_threads(call: Call) -> None:
    """All threads compute in one piece of memory."""
    [y] = call.right()
    scratch = memo(call).setdefault((y.shape, y.dtype), np.empty_like(y))
    scratch[...] = y
    time.sleep(_MOMENT)
    call.fill(scratch)


@kernel("layer_norm", "normalization[*,threads]", track="threads")
def parameters_shared_by_threads(call: Call) -> None:
    """eps is passed by way of a global, which another thread may set meanwhile."""
    shared = memo(call)
    shared["x"] = call.inputs
    time.sleep(_MOMENT)
    inputs = shared["x"]
    same = [a.shape for a in inputs] == [a.shape for a in call.inputs]
    call.fill(*compute(call.device, call.op, inputs if same else call.inputs))
