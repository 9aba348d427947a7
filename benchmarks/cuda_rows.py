"""How close kernels that only move memory come to a copy, on a GPU, and PyTorch beside them.

    python benchmarks/cuda_rows.py [--device cuda:0] [--small]

JSON lines: GB/s by the bytes that must be moved (each operand once), the device's own clock, the
median of many runs; the copy's first. PyTorch's eager figure, if it is installed, is of the same
run. `--small` is for trying the script out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache
from statistics import median
from typing import Any

import numpy as np

import groundup as g
from groundup.backends.api import Device, Kernel
from groundup.layout import Layout
from groundup.ops import REGISTRY

OPS: Any = REGISTRY
RUNS, WARM = 30, 5
Row = tuple[str, Any, tuple[g.Tensor, ...], Callable[[Any], Callable[[], object]] | None]


def seconds(device: Device, op: Any, inputs: tuple[g.Tensor, ...]) -> tuple[float, int]:
    """The median of a bound launch, and the bytes that it must move."""
    views = [t._view for t in inputs]
    outs = [Layout.contiguous(s) for s in op.infer_all(*[v.layout.spec for v in views])]
    kernel = device.kernel(op, [v.layout for v in views], outs)
    assert isinstance(kernel, Kernel), kernel
    outputs = [device.empty(layout) for layout in outs]
    space = Layout((max(kernel.workspace, 1),), (1,), g.uint8)
    launch = kernel.bind(views, outputs, device.empty(space))
    device.timed([launch] * WARM)
    moved = sum(memory(v.layout) for v in views) + sum(x.spec.nbytes for x in outs)
    return median(device.timed([launch] * RUNS)), moved


def memory(layout: Layout) -> int:
    """Bytes that a view covers: axes that are expanded take none."""
    sizes = [n if step else 1 for n, step in zip(layout.shape, layout.strides, strict=True)]
    return int(np.prod(sizes, dtype=np.int64)) * layout.dtype.itemsize


def torch_seconds(run: Callable[[], object]) -> float:
    """The same of a PyTorch call."""
    import torch

    times = []
    for turn in range(WARM + RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        if turn >= WARM:
            times.append(start.elapsed_time(end) / 1000)
    return median(times)


def rows(device: str, scale: int) -> Iterator[Row]:
    """What is timed: name, op, operands, and a function that makes PyTorch's call."""

    def normal(*shape: int, dtype: str = "bfloat16") -> g.Tensor:
        return g.randn(*shape, device=device).astype(dtype)

    tall, wide, heads = 65536 // scale, 8192 // scale, 50304 // scale
    x, w, grad = normal(tall, 1024), normal(1024), normal(tall, 1024)
    yield "copy", OPS["contiguous"](), (x,), lambda t: lambda: tall_rows().clone()
    yield "add", OPS["add"](), (x, grad), lambda t: lambda: tall_rows() + tall_rows("grad")
    yield "gelu_backward", OPS["gelu_backward"](), (x, grad), None
    yield "layer_norm", OPS["layer_norm"](), (x, w, w), layer_norm_of_torch
    yield "rms_norm", OPS["rms_norm"](), (x, w), None
    yield "add_layer_norm", OPS["add_layer_norm"](), (x, grad, w, w), None
    yield "layer_norm_backward", OPS["layer_norm_backward"](), (x, w, grad), layer_norm_grad
    for columns in (384, 768, 4096):
        other, v = normal(tall * 1024 // columns, columns), normal(columns)
        yield f"layer_norm {columns}", OPS["layer_norm"](), (other, v, v), None
        name, slope = f"layer_norm_backward {columns}", normal(*other.shape)
        yield name, OPS["layer_norm_backward"](), (other, v, slope), None
    yield "softmax", OPS["softmax"](), (x,), lambda t: lambda: tall_rows().softmax(-1)
    yield "softmax_backward", OPS["softmax_backward"](), (x, grad), None
    logits = normal(wide, heads)
    ids = g.from_numpy(np.arange(wide, dtype=np.int32) % heads, device)
    yield "cross_entropy", OPS["cross_entropy"](), (logits, ids), None
    sums = logits.logsumexp(-1).astype("float32")
    one, none = g.ones((), device=device).astype("bfloat16"), g.zeros(wide, device=device)
    backward = OPS["cross_entropy_backward"]()
    yield "cross_entropy_backward", backward, (logits, ids, sums, one, none), None
    sizes = [(1000, 1300 // scale)] * 100
    params, grads, m, v2 = ([normal(*s, dtype="float32") for s in sizes] for _ in range(4))
    rates = [g.tensor(value, device=device) for value in (1e-3, 5, 1.0)]
    adamw = OPS["adamw"](count=100, weight_decay=(0.1,) * 100)
    second = [t.abs() for t in v2]
    yield "adamw", adamw, (*rates, *params, *grads, *m, *second), None
    yield "global_norm", OPS["global_norm"](), tuple(grads), None
    words, texts = 50304 // scale, 16384 // scale
    zipf = np.minimum(np.random.default_rng(0).zipf(1.2, texts), words) - 1
    index = g.from_numpy(zipf.astype(np.int32), device).reshape(-1, 1).expand(texts, 768)
    table = g.zeros((), device=device).astype("bfloat16").expand(words, 768)
    embedding = OPS["scatter_add"](axis=0)
    yield "embedding backward", embedding, (table, index, normal(texts, 768)), None
    letters = g.from_numpy((zipf % 65).astype(np.int32), device).reshape(-1, 1)
    table = g.zeros((), device=device).astype("bfloat16").expand(65, 384)
    inputs = (table, letters.expand(texts, 384), normal(texts, 384))
    yield "embedding backward, 65 letters", embedding, inputs, None
    state = g.from_numpy(np.array([1, 2, 3, 4], np.int32), device)
    yield "dropout", OPS["dropout"](p=0.1), (x, state), None
    yield "sum of rows", OPS["sum"](axes=(0,)), (x,), lambda t: lambda: tall_rows().sum(0)


@cache
def tall_rows(name: str = "x") -> Any:
    """PyTorch's x, or another tensor of its shape: one operand read twice moves fewer bytes."""
    import torch

    return torch.randn(65536, 1024, device="cuda", dtype=torch.bfloat16)


def layer_norm_of_torch(torch: Any) -> Callable[[], object]:
    """PyTorch's layer_norm of x."""
    w = torch.ones(1024, device="cuda", dtype=torch.bfloat16)
    return lambda: torch.nn.functional.layer_norm(tall_rows(), (1024,), w, w)


def layer_norm_grad(torch: Any) -> Callable[[], object]:
    """PyTorch's own gradient kernel, without its forward pass."""
    x = tall_rows()
    w = torch.randn(1024, device="cuda", dtype=torch.bfloat16)
    _, mean, scale = torch.native_layer_norm(x, (1024,), w, w, 1e-5)
    call = torch.ops.aten.native_layer_norm_backward
    grad = tall_rows("grad")
    return lambda: call(grad, x, (1024,), mean, scale, w, w, [True, True, True])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    device = g.device_for(given.device)
    try:
        import torch
    except ImportError:
        torch = None
    print(json.dumps({"device": device.info.description}), flush=True)
    copied = 0.0
    for name, op, inputs, of_torch in rows(given.device, 64 if given.small else 1):
        time, moved = seconds(device, op, inputs)
        speed = moved / time / 1e9
        copied = copied or speed
        line: dict[str, Any] = {"what": name, "us": round(time * 1e6, 1), "GB/s": round(speed)}
        line["of copy"] = round(speed / copied, 3)
        if torch is not None and of_torch is not None and not given.small:
            line["torch GB/s"] = round(moved / torch_seconds(of_torch(torch)) / 1e9)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
