"""The private parts of wgpu that this package stands on, in one place; tested with wgpu 0.32.

Launches are encoded by direct calls into wgpu-native: wgpu's methods around them look for errors
after each and cost several times as much. What goes wrong in such a call is told by `finish`.
"""

from __future__ import annotations

from typing import Any

from wgpu.backends.wgpu_native import GPUDevice, ffi, lib  # type: ignore[import-untyped]

set_pipeline = lib.wgpuComputePassEncoderSetPipeline
set_bind_group = lib.wgpuComputePassEncoderSetBindGroup
dispatch = lib.wgpuComputePassEncoderDispatchWorkgroups
wait = GPUDevice._poll_wait
READ = "READ_NOSYNC"  # how to map a buffer without one more, empty submit


def timestamp_period(gpu: Any) -> float:
    """Nanoseconds between two counts of a timestamp."""
    return float(lib.wgpuQueueGetTimestampPeriod(gpu.queue._internal))


def handle(thing: Any) -> Any:
    """What the functions above take; valid while `thing` lives."""
    return thing._internal


def offset(nbytes: int) -> Any:
    """A dynamic offset, for `set_bind_group`."""
    return ffi.new("uint32_t[1]", [nbytes])
