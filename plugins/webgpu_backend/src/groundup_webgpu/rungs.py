"""The feature ladder: what an adapter may have beyond what all have.

Every kernel works without: the core of WebGPU, with 16 KB of workgroup memory and eight storage
buffers. The rungs above are `limits`, more of those; `f16`, float16 in memory; and `subgroups`,
threads that hand each other numbers without memory. A rung is taken if the adapter has it and tiny
kernels show that it works, and if GROUNDUP_WEBGPU_WITHOUT does not name it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Final

import numpy as np

from groundup import dtypes
from groundup.backends.api import HostArray
from groundup.errors import ConfigError
from groundup_webgpu.machine import PORTABLE_BUFFERS, PORTABLE_MEMORY, wanted_machine
from groundup_webgpu.rows import WORKERS
from groundup_webgpu.source import OUT, Stage

VARIABLE: Final = "GROUNDUP_WEBGPU_WITHOUT"
# The feature of wgpu that a rung needs.
FEATURES: Final[Mapping[str, str | None]] = {
    "limits": None, "f16": "shader-f16", "subgroups": "subgroup",
}  # fmt: skip
# What all adapters have of what the rung `limits` asks more of.
PORTABLE: Final = {
    "max-buffer-size": 1 << 28, "max-storage-buffer-binding-size": 1 << 27,
    "max-compute-workgroup-storage-size": PORTABLE_MEMORY,
    "max-storage-buffers-per-shader-stage": PORTABLE_BUFFERS,
}  # fmt: skip
# Runs a stage that writes so many elements of a dtype, and brings them.
Run = Callable[[Stage, int, dtypes.DType], HostArray]


def allowed_rungs(features: Collection[str]) -> frozenset[str]:
    """Those that an adapter with these features has, and that the variable lets it use.

    Raises ConfigError for a name that is not one of a rung.
    """
    without = {name for name in os.environ.get(VARIABLE, "").split(",") if name}
    unknown = sorted(without - set(FEATURES))
    if unknown:
        raise ConfigError(
            f"{VARIABLE}: there is no rung {unknown[0]!r}", hint=f"some of {', '.join(FEATURES)}"
        )
    if wanted_machine() == "portable":
        without |= {"subgroups"}
    had = {name for name, feature in FEATURES.items() if feature is None or feature in features}
    return frozenset(had - without)


def f16_works(run: Run) -> bool:
    """Whether numbers are rounded to float16 as they should be when they are stored."""
    stage = Stage("probe_f16", {}, (0,), ((OUT, "f16"),), (1, 1, 1))
    with np.errstate(over="ignore"):
        wanted = (np.arange(WORKERS, dtype=np.float32) * 300.3).astype(np.float16)
    return bool(np.array_equal(run(stage, WORKERS, dtypes.float16), wanted))


def subgroups_work(run: Run) -> bool:
    """Whether rows of few and of many threads have the right sums and maxima."""
    return all(_rows_work(lanes, run) for lanes in (2, 32, WORKERS))


def _rows_work(lanes: int, run: Run) -> bool:
    stage = Stage(
        "probe_lanes", {"lanes": str(lanes)}, (0,), ((OUT, "f32"),), (1, 1, 1),
        includes=("lanes_subgroups",),
    )  # fmt: skip
    found = run(stage, 2 * WORKERS, dtypes.float32).reshape(2, -1, lanes)
    threads = np.arange(WORKERS, dtype=np.float32)
    sums = threads.reshape(-1, lanes).sum(1, keepdims=True)
    tops = (threads * 37 % 251).reshape(-1, lanes).max(1, keepdims=True)
    return bool((found[0] == sums).all() and (found[1] == tops).all())
