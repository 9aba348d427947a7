"""Flash attention on a GPU beside PyTorch's, in the same run: TFLOP/s, forward and backward.

    python benchmarks/attention.py [--sizes 64 128] [--lengths 256 1024 4096] [--tilings]

16,384 tokens, 2,048 columns, bfloat16, causal, as in the FlashAttention papers: a forward pass
counts 2 S^2 D flops a head, a backward pass 2.5 times that. Medians of single runs by events on the
GPU. Every result is checked first, against float32 on two heads. `--tilings` times what else the
kernels could be built as. `benchmarks/ladders.py` times the steps from the formula on. The peers
are skipped without PyTorch.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np

import groundup as g
from groundup.backends.api import Device, Kernel, Launch, View
from groundup.layout import Layout
from groundup.ops.attention import (
    ScaledDotProductAttention,
    ScaledDotProductAttentionBackward,
)  # fmt: skip
from groundup_cuda import attention as kernels
from groundup_cuda.launch import CudaKernel
from groundup_cuda.plans import Lowered

TOKENS, COLUMNS, RUNS = 16384, 2048, 20
FORWARD = [
    kernels.Forward(*sizes)
    for sizes in (
        (128, 2, 64, 32, 2), (128, 2, 64, 64, 2), (128, 2, 128, 32, 2), (256, 2, 64, 32, 1),
        (128, 2, 64, 32, 2, False), (128, 2, 64, 64, 2, False), (128, 2, 32, 32, 2, False),
        (256, 1, 64, 64, 1), (256, 1, 64, 32, 2), (256, 1, 128, 64, 1), (128, 1, 64, 64, 3),
        (128, 1, 64, 32, 3), (128, 1, 64, 64, 2), (128, 1, 32, 32, 4),
    )
]  # fmt: skip
BACKWARD = [
    kernels.Backward(threads, rows, part, resident)
    for threads, rows, part, resident in (
        (256, 64, 32, 1), (256, 64, 16, 1), (256, 128, 32, 1), (256, 32, 32, 1), (128, 64, 32, 2),
        (128, 64, 16, 2), (128, 64, 16, 3), (256, 64, 16, 2), (128, 32, 32, 3), (256, 64, 64, 1),
    )
]  # fmt: skip


@attrs.frozen(eq=False)
class Case:
    """Operands of one shape on the device, and what both passes write."""

    device: Device
    forward: ScaledDotProductAttention
    backward: ScaledDotProductAttentionBackward
    arrays: tuple[np.ndarray[Any, Any], ...]  # q, k, v, grad
    given: tuple[View, ...]
    out: tuple[View, ...]  # out, logsumexp
    gradients: tuple[View, ...]
    flops: float

    def inputs(self) -> tuple[View, ...]:
        """Of the backward op. The last, the gradient of logsumexp, is zero."""
        q, k, v, grad, zeros = self.given
        return (q, k, v, *self.out, grad, zeros)

    def launches(self) -> tuple[Launch, Launch]:
        """As the backend chooses."""
        first = self.device.kernel(self.forward, _layouts(self.given[:3]), _layouts(self.out))
        second = self.device.kernel(
            self.backward, _layouts(self.inputs()), _layouts(self.gradients)
        )
        assert isinstance(first, Kernel)
        assert isinstance(second, Kernel)
        return (
            self.bound(first, self.given[:3], self.out),
            self.bound(second, self.inputs(), self.gradients),
        )

    def bound(self, kernel: Kernel, inputs: Sequence[View], outputs: Sequence[View]) -> Launch:
        """A launch, with scratch memory of its own."""
        spec = g.layout.Spec((max(kernel.workspace, 1),), g.uint8)
        scratch = self.device.empty(Layout.contiguous(spec))
        return kernel.bind(inputs, outputs, scratch if kernel.workspace else None)


def _layouts(views: Sequence[View]) -> tuple[Layout, ...]:
    return tuple(view.layout for view in views)


def made(device: Device, size: int, length: int) -> Case:
    """Random operands."""
    shape = (max(TOKENS // length, 1), COLUMNS // size, length, size)
    rng = np.random.default_rng(length)
    arrays = tuple(rng.standard_normal(shape, np.float32) for _ in range(4))
    tensors = [g.from_numpy(a, device.info.name).astype(g.bfloat16) for a in arrays]
    tensors.append(g.zeros(*shape[:3], device=device.info.name))
    scale = size**-0.5
    forward = ScaledDotProductAttention(scale=scale, causal=True)
    specs = forward.infer(*[t.spec for t in tensors[:3]])
    out = tuple(device.empty(Layout.contiguous(spec)) for spec in specs)
    gradients = tuple(device.empty(Layout.contiguous(t.spec)) for t in tensors[:3])
    backward = ScaledDotProductAttentionBackward(scale=scale, causal=True)
    flops = 2.0 * shape[0] * shape[1] * length * length * size
    given = tuple(t._view for t in tensors)
    return Case(device, forward, backward, arrays, given, out, gradients, flops)


def speed(case: Case, launch: Launch, share: float) -> float:
    """TFLOP/s, the median."""
    case.device.timed([launch] * 3)
    seconds = statistics.median(case.device.timed([launch] * RUNS))
    return float(f"{share * case.flops / seconds / 1e12:.3g}")


def check(case: Case) -> None:
    """Both passes against float32 arithmetic on the first two heads. Raises AssertionError."""
    for launch in case.launches():
        launch()
    rounded = [a[0, :2].astype(g.bfloat16.numpy).astype(np.float32) for a in case.arrays]
    q, k, v, grad = (g.from_numpy(a[None], "cpu") for a in rounded)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    out = g.ops.scaled_dot_product_attention(q, k, v, causal=True)
    out.backward(grad)
    wanted = [out.detach().numpy(), *[t.grad.numpy() for t in (q, k, v) if t.grad is not None]]
    for name, view, right in zip(
        ("out", "dq", "dk", "dv"), (case.out[0], *case.gradients), wanted, strict=True
    ):
        got = case.device.read(view)[0, :2].astype(np.float32)
        error = np.linalg.norm(got - right[0]) / np.linalg.norm(right)
        assert error < 1e-2, f"{name}: relative error {error:.1e}"


def tilings(case: Case) -> Iterator[dict[str, object]]:
    """Every kernel as it could be built."""
    q, k, v = _layouts(case.given[:3])
    call = kernels.Call(case.forward, q, k, v, (), 3)
    for tiling in FORWARD:
        lowered = Lowered([kernels.forward(call, tiling)])
        yield _timed(case, "forward", tiling, lowered, 1.0)
    call = kernels.Call(case.backward, q, k, v, (), 7)
    for tiled in BACKWARD:
        steps = kernels.backward(call, _layouts(case.inputs()), tiled, tiled)
        for name, step, share in (("keys", steps[1], 2.0), ("queries", steps[2], 1.5)):
            lowered = Lowered([step], scratch=8 * call.rows)
            yield _timed(case, name, tiled, lowered, share)


def _timed(
    case: Case, name: str, tiling: object, lowered: Lowered, share: float
) -> dict[str, object]:
    """TFLOP/s that one kernel does: products as it computes them."""
    op = case.forward if name == "forward" else case.backward
    inputs = case.given[:3] if name == "forward" else case.inputs()
    outputs = case.out if name == "forward" else case.gradients
    row: dict[str, object] = {"kernel": name, "tiling": str(tiling)}
    try:
        launch = case.bound(CudaKernel(case.device, op, lowered), inputs, outputs)  # type: ignore[arg-type]
        row["tflops"] = speed(case, launch, share)
    except g.GroundupError as error:  # more shared memory or registers than there are
        row["refused"] = str(error).splitlines()[0][:80]
    return row


def peers(size: int, length: int) -> Iterator[tuple[str, float, float]]:
    """PyTorch's FlashAttention 2 and cuDNN: seconds forward and backward."""
    try:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.functional import scaled_dot_product_attention
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    shape = (max(TOKENS // length, 1), COLUMNS // size, length, size)
    q, k, v = (
        torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in "qkv"
    )
    grad = torch.randn_like(q)

    def median(work: Any) -> float:
        times: list[float] = []
        for _ in range(RUNS + 3):
            event: Any = torch.cuda.Event
            start, stop = (event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            stop.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(stop) / 1000)
        return statistics.median(times[3:])

    for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION"):
        with sdpa_kernel(getattr(SDPBackend, name)):
            out = scaled_dot_product_attention(q, k, v, is_causal=True)
            first = median(lambda: scaled_dot_product_attention(q, k, v, is_causal=True))
            second = median(
                lambda out=out: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)
            )
        yield name.lower(), first, second


def main() -> None:
    """One JSON line for each shape and peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--lengths", nargs="+", type=int, default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--tilings", action="store_true")
    options = parser.parse_args()
    device = g.device_for(options.device)
    for size in options.sizes:
        for length in options.lengths:
            case, where = made(device, size, length), {"D": size, "S": length}
            check(case)
            first, second = case.launches()
            ours = {"forward": speed(case, first, 1.0), "backward": speed(case, second, 2.5)}
            print(json.dumps(where | {"what": "groundup"} | ours), flush=True)
            for name, forward, backward in peers(size, length):
                flops = case.flops / 1e12
                times = {"forward": flops / forward, "backward": 2.5 * flops / backward}
                rounded = {key: round(value, 1) for key, value in times.items()}
                print(json.dumps(where | {"what": name} | rounded), flush=True)
            for row in tilings(case) if options.tilings else ():
                print(json.dumps(where | row), flush=True)


if __name__ == "__main__":
    main()
