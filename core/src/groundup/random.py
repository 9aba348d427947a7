"""Random tensors and the generators that their states come from.

Numbers depend on the seed, on how many draws came before, and on nothing else: the same program
draws the same bits on every backend (see `ops/random_ops.py`). A generator's state lives on its
device, so neither drawing nor replaying a compiled program waits for the host.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from groundup import creation, dispatch, dtypes, ops
from groundup.backends.api import Device
from groundup.backends.devices import DeviceLike, device_for
from groundup.dtypes import DTypeLike, as_dtype
from groundup.errors import ConfigError, DeviceMismatch, DTypeError, RandomStateError
from groundup.graph import Setting, mode, outside_trace
from groundup.ops.random_ops import AdvanceState, threshold, upper
from groundup.shapes import as_shape
from groundup.tensor import Tensor

__all__ = [
    "Generator", "bernoulli", "manual_seed", "rand", "randint", "randn", "randperm",
]  # fmt: skip

HostState: TypeAlias = np.ndarray[Any, np.dtype[np.int32]]
Snapshot: TypeAlias = "Mapping[Generator, Tensor]"

_lock: Final = threading.RLock()
_all: Final[weakref.WeakSet[Generator]] = weakref.WeakSet()
_defaults: Final[dict[Device, Generator]] = {}
_seed = 0  # what default generators start from


class Generator:
    """A stream of random states on one device: a 64-bit seed and a 64-bit count of draws.

    Two threads may draw from one generator; which of them gets which draw is then up to them.
    """

    def __init__(self, seed: int = 0, device: DeviceLike = None) -> None:
        if mode.trace is not None:
            mode.trace.refuse("a Generator is made", "make it before the call")
        self.device = device_for(device)
        self.seed = seed
        self.state = creation.from_numpy(_state(seed, 0), self.device)
        with _lock:
            _all.add(self)

    def manual_seed(self, seed: int) -> Generator:
        """Start over from `seed`; returns itself. Raises ConfigError unless it fits 64 bits."""
        self._write(_state(seed, 0))
        self.seed = seed
        return self

    def draw(self) -> Tensor:
        """The state for one draw; the generator moves on to the next.

        It is a copy, which stays as it is: dropout's backward reads it again.
        """
        with _lock, Setting(grad=False):
            drawn = self.state.clone()
            dispatch.update(AdvanceState(), (self.state,))
        return drawn

    def get_state(self) -> HostState:
        """int32[4] on the host: seed low and high, draw low and high."""
        return self.state.numpy()

    def set_state(self, state: HostState) -> None:
        """Continue from what `get_state` gave. Raises RandomStateError for anything else."""
        host = np.asarray(state)
        if host.shape != (4,) or host.dtype != np.int32:
            raise RandomStateError(
                f"set_state: a state is int32[4], got {host.dtype}{list(host.shape)}"
            )
        if mode.trace is not None:
            mode.trace.refuse("a random state is set", "do it before the call, or use manual_seed")
        self._write(host)

    def _write(self, state: HostState) -> None:
        with _lock, Setting(grad=False):
            self.state.assign_(creation.literal(state, self.device))

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, device={self.device.info.name!r})"


def _state(seed: int, draw: int) -> HostState:
    if not -(2**63) <= seed < 2**64:
        raise ConfigError(f"manual_seed: the seed must fit 64 bits, got {seed}")
    words = np.array([seed % 2**64, draw], np.uint64)
    return words.astype("<u8").view("<i4").astype(np.int32)


def default_generator(device: DeviceLike = None) -> Generator:
    """The generator that is used on `device` where none is given."""
    place = device_for(device)
    with _lock:
        if place not in _defaults:
            with outside_trace():
                _defaults[place] = Generator(_seed, place)
        return _defaults[place]


def manual_seed(seed: int) -> None:
    """Seed the default generators of all devices, those opened later included.

    Raises ConfigError unless the seed fits 64 bits.
    """
    global _seed
    with _lock:
        for generator in _defaults.values():
            generator.manual_seed(seed)
        _state(seed, 0)
        _seed = seed


def get_state(device: DeviceLike = None) -> HostState:
    """The default generator's state, on the host."""
    return default_generator(device).get_state()


def set_state(state: HostState, device: DeviceLike = None) -> None:
    """Continue the default generator from `state`. Raises RandomStateError."""
    default_generator(device).set_state(state)


def snapshot() -> Snapshot:
    """Where every generator stands now, without waiting for any device; see `restored`."""
    with _lock, Setting(grad=False):
        return {generator: generator.state.clone() for generator in _all if _here(generator)}


def _here(generator: Generator) -> bool:
    """Whether a trace, if there is one, can record what the generator does."""
    return mode.trace is None or mode.trace.uses(generator.device)


@contextlib.contextmanager
def restored(states: Snapshot) -> Iterator[None]:
    """Inside, generators draw again what they drew after `snapshot`; afterwards all is as before.

    A generator that is younger than the snapshot begins from its seed.
    """
    before = snapshot()
    with _lock, Setting(grad=False):
        for generator in before:
            if generator in states:
                generator.state.assign_(states[generator])
            else:
                generator._write(_state(generator.seed, 0))
    try:
        yield
    finally:
        with _lock, Setting(grad=False):
            for generator, state in before.items():
                generator.state.assign_(state)


def rand(
    *shape: int | Sequence[int],
    dtype: DTypeLike = dtypes.float32,
    device: DeviceLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in [0, 1), with 24 random bits; sizes as arguments or one sequence."""
    sizes = as_shape(shape, "rand")
    return ops.uniform(draw(device, generator), sizes, dtype=dtype)


def randn(
    *shape: int | Sequence[int],
    dtype: DTypeLike = dtypes.float32,
    device: DeviceLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """Standard normal; sizes as arguments or one sequence."""
    sizes = as_shape(shape, "randn")
    return ops.normal(draw(device, generator), sizes, dtype=dtype)


def randint(
    low: int,
    high: int,
    shape: int | Sequence[int],
    dtype: DTypeLike = dtypes.int32,
    device: DeviceLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers in [low, high): low + (31 random bits) % (high - low).

    Low values are more likely by less than (high - low) / 2^31. Raises ConfigError for an empty
    range or one that does not fit int32, DTypeError for a dtype that is no integer.
    """
    kind = as_dtype(dtype)
    if kind.kind != "int":
        raise DTypeError(f"randint: dtype must be an integer, got {kind}")
    if not (low < high and low >= -(2**31) and high <= 2**31 and high - low < 2**31):
        raise ConfigError(f"randint: [{low}, {high}) is empty or too wide for int32")
    sizes = as_shape((shape,), "randint")
    bits = ops.random_bits(draw(device, generator), sizes)
    return ((bits & 0x7FFFFFFF) % (high - low) + low).astype(kind)


def randperm(size: int, device: DeviceLike = None, generator: Generator | None = None) -> Tensor:
    """0 to size - 1 in random order, int32: the order that sorts random bits."""
    return ops.random_bits(draw(device, generator), (size,)).sort()[1]


def bernoulli(
    p: float,
    shape: int | Sequence[int],
    device: DeviceLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """bool, true with probability p (to 24 bits). Raises ConfigError unless 0 <= p <= 1."""
    if not 0 <= p <= 1:
        raise ConfigError(f"bernoulli: p must lie in [0, 1], got {p}")
    sizes = as_shape((shape,), "bernoulli")
    bits = ops.random_bits(draw(device, generator), sizes)
    return upper(bits) < threshold(p)


def draw(device: DeviceLike = None, generator: Generator | None = None) -> Tensor:
    """The state for one draw, from `generator` or the device's default one.

    Raises DeviceMismatch if a device is given that is not the generator's.
    """
    if generator is None:
        return default_generator(device).draw()
    if device is not None and device_for(device) is not generator.device:
        raise DeviceMismatch(f"random: {generator!r} cannot draw on {device_for(device).info.name}")
    return generator.draw()
