"""The track `robust`: a device is lost, in a process of its own, which may not survive it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np

import groundup as gu
from groundup.backends.devices import device_for, parse_device, reopen
from groundup.backends.installed import backends
from groundup.errors import DeviceLost
from groundup_conformance import seam
from groundup_conformance.running import Failed

_TIMEOUT: Final = 300.0  # seconds for a process that opens two devices


def seam_of(backend: str) -> ModuleType | None:
    """How devices of an installed backend are lost, None if it does not say."""
    entry = backends()[backend]
    return None if entry.backend is None else seam.of_backend(entry.backend)


def lose(device: str) -> None:
    """Lose that device in another process. Raises Failed for anything but the right errors."""
    command = _command(device)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"a process that lost {device} was stuck for {_TIMEOUT:.0f} s") from error
    if done.returncode:
        raise Failed(f"a process that lost {device} ended with {done.returncode}\n{done.stderr}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    wrong = [f"{what}: {text}" for what, text in found.items() if text != "as it should"]
    if wrong:
        raise Failed("after the device was lost:\n" + "\n".join(wrong))


def _command(device: str) -> list[str]:
    return [sys.executable, "-m", __name__, device]


def attempts(spec: str) -> dict[str, str]:
    """What each call says after the device was lost: "as it should", or what it did instead."""
    device = device_for(spec)
    module = seam_of(parse_device(spec)[0])
    assert module is not None
    x = gu.from_numpy(np.ones(1000, np.float32), device)
    ready = x + x
    device.synchronize()
    pending = x * x
    module.lose(device)
    calls: dict[str, Callable[[], Any]] = {
        "read of a result": pending.numpy,
        "read of an older tensor": ready.numpy,
        "synchronize": device.synchronize,
        "a known kernel": lambda: (x + x).numpy(),
        "a new kernel": lambda: x.exp().numpy(),
        "a write": lambda: (gu.from_numpy(np.ones(3, np.float32), device) + 1).numpy(),
        "new memory": lambda: gu.zeros(1 << 20, device=device).numpy(),
        "read again": pending.numpy,
    }
    found = {what: _said(call) for what, call in calls.items()}
    if getattr(module, "RECOVERS", False):
        fresh = reopen(spec)
        total = gu.from_numpy(np.ones(1000, np.float32), fresh).sum().item()
        right = total == 1000.0
        found["opened again"] = "as it should" if right else f"a sum of 1000 ones is {total}"
    return found


def _said(call: Callable[[], Any]) -> str:
    try:
        call()
    except DeviceLost as error:
        if type(error) is DeviceLost:
            return "as it should"
        return f"{type(error).__name__} instead of DeviceLost"
    except Exception as error:
        return f"{type(error).__name__} instead of DeviceLost: {error}"
    return "no error"


if __name__ == "__main__":
    print(json.dumps(attempts(sys.argv[1])))  # noqa: T201 - its parent reads it
