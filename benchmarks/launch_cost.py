"""What a launch costs in Python on a device, and how fast its matrix product is.

    python benchmarks/launch_cost.py cuda:0

Microseconds of adding two four-element tensors: by the operator, by the kernel alone, and by a
bound launch, each before the device is waited for; the best of several rounds. Short rounds fit
into what the WebGPU backend collects before it submits: the difference is what submitting costs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

import groundup as g
from groundup.backends.api import Device, Kernel
from groundup.layout import Layout
from groundup.ops.arithmetic import Add

CALLS, SHORT, ROUNDS = 1000, 200, 12  # so few that no device's queue fills up


def microseconds(work: Callable[[], object], device: Device, calls: int) -> float:
    """Per call, without waiting for the device."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        best = min(best, time.perf_counter() - start)
        device.synchronize()
    return round(best / calls * 1e6, 2)


def product_speed(device: Device, dtype: str, size: int = 4096) -> float:
    """TFLOP/s of one product, host's clock."""
    values = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    x = g.from_numpy(values, device).astype(dtype)
    best = float("inf")
    for _ in range(5):
        device.synchronize()
        start = time.perf_counter()
        x @ x
        device.synchronize()
        best = min(best, time.perf_counter() - start)
    return round(2 * size**3 / best / 1e12, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device")
    device = g.device_for(parser.parse_args().device)
    x = g.ones(4, device=device)
    layout = Layout.contiguous(x.spec)
    kernel = device.kernel(Add(), (layout, layout), (layout,))
    assert isinstance(kernel, Kernel)
    views, out = (x._view, x._view), (device.empty(layout),)
    ways: dict[str, Callable[[], object]] = {
        "eager": lambda: x + x,
        "kernel": lambda: kernel.launch(views, out),
        "bound": kernel.bind(views, out),
    }
    costs = {name: microseconds(way, device, CALLS) for name, way in ways.items()}
    short = {name: microseconds(way, device, SHORT) for name, way in ways.items()}
    kinds = [d.name for d, can in device.info.dtypes.items() if d.is_floating and "matmul" in can]
    speeds = {dtype: product_speed(device, dtype) for dtype in kinds if dtype != "float64"}
    figures = {"microseconds": costs, "short_rounds": short, "tflops": speeds}
    print(json.dumps({"device": device.info.description, **figures}))


if __name__ == "__main__":
    main()
