"""`groundup webgpu`: what the kernels on each adapter are chosen by."""

from __future__ import annotations

from typing import Any


def webgpu() -> None:
    """Show of each adapter its rungs of the feature ladder and the tiles of matrix products.

    Opens all of them, which measures the tiles of an adapter that is new here. Variables choose
    otherwise: GROUNDUP_WEBGPU_WITHOUT=subgroups,f16,limits and GROUNDUP_WEBGPU_TILES=guessed,
    measured, or names of tiles.
    """
    import groundup
    from groundup.backends.api import Available
    from groundup.errors import BackendUnavailable
    from groundup_webgpu.backend import WebGpuBackend

    answer = WebGpuBackend().probe()
    if not isinstance(answer, Available):
        raise BackendUnavailable(f"webgpu: {answer.reason}", hint=answer.fix)
    for index in range(len(answer.devices)):
        print("\n".join(_described(groundup.device_for(f"webgpu:{index}"))))


def _described(device: Any) -> list[str]:
    machine = device.machine
    lines = [
        f"{device.info.name}: {device.info.description}",
        f"    rungs: {', '.join(sorted(device.info.features - {'timer'})) or 'none'}",
        f"    workgroups: {machine.memory:,} bytes of memory, {machine.buffers} buffers",
    ]
    if machine.software:
        return [*lines, "    products by blocks, without tiles: for processors"]
    for each in machine.rated:
        measured = each.rate > 1e6
        rate = f"{each.rate / 1e12:.2f} TFLOP/s" if measured else f"not measured, {each.rate:g}"
        lines.append(f"    tile {each.tile!s:18} {rate}")
    return lines
