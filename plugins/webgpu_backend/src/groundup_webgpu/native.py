"""The private parts of wgpu that this package stands on, in one place; tested with wgpu 0.32.

Launches are encoded by direct calls into wgpu-native: wgpu's methods around them look for errors
after each and cost several times as much. What goes wrong in such a call is told by `finish`.
"""

from __future__ import annotations

from typing import Any, Final

from wgpu.backends.wgpu_native import GPUDevice, ffi, lib  # type: ignore[import-untyped]
from wgpu.backends.wgpu_native import _api as api

set_pipeline = lib.wgpuComputePassEncoderSetPipeline
set_bind_group = lib.wgpuComputePassEncoderSetBindGroup
dispatch = lib.wgpuComputePassEncoderDispatchWorkgroups
wait = GPUDevice._poll_wait
READ = "READ_NOSYNC"  # how to map a buffer without one more, empty submit


# What wgpu-native adds to shaders: limits of memory accesses and of the turns of loops.
CHECKS: Final = {
    "all": lib.WGPUShaderRuntimeChecks_BoundsChecks | lib.WGPUShaderRuntimeChecks_ForceLoopBounding,
    "bounds": lib.WGPUShaderRuntimeChecks_BoundsChecks,
    "none": lib.WGPUShaderRuntimeChecks_None,
}


def shader_module(gpu: Any, source: str, checks: int) -> Any:
    """The module of a WGSL source with these checks. Raises wgpu's errors."""
    code = api.new_struct_p("WGPUShaderSourceWGSL *", code=api.to_c_string_view(source))
    code[0].chain.next = ffi.NULL
    code[0].chain.sType = lib.WGPUSType_ShaderSourceWGSL
    descriptor = api.new_struct_p(
        "WGPUShaderModuleDescriptor *",
        nextInChain=ffi.cast("WGPUChainedStruct *", code),
        label=api.to_c_string_view(""),
    )
    made = api.libf.wgpuDeviceCreateShaderModuleTrusted(gpu._internal, descriptor, checks)
    return api.GPUShaderModule("", made, gpu)


def timestamp_period(gpu: Any) -> float:
    """Nanoseconds between two counts of a timestamp."""
    return float(lib.wgpuQueueGetTimestampPeriod(gpu.queue._internal))


def handle(thing: Any) -> Any:
    """What the functions above take; valid while `thing` lives."""
    return thing._internal


def offset(nbytes: int) -> Any:
    """A dynamic offset, for `set_bind_group`."""
    return ffi.new("uint32_t[1]", [nbytes])
