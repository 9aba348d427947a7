"""The backend contract: everything that a plugin for a device implements, and nothing else.

A `Backend` opens a `Device`; a device turns an op and layouts into a `Kernel`; a kernel binds
memory (`View`s) into a `Launch`; a launch runs. Seven methods of `Device` are abstract, the rest
have defaults. Changing this file without a new `API_VERSION` fails a test.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

import attrs
import numpy as np

from groundup.backends.pool import Pool
from groundup.backends.view import View as View
from groundup.dtypes import DType
from groundup.layout import Layout
from groundup.spans import counts_waits, span

if TYPE_CHECKING:
    from groundup.ops.op import Op

API_VERSION: Final = (1, 1)
HostArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Launch(Protocol):
    """One bound piece of work. It keeps its buffers alive and can be called many times."""

    def __call__(self) -> object:
        """Enqueue the work; never wait for it."""

    def describe(self) -> Mapping[str, object]:
        """What it does, for profiles and exports: `kernel`, and if known `source`, `grid`, ..."""


class Kernel(ABC):
    """An op specialised to layouts, not yet to memory. It is cached, so it must own no scratch."""

    params: frozenset[str] = frozenset()  # the op's static parameters that it honours
    contiguous: Sequence[int] = ()  # operands that the core must make row-major first
    in_place: Mapping[int, int] = {}  # output -> input whose memory it may be given
    workspace: int = 0  # scratch bytes, handed to `bind`

    @abstractmethod
    def bind(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> Launch:
        """Fix the memory. Outputs are row-major unless `in_place`."""

    def launch(
        self, inputs: Sequence[View], outputs: Sequence[View], workspace: View | None = None
    ) -> None:
        """Bind and run once; a backend may have a shorter way."""
        self.bind(inputs, outputs, workspace)()


@attrs.frozen
class Declined:
    """Why a device has no kernel for an op of these layouts; the core composes instead."""

    reason: str


KernelFactory: TypeAlias = Callable[
    ["Device", "Op", Sequence[Layout], Sequence[Layout]], Kernel | Declined
]


@attrs.frozen
class Kernels:
    """Kernels that a package adds to a backend, perhaps another's (hook `groundup_kernels`)."""

    table: Mapping[str, KernelFactory]  # op name -> factory
    provider: str  # named in the support matrix
    priority: int = 100  # the highest wins, a tie is an error; a backend's own kernels count as 0


@attrs.frozen
class MemoryStats:
    """Bytes. `in_use` by live tensors, `reserved` including what the core keeps for reuse."""

    in_use: int
    peak: int
    reserved: int


@attrs.frozen
class DeviceInfo:
    """What a device is and can do. Sizes in bytes."""

    name: str  # "cpu", "cuda:0"
    description: str  # for people: "AMD EPYC, 2 threads"
    dtypes: Mapping[DType, frozenset[str]]  # subset of {"store", "compute", "matmul"}
    memory: int | None = None
    profile: str = "ieee"  # numerics: "ieee" or "wgsl"
    features: frozenset[str] = frozenset()  # "timer": `timed` reads a clock of the device's own
    alignment: int = 64
    max_buffer: int | None = None
    max_binding: int | None = None
    max_operands: int | None = None
    itemsizes: Mapping[DType, int] = {}  # where a dtype is stored wider than on the host

    def itemsize(self, dtype: DType) -> int:
        """Bytes that one element takes on this device."""
        return self.itemsizes.get(dtype, dtype.itemsize)


Executable: TypeAlias = Callable[[], None]


class Device(ABC):
    """An opened device: memory, transfers, kernels, one in-order queue."""

    info: DeviceInfo

    def __init__(self) -> None:
        self.plans: dict[Any, Any] = {}  # the core's lowering cache
        self.constants: dict[Any, Any] = {}  # the core's cache of Python scalars as tensors
        # By op: asked in place of `kernel`, where other packages add kernels. They ask it in turn.
        self.overrides: Mapping[str, KernelFactory] = {}
        self.pool = Pool(self.allocate)
        # Counted for ever: kernels started, kernels compiled, how often the host waited.
        self.launches = self.compiled = self.waits = 0
        self.timer: Callable[[Launch], None] | None = None  # runs launches instead, for profiles

    def __init_subclass__(cls, **options: Any) -> None:
        """Waits are counted here, at the contract's boundary, so that no backend can forget to."""
        super().__init_subclass__(**options)
        for name in ("read", "synchronize"):
            if name in vars(cls):
                setattr(cls, name, counts_waits(vars(cls)[name]))

    @abstractmethod
    def allocate(self, nbytes: int) -> Any:
        """Raw memory. Raises OutOfMemory; the core then empties its cache and tries once more."""

    @abstractmethod
    def write(self, view: View, array: HostArray) -> None:
        """Copy an array of the view's shape and dtype in; the array may change after the return."""

    @abstractmethod
    def read(self, view: View) -> HostArray:
        """Wait for earlier work and copy out. Late faults surface here, typed."""

    @abstractmethod
    def kernel(
        self, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]
    ) -> Kernel | Declined:
        """A kernel for `op` on these layouts. Cheap: compiling may wait for the first launch."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all enqueued work."""

    @abstractmethod
    def memory(self) -> MemoryStats:
        """How much memory is in use."""

    @abstractmethod
    def describe(self) -> DeviceInfo:
        """The device's limits and features; called once, kept in `info`."""

    # ---- with defaults ----

    def empty(self, layout: Layout) -> View:
        """Uninitialised storage for a row-major layout, from the core's pool."""
        wider = self.info.itemsizes
        nbytes = layout.size * self.info.itemsize(layout.dtype) if wider else layout.spec.nbytes
        return self.attach(View(self.pool.take(nbytes), 0, layout))

    def attach(self, view: View) -> View:
        """Fill `view.native` for a view whose buffer, offset and layout are set."""
        return view

    def record(self, launches: Sequence[Launch]) -> Executable:
        """One callable that replays `launches` in order."""
        prepared = tuple(launches)

        def replay() -> None:
            for launch in prepared:
                launch()

        return replay

    def timed(self, launches: Sequence[Launch]) -> list[float]:
        """Seconds that each launch takes on the device."""
        seconds = []
        for launch in launches:
            self.synchronize()
            start = time.perf_counter()
            launch()
            self.synchronize()
            seconds.append(time.perf_counter() - start)
        return seconds

    @contextmanager
    def compiling(self, name: str) -> Iterator[None]:
        """For a backend to put around the compiling of one kernel: it is counted and profiled."""
        self.compiled += 1
        with span(name, "compile"):
            yield

    def adopt(self, array: object) -> View | None:
        """A view on the memory of another library's array (DLPack), or None to copy it."""
        return None

    def copy(self, source: Device, view: View, target: View) -> bool:
        """Copy straight from another device; False lets the core go through the host."""
        return False

    def compile(self, program: object) -> Executable | None:
        """Take a whole program, or None to let the core run it op by op."""
        return None


@attrs.frozen
class Available:
    """The backend works; `devices` are their descriptions in order of index."""

    devices: Sequence[str]


@attrs.frozen
class Unavailable:
    """The backend does not work here: why, and what the user can do about it."""

    reason: str
    fix: str


class Backend(ABC):
    """What a plugin's `groundup_backends` hook returns. Constructing and importing it is cheap."""

    name: ClassVar[str]
    api_version: ClassVar[tuple[int, int]]
    priority: ClassVar[int]  # auto-selection takes the highest that is available; cpu has 100

    @abstractmethod
    def probe(self) -> Available | Unavailable:
        """Whether the backend works here. Never raises."""

    @abstractmethod
    def open(self, index: int) -> Device:
        """Open device `index`; heavy imports happen here."""
