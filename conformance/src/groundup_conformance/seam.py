"""Faults on demand: memory that runs out, kernels that do not compile, a device that is lost.

The first two are put between the core and any device. How a device is lost only its backend knows:
a module `conformance_seam` in the backend's package may say so.

    def lose(device: Device) -> None: ...  # after which every call on it raises DeviceLost
    RECOVERS = True  # whether `groundup.backends.devices.reopen` gives a working one again

It is imported by this suite alone.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NoReturn

from groundup.backends.api import (
    Backend,
    Declined,
    Device,
    Kernel,
    KernelFactory,
    Launch,
    View,
)
from groundup.errors import KernelCompileError, OutOfMemory
from groundup.layout import Layout
from groundup.ops.op import Op

MODULE: Final = "conformance_seam"


class Swap:
    """While active, an attribute of an object is another; afterwards it is as it was."""

    def __init__(self, owner: object, name: str, value: Any) -> None:
        self._owner, self._name, self._value = owner, name, value

    def __enter__(self) -> None:
        self._own = self._name in vars(self._owner)
        self._before = getattr(self._owner, self._name)
        setattr(self._owner, self._name, self._value)

    def __exit__(self, *_: object) -> None:
        if self._own:
            setattr(self._owner, self._name, self._before)
        else:
            delattr(self._owner, self._name)  # the class's own is back


class Shortage:
    """While active, allocation number `nth` fails (None: none does); `seen` counts them."""

    def __init__(self, device: Device, nth: int | None = None) -> None:
        self.seen = 0
        self._nth = nth
        self._empty: Callable[[Layout], View] = device.empty
        self._where = device.info.name
        self._swap = Swap(device, "empty", self._take)

    def __enter__(self) -> Shortage:
        self._swap.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._swap.__exit__(*error)

    def _take(self, layout: Layout) -> View:
        self.seen += 1
        if self.seen == self._nth:
            raise OutOfMemory(f"{self._where}: no room for {layout.spec}, as the suite wants it")
        return self._empty(layout)


class FullDevice:
    """While active, the next `failures` requests of the core's pool for new memory fail.

    The pool holds nothing that it could give instead. It asks twice, so one failure is no error.
    """

    def __init__(self, device: Device, failures: int) -> None:
        self.failed = 0
        self._failures = failures
        self._pool = device.pool
        self._allocate = device.pool._allocate
        self._where = device.info.name
        self._swap = Swap(device.pool, "_allocate", self._refuse)

    def __enter__(self) -> FullDevice:
        self._pool.trim()
        self._swap.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._swap.__exit__(*error)

    def _refuse(self, nbytes: int) -> Any:
        if self.failed < self._failures:
            self.failed += 1
            raise OutOfMemory(f"{self._where}: no room for {nbytes} bytes, as the suite wants it")
        return self._allocate(nbytes)


class Refusal:
    """While active, kernel number `nth` that is asked for does not compile (None: all do).

    Not when it is asked for; or if `late`, not at its first launch. `seen` counts kernels.
    """

    def __init__(self, device: Device, nth: int | None = None, *, late: bool = False) -> None:
        self.seen = 0
        self._device, self._nth, self._late = device, nth, late
        added = {name: self._wrapped(factory) for name, factory in device.overrides.items()}
        kernel = device.kernel
        own = self._wrapped(lambda _, op, inputs, outputs: kernel(op, inputs, outputs))
        self._swaps = (
            Swap(device, "kernel", lambda *asked: own(device, *asked)),
            Swap(device, "overrides", added),
        )

    def __enter__(self) -> Refusal:
        self._device.plans.clear()  # or it would not ask for kernels again
        for swap in self._swaps:
            swap.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for swap in self._swaps:
            swap.__exit__(*error)

    def _wrapped(self, factory: KernelFactory) -> KernelFactory:
        def ask(
            device: Device, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
        ) -> Kernel | Declined:
            found = factory(device, op, inputs, outputs)
            if isinstance(found, Declined):
                return found
            self.seen += 1
            if self.seen != self._nth:
                return found
            return _Broken(found, op.name) if self._late else _fail(op.name)

        return ask


def _fail(name: str) -> NoReturn:
    raise KernelCompileError(f"{name}: its kernel does not compile, as the suite wants it")


class _Broken(Kernel):
    """A kernel that compiles from its second launch on."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self._kernel, self._name = kernel, name
        self.params, self.contiguous = kernel.params, kernel.contiguous
        self.in_place, self.workspace = kernel.in_place, kernel.workspace
        self._works = False

    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """Raises KernelCompileError the first time."""
        self._compile()
        return self._kernel.bind(inputs, outputs, workspace)

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """Raises KernelCompileError the first time."""
        self._compile()
        self._kernel.launch(inputs, outputs, workspace)

    def _compile(self) -> None:
        if not self._works:
            self._works = True
            _fail(self._name)


def of_backend(backend: Backend) -> ModuleType | None:
    """The module with which the backend's package lets its devices be lost, None if it has none."""
    package = type(backend).__module__.partition(".")[0]
    name = f"{package}.{MODULE}"
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the backend is a module, not a package
        return None
    return importlib.import_module(name) if found is not None else None
