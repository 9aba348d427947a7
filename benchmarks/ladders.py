"""Ladders on a GPU: each rung of an op, from its formula to a fast kernel, checked and timed.

    python benchmarks/ladders.py DEVICE [LADDER ...] [--dtype float32] [--ideas] [--small]

DEVICE is cuda:0 or webgpu:0; without names, all ladders of its backend. For each rung the time by
the device's own clock, the speed by the flops or bytes that its op must do or move, and its share
of the fastest rung's speed, and of PyTorch's on the same GPU where that is installed. A result is
compared with the cpu's, on a part of it, before and after the timing. `--ideas` prints what each
rung adds, `--small` is for trying the script out.
"""

from __future__ import annotations

import argparse
import importlib
import textwrap
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import attrs
import numpy as np

import groundup as g
from groundup.backends.api import Device, Launch
from groundup.errors import KernelCompileError
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY

OPS: Any = REGISTRY
RUNS, LONGEST = 20, 0.5  # launches of a rung that are timed; seconds that they may take
LIMITS = {g.float32: 2e-5, g.float16: 2e-3, g.bfloat16: 1e-2}  # relative errors of a part
Cut = Callable[[Sequence[g.Tensor]], list[g.Tensor]]


@attrs.frozen(eq=False)
class Case:
    """An op on a device, and a part of it that the cpu can compute as well: the op of the part,
    and functions that cut its inputs and outputs out of the whole's.
    """

    what: str
    op: Any
    inputs: Sequence[g.Tensor]
    small: Any
    cut_inputs: Cut
    cut_outputs: Cut
    in_flops: bool
    torch: Callable[[Any, Any], Callable[[], object]]  # given torch and a dtype, PyTorch's call

    def wanted(self) -> list[np.ndarray[Any, Any]]:
        """The part of the result, in float32 on the cpu."""
        parts = [t.to("cpu") for t in self.cut_inputs(self.inputs)]
        found = self.small(*[t.astype(g.float32) if t.dtype.is_floating else t for t in parts])
        return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]

    def work(self) -> float:
        """Floating-point operations, or bytes."""
        cost = self.op.cost(*[t.spec for t in self.inputs])
        return float(cost.flops if self.in_flops else cost.bytes)


def normal(device: Device, dtype: g.DType, *shape: int) -> g.Tensor:
    return g.randn(*shape, device=device).astype(dtype)


def matmul(device: Device, dtype: g.DType, small: bool) -> Case:
    n = 192 if small else 4096 if device.info.name.startswith("cuda") else 2048
    op, x, y = OPS["matmul"](), normal(device, dtype, n, n), normal(device, dtype, n, n)

    def of_torch(torch: Any, kind: Any) -> Callable[[], object]:
        a, b = (torch.randn(n, n, device="cuda", dtype=kind) for _ in "ab")
        return lambda: a @ b

    return Case(
        f"{n} x {n} x {n}", op, (x, y), op, lambda t: [t[0][-40:], t[1]], lambda t: [t[0][-40:]],
        True, of_torch,
    )  # fmt: skip


def layer_norm(device: Device, dtype: g.DType, small: bool) -> Case:
    rows, columns = 65536 // (256 if small else 1), 1024
    op = OPS["add_layer_norm"]()
    x, more = normal(device, dtype, rows, columns), normal(device, dtype, rows, columns)
    w, b = normal(device, dtype, columns), normal(device, dtype, columns)

    def of_torch(torch: Any, kind: Any) -> Callable[[], object]:
        x, more = (torch.randn(rows, columns, device="cuda", dtype=kind) for _ in "ab")
        w, b = (torch.randn(columns, device="cuda", dtype=kind) for _ in "ab")
        norm = torch.nn.functional.layer_norm
        return lambda: norm(x + more, (columns,), w, b)

    return Case(
        f"{rows} rows of {columns}, residual added", op, (x, more, w, b), op,
        lambda t: [t[0][-40:], t[1][-40:], *t[2:]], lambda t: [x[-40:] for x in t], False, of_torch,
    )  # fmt: skip


def adamw(device: Device, dtype: g.DType, small: bool) -> Case:
    """As many matrices as vectors; float32 whatever is asked for, as the ladder is."""
    shapes = [(1000, 1300 // (64 if small else 1)), (768,)] * (4 if small else 100)
    n, decay = len(shapes), 0.1
    op = OPS["adamw"](count=n, weight_decay=(decay,) * n)
    kinds = ((1e-3, g.float32), (5, g.int32), (1.0, g.float32))
    rates = [g.tensor(value, dtype=kind, device=device) for value, kind in kinds]
    many = [[normal(device, g.float32, *shape) for shape in shapes] for _ in range(4)]
    many[3] = [t.abs() for t in many[3]]

    def of_torch(torch: Any, kind: Any) -> Callable[[], object]:
        params = [torch.randn(shape, device="cuda", requires_grad=True) for shape in shapes]
        for param in params:
            param.grad = torch.randn_like(param)
        return torch.optim.AdamW(params, lr=1e-3, weight_decay=decay, fused=True).step

    first = [3 + i + n * k for k in range(4) for i in range(2)]  # of a matrix and a vector
    return Case(
        f"{n} tensors, {sum(t.size for t in many[0]) / 1e6:.3g} M numbers", op,
        (*rates, *[t for tensors in many for t in tensors]),
        OPS["adamw"](count=2, weight_decay=(decay,) * 2),
        lambda t: [*t[:3], *[t[i] for i in first]],
        lambda t: [t[i + n * k] for k in range(3) for i in range(2)], False, of_torch,
    )  # fmt: skip


def attention(device: Device, dtype: g.DType, small: bool) -> Case:
    shape = (1, 2, 96, 64) if small else (8, 16, 1024, 64)
    op = OPS["scaled_dot_product_attention"](scale=0.125, causal=True)
    q, k, v = (normal(device, dtype, *shape) for _ in "qkv")

    def of_torch(torch: Any, kind: Any) -> Callable[[], object]:
        q, k, v = (torch.randn(shape, device="cuda", dtype=kind) for _ in "qkv")
        call = torch.nn.functional.scaled_dot_product_attention
        return lambda: call(q, k, v, is_causal=True)

    def cut(tensors: Sequence[g.Tensor]) -> list[g.Tensor]:
        return [t[-1:, -2:] for t in tensors]

    return Case(f"{shape}, causal", op, (q, k, v), op, cut, cut, True, of_torch)


CASES: dict[str, Callable[[Device, g.DType, bool], Case]] = {
    "matmul": matmul, "layer_norm": layer_norm, "adamw": adamw, "attention": attention,
}  # fmt: skip


def check(case: Case, outs: Sequence[g.Tensor], wanted: Sequence[Any]) -> None:
    """Raises AssertionError where a part of the result is wrong."""
    for got, right in zip(case.cut_outputs(outs), wanted, strict=True):
        error = np.linalg.norm(got.numpy().astype(np.float64) - right) / np.linalg.norm(right)
        assert error < LIMITS[got.dtype], f"relative error {error:.1e}"


def seconds(device: Device, launch: Launch) -> float:
    """The median of a few launches, of one where it takes long."""
    (first,) = device.timed([launch])
    return median(device.timed([launch] * max(1, min(RUNS, int(LONGEST / max(first, 1e-9))))))


def torch_seconds(case: Case, dtype: g.DType) -> float | None:
    """PyTorch's time for the same, None without it or a GPU."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    call = case.torch(torch, getattr(torch, str(dtype)))
    for _ in range(3):
        call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(RUNS):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000 / RUNS


def climb(device: Device, ladder: Any, case: Case) -> list[tuple[Any, float | str]]:
    """Each rung with its time, or why the device refuses it."""
    views = [t._view for t in case.inputs]
    specs = case.op.infer_all(*[t.spec for t in case.inputs])
    outs = [g.empty(*spec.shape, dtype=spec.dtype, device=device) for spec in specs]
    wanted, found = case.wanted(), []
    for rung in ladder(case.op, [v.layout for v in views], [t._view.layout for t in outs]):
        for out in outs:
            out.assign_(float("nan"))
        kernel = rung.kernel(device, case.op)
        space = Layout.contiguous(Spec((max(kernel.workspace, 1),), g.uint8))
        try:
            launch = kernel.bind(views, [t._view for t in outs], device.empty(space))
            launch()
        except KernelCompileError as error:  # a GPU without such tensor cores
            found.append((rung, str(error).splitlines()[0][:60]))
            continue
        check(case, outs, wanted)
        found.append((rung, seconds(device, launch)))
        check(case, outs, wanted)
    return found


def table(case: Case, found: Sequence[tuple[Any, float | str]], peer: float | None) -> list[str]:
    """A line for each rung, the fastest being 100 %."""
    unit = "TFLOP/s" if case.in_flops else "GB/s"
    work = case.work() / (1e12 if case.in_flops else 1e9)
    times = [time for _, time in found if isinstance(time, float)]
    lines = [f"{'rung':<14} {'us':>10} {unit:>9} {'of best':>8} {'of torch':>8}"]
    for rung, time in found:
        if isinstance(time, str):
            lines.append(f"{rung.name:<14} {time}")
            continue
        shares = [f"{base / time:.1%}" if base else "-" for base in (min(times), peer)]
        speeds = f"{time * 1e6:>10.1f} {work / time:>9.4g}"
        lines.append(f"{rung.name:<14} {speeds} {shares[0]:>8} {shares[1]:>8}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device")
    parser.add_argument("ladders", nargs="*", metavar="LADDER")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--ideas", action="store_true")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    backend = options.device.split(":")[0]
    try:
        ladders = importlib.import_module(f"groundup_{backend}.ladders").LADDERS
    except ImportError:
        parser.error(f"there are no ladders for {options.device}")
    unknown = set(options.ladders) - set(ladders)
    if unknown:
        parser.error(f"no ladder {', '.join(sorted(unknown))}; there are {', '.join(ladders)}")
    device = g.device_for(options.device)
    g.manual_seed(0)
    asked = g.dtypes.as_dtype(options.dtype or ("bfloat16" if backend == "cuda" else "float32"))
    for name in options.ladders or ladders:
        dtype = g.float32 if name == "adamw" else asked
        case = CASES[name](device, dtype, options.small)
        found = climb(device, ladders[name], case)
        print(f"\n{name}: {case.what}, {dtype}, on {device.info.description}\n")
        print("\n".join(table(case, found, torch_seconds(case, dtype))), flush=True)
        for rung, _ in found if options.ideas else ():
            print(f"\n{rung.name}\n{textwrap.fill(rung.idea, 96)}")


if __name__ == "__main__":
    main()
