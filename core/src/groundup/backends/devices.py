"""Choosing and opening devices: "cuda:1" in, one opened `Device` out, and why it was that one."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from groundup.backends.api import Available, Device, Unavailable
from groundup.backends.installed import BackendEntry, backends, kernels_for
from groundup.backends.plugins import PLUGIN_FAULTS, blame, install_hint, one_line, plugins
from groundup.errors import BackendUnavailable, ConfigError, GroundupError
from groundup.suggest import did_you_mean

DeviceLike: TypeAlias = str | Device | None

_SPEC: Final = re.compile(r"([a-z_][a-z0-9_]*)(?::(0|[1-9][0-9]*))?", re.ASCII)


def parse_device(spec: str) -> tuple[str, int]:
    """("cuda", 1) for "cuda:1"; without a number the first device, 0. Raises ConfigError."""
    match = _SPEC.fullmatch(spec) if isinstance(spec, str) else None
    if match is None:
        raise ConfigError(
            f"{spec!r} is not a device", hint='name it like "cpu", "cuda" or "cuda:1"'
        )
    return match[1], int(match[2] or 0)


class _Devices:
    """The opened devices, each opened once and kept for good, and the default one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._opened: dict[tuple[str, int], Device] = {}
        self._by_spec: dict[str, Device] = {}  # spares the common case the parsing
        self._default: tuple[Device, str] | None = None

    def get(self, spec: DeviceLike) -> Device:
        if spec is None:
            return self.default()[0]
        if isinstance(spec, Device):
            return spec
        found = self._by_spec.get(spec) if isinstance(spec, str) else None
        if found is None:
            found = self._by_spec[spec] = self._open(*parse_device(spec))
        return found

    def _open(self, name: str, index: int) -> Device:
        with self._lock:
            if (name, index) not in self._opened:
                self._opened[name, index] = _open_backend(name, index)
            return self._opened[name, index]

    def opened(self) -> list[Device]:
        with self._lock:
            return list(self._opened.values())

    def reopen(self, spec: str) -> Device:
        name, index = parse_device(spec)
        with self._lock:
            old = self._opened.pop((name, index), None)
            self._by_spec = {s: d for s, d in self._by_spec.items() if d is not old}
            new = self._open(name, index)
            if self._default is not None and self._default[0] is old:
                self._default = (new, self._default[1])
            return new

    def default(self) -> tuple[Device, str]:
        """The default device and the reason why it is."""
        if self._default is None:
            with self._lock:
                if self._default is None:
                    self._default = self._choose()
        return self._default

    def _choose(self) -> tuple[Device, str]:
        wanted = os.environ.get("GROUNDUP_DEVICE")
        if wanted:
            return self.get(wanted), f"GROUNDUP_DEVICE={wanted}"
        name, reason = _best_backend()
        return self._open(name, 0), reason

    def set_default(self, spec: DeviceLike) -> None:
        with self._lock:
            self._default = None if spec is None else (self.get(spec), "set_default_device")


_devices: Final = _Devices()


def device_for(spec: DeviceLike = None) -> Device:
    """The device of a name like "cuda" or "webgpu:1", opened at its first use; None: the default.

    Raises ConfigError for a text that names no device, BackendUnavailable, with the reason and a
    way out, for a backend or an index that is not there or does not work.
    """
    return _devices.get(spec)


def opened_devices() -> list[Device]:
    """All devices that are open, in the order in which they were opened."""
    return _devices.opened()


def default_device() -> Device:
    """The device used where none is given.

    GROUNDUP_DEVICE if that is set; otherwise device 0 of the available backend with the highest
    priority. It is chosen once, at its first use. Raises what `device_for` raises.
    """
    return _devices.default()[0]


def default_reason() -> str:
    """Why the default device is the one it is, for a run's start line."""
    return _devices.default()[1]


def set_default_device(spec: DeviceLike) -> None:
    """Make `spec` the default device; None chooses anew. Raises what `device_for` raises."""
    _devices.set_default(spec)


@contextmanager
def by_default(device: Device) -> Iterator[None]:
    """While inside, tensors are made on `device` where none is given."""
    before, _devices._default = _devices._default, (device, "for now")
    try:
        yield
    finally:
        _devices._default = before


def reopen(spec: str) -> Device:
    """Open a device again after it was lost. Tensors on the lost one stay lost."""
    return _devices.reopen(spec)


def _best_backend() -> tuple[str, str]:
    """The name of the available backend with the highest priority, and the reason in words.

    A negative priority means that a backend is used only when asked for by name.
    """
    entries = [entry for entry in backends().values() if _priority(entry) >= 0]
    refusals: dict[str, Unavailable] = {}
    available = []
    for entry in sorted(entries, key=lambda entry: (-_priority(entry), entry.name)):
        answer = entry.probe()
        if isinstance(answer, Unavailable):
            refusals[entry.name] = answer
        else:
            available.append(entry.name)
    if not available:
        listed = "; ".join(f"{name}: {answer.reason}" for name, answer in refusals.items())
        raise BackendUnavailable(
            f"no backend is available ({listed or 'none is installed'})", hint=install_hint("cpu")
        )
    if len(available) > 1:
        return available[0], f"the first choice of {', '.join(available)}"
    without = f"; not {', '.join(refusals)}, see `groundup backends`" if refusals else ""
    return available[0], f"the only backend available{without}"


def _priority(entry: BackendEntry) -> int:
    return 0 if entry.backend is None else entry.backend.priority


def _open_backend(name: str, index: int) -> Device:
    entry = backends().get(name)
    if entry is None:
        raise _unknown(name)
    answer = entry.probe()
    if isinstance(answer, Unavailable):
        cause = entry.problem.error if entry.problem is not None else None
        raise BackendUnavailable(f"{name}: {answer.reason}", hint=answer.fix) from cause
    _check_index(name, index, answer)
    assert entry.backend is not None  # or it would not be available
    try:
        opened = entry.backend.open(index)
        opened.info = opened.describe()
    except GroundupError:
        raise
    except PLUGIN_FAULTS as error:
        reason = f"{name}:{index} could not be opened: {one_line(error)}"
        raise BackendUnavailable(reason, hint=blame(entry.distribution)) from error
    opened.overrides = kernels_for(name)
    return opened


def _check_index(name: str, index: int, answer: Available) -> None:
    count = len(answer.devices)
    if index >= count:
        there = f"only {name}:0" if count == 1 else f"{name}:0 to {name}:{count - 1}"
        raise BackendUnavailable(f"there is no {name}:{index}", hint=f"this machine has {there}")


def _unknown(name: str) -> BackendUnavailable:
    """Why there is no backend of that name: left out, broken, or not installed."""
    loaded = plugins()
    if name in loaded.left_out:
        return BackendUnavailable(
            f"{name}: left out by GROUNDUP_PLUGINS", hint=f"add {name} to GROUNDUP_PLUGINS"
        )
    for problem in loaded.problems:
        if problem.name == name:
            return BackendUnavailable(f"{name}: {problem.reason}", hint=problem.fix)
    names = sorted(backends())
    hint = did_you_mean(name, names) or install_hint(name)
    return BackendUnavailable(
        f"no backend named {name!r} is installed, there are {', '.join(names)}", hint=hint
    )
