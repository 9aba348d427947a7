"""How fast the WebGPU backend's own kernels are on a GPU: one JSON line for each figure.

    python benchmarks/webgpu_ops.py [--device webgpu:0] [--sweep]

Rows and optimizers in GB/s of the bytes that they must move, beside what a copy by the driver and
by a kernel reach; attention in TFLOP/s of its compulsory work; the training step of gpt-12m (64 x
256 tokens). Times are the device's timestamps, the median of several launches; those of the step
are the host's. `--sweep` adds other tiles for attention and other shares for the norms' gradients.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import groundup as g
from groundup.backends.api import Device, Kernel, Launch
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.op import Op

ROUNDS = 15
ROWS, WIDTH = 16384, 768
VOCABULARY, LAYERS, HEADS, EMBED, CONTEXT, BATCH = 4096, 6, 6, 384, 256, 64


class Bench:
    """Figures of one device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.random = np.random.default_rng(0)

    def normal(self, *shape: int) -> Any:
        return g.from_numpy(self.random.standard_normal(shape, np.float32), self.device)

    def ids(self, bound: int, *shape: int) -> Any:
        return g.from_numpy(self.random.integers(0, bound, shape, dtype=np.int32), self.device)

    def seconds(self, op: Op, inputs: Sequence[Any], in_place: bool = False) -> tuple[float, int]:
        """The median of a launch, and how many dispatches it is."""
        launch = self.launch(op, inputs, in_place)
        for _ in range(3):
            launch()
        self.device.synchronize()
        times = self.device.timed([launch] * ROUNDS)
        grid: Any = launch.describe()["grid"]
        return statistics.median(times), len(grid)

    def launch(self, op: Op, inputs: Sequence[Any], in_place: bool) -> Launch:
        views = [t._view for t in inputs]
        layouts = [Layout.contiguous(spec) for spec in op.infer_all(*[t.spec for t in inputs])]
        kernel = self.device.kernel(op, [v.layout for v in views], layouts)
        assert isinstance(kernel, Kernel), f"{op.name}: {kernel}"
        targets = op.aliases if in_place else {}
        outs = [
            views[targets[i]] if i in targets else self.device.empty(layout)
            for i, layout in enumerate(layouts)
        ]
        scratch = None
        if kernel.workspace:
            scratch = self.device.empty(Layout.contiguous(Spec((kernel.workspace,), g.uint8)))
        return kernel.bind(views, outs, scratch)

    def bandwidth(self, op: Op, inputs: Sequence[Any], in_place: bool = False) -> dict[str, object]:
        seconds, dispatches = self.seconds(op, inputs, in_place)
        moved = op.cost(*[t.spec for t in inputs]).bytes
        return {
            "GB/s": round(moved / seconds / 1e9), "us": round(seconds * 1e6, 1),
            "MB": round(moved / 1e6), "dispatches": dispatches,
        }  # fmt: skip

    def speed(self, op: Op, inputs: Sequence[Any]) -> dict[str, object]:
        seconds, dispatches = self.seconds(op, inputs)
        flops = op.cost(*[t.spec for t in inputs]).flops
        return {
            "TFLOP/s": round(flops / seconds / 1e12, 2), "us": round(seconds * 1e6, 1),
            "dispatches": dispatches,
        }  # fmt: skip


def copies(bench: Bench) -> Iterator[tuple[str, dict[str, object]]]:
    """What the driver's copy reaches (host's clock), and our simplest kernel (timestamps)."""
    device: Any = bench.device
    size = 1 << 28
    x = bench.normal(size // 4)
    layout = Layout.contiguous(x.spec)
    target = device.empty(layout)
    times = []
    for _ in range(5):
        device.synchronize()
        start = time.perf_counter()
        encoder = device._gpu.create_command_encoder()
        for _ in range(8):
            encoder.copy_buffer_to_buffer(x._view.buffer.handle, 0, target.buffer.handle, 0, size)
        device._gpu.queue.submit([encoder.finish()])
        device.synchronize()
        times.append(time.perf_counter() - start)
    yield "copy by the driver", {"GB/s": round(16 * size / min(times) / 1e9)}
    yield "copy by a kernel", bench.bandwidth(REGISTRY["contiguous"](), [x])
    yield "add", bench.bandwidth(REGISTRY["add"](), [x, bench.normal(size // 4)])


def rows(bench: Bench) -> Iterator[tuple[str, dict[str, object]]]:
    """Norms, softmax, losses."""
    x, residual, grad = (bench.normal(ROWS, WIDTH) for _ in range(3))
    weight, bias = bench.normal(WIDTH), bench.normal(WIDTH)
    for name, inputs in {
        "layer_norm": [x, weight, bias], "rms_norm": [x, weight],
        "add_layer_norm": [x, residual, weight, bias], "add_rms_norm": [x, residual, weight],
        "layer_norm_backward": [x, weight, grad], "rms_norm_backward": [x, weight, grad],
        "softmax": [x], "log_softmax": [x], "softmax_backward": [x, grad],
        "log_softmax_backward": [x, grad],
    }.items():  # fmt: skip
        yield name, bench.bandwidth(REGISTRY[name](), inputs)
    wide = bench.normal(1024, 50304)
    yield "softmax of 50304", bench.bandwidth(REGISTRY["softmax"](), [wide])
    logits, target = bench.normal(ROWS, VOCABULARY), bench.ids(VOCABULARY, ROWS)
    row, one = bench.normal(ROWS), g.ones((), device=bench.device)
    yield "cross_entropy", bench.bandwidth(REGISTRY["cross_entropy"](), [logits, target])
    inputs = [logits, target, row, one, row]
    yield "cross_entropy_backward", bench.bandwidth(REGISTRY["cross_entropy_backward"](), inputs)


def updates(bench: Bench) -> Iterator[tuple[str, dict[str, object]]]:
    """The optimizer on gpt-12m's parameters and on one of 64 MB; the embedding's gradient."""
    model = _model(bench.device)
    for name, shapes in {
        "gpt-12m": [p.shape for p in model.parameters()], "64 MB": [(4096, 4096)],
    }.items():  # fmt: skip
        n = len(shapes)
        tensors = [bench.normal(*shape) for _ in range(3) for shape in shapes]
        tensors += [bench.normal(*shape).abs() for shape in shapes]
        rates = [g.full((), value, device=bench.device) for value in (1e-4, 3.0, 1.0)]
        op = REGISTRY["adamw"](count=n, weight_decay=(0.1,) * n)
        yield f"adamw of {name}", bench.bandwidth(op, [*rates, *tensors], in_place=True)
        yield f"global_norm of {name}", bench.bandwidth(REGISTRY["global_norm"](), tensors[:n])
    tokens = BATCH * CONTEXT
    table = g.zeros(VOCABULARY, EMBED, device=bench.device)
    indices = bench.ids(VOCABULARY, tokens).reshape(tokens, 1).expand(tokens, EMBED)
    inputs = [table, indices, bench.normal(tokens, EMBED)]
    yield "embedding's gradient", bench.bandwidth(REGISTRY["scatter_add"](axis=0), inputs)


def attention(bench: Bench) -> Iterator[tuple[str, dict[str, object]]]:
    """D 64, S 1024, 16 x 12 heads; and gpt-12m's."""
    for name, (B, H, S, D) in {"S 1024": (16, 12, 1024, 64), "gpt-12m": (64, 6, 256, 64)}.items():
        for causal in (True, False):
            forward, backward, q, given = _attention_operands(bench, (B, H, S, D), causal)
            label = f"{name}{', causal' if causal else ''}"
            yield f"attention {label}", bench.speed(forward, q)
            yield f"attention backward {label}", bench.speed(backward, given)
    shape = (8, 16, 1024, 128)
    forward, backward, q, given = _attention_operands(bench, shape, True)
    yield "attention D 128, causal", bench.speed(forward, q)
    yield "attention backward D 128, causal", bench.speed(backward, given)


def _attention_operands(
    bench: Bench, shape: Sequence[int], causal: bool
) -> tuple[Op, Op, list[Any], list[Any]]:
    params = {"scale": shape[-1] ** -0.5, "causal": causal}
    q, k, v, out, grad = (bench.normal(*shape) for _ in range(5))
    row = bench.normal(*shape[:3])
    forward = REGISTRY["scaled_dot_product_attention"](**params)
    backward = REGISTRY["scaled_dot_product_attention_backward"](**params)
    return forward, backward, [q, k, v], [q, k, v, out, row, grad, row]


def matmuls(bench: Bench) -> Iterator[tuple[str, dict[str, object]]]:
    """Large products, and those of gpt-12m's step: forward and the gradients of x and weight."""
    tiles = {str(each.tile): each.rate for each in bench.device.machine.rated}  # type: ignore[attr-defined]
    yield "tiles", {name: float(f"{rate:.3g}") for name, rate in tiles.items()}
    for n in (2048, 4096):
        x = bench.normal(n, n)
        yield f"matmul {n}", bench.speed(REGISTRY["matmul"](), [x, x])
        yield f"matmul {n}, y turned", bench.speed(REGISTRY["matmul"](), [x, x.mT])
        yield f"matmul {n}, x turned", bench.speed(REGISTRY["matmul"](), [x.mT, x])
        if g.float16 in bench.device.info.dtypes:
            half = x.astype("float16")
            yield f"matmul {n}, float16", bench.speed(REGISTRY["matmul"](), [half, half])
    tokens = BATCH * CONTEXT
    for inner, columns in ((EMBED, 3 * EMBED), (EMBED, 4 * EMBED), (4 * EMBED, EMBED)):
        x, weight, grad = (
            bench.normal(*shape) for shape in ((tokens, inner), (columns, inner), (tokens, columns))
        )
        for name, inputs in {
            "": [x, weight.mT], " to x": [grad, weight], " to weight": [grad.mT, x],
        }.items():  # fmt: skip
            label = f"linear {inner} to {columns}{', gradient' if name else ''}{name}"
            yield label, bench.speed(REGISTRY["matmul"](), inputs)
    row, weight = bench.normal(1, 4096), bench.normal(4096, 4096)
    yield "one row by 4096 x 4096", bench.bandwidth(REGISTRY["matmul"](), [row, weight.mT])
    yield "the same, turned", bench.bandwidth(REGISTRY["matmul"](), [row, weight])


def steps(bench: Bench) -> Iterator[tuple[str, dict[str, object]]]:
    """gpt-12m, eager and compiled."""
    for name in ("eager", "compiled"):
        step, x, y = _training(bench)
        run: Callable[[Any, Any], Any] = g.compile(step) if name == "compiled" else step
        for _ in range(3):
            loss = float(run(x, y))
        before = bench.device.launches
        times = []
        for _ in range(7):
            start = time.perf_counter()
            loss = float(run(x, y))
            times.append(time.perf_counter() - start)
        yield f"gpt-12m step, {name}", {
            "ms": round(statistics.median(times) * 1e3, 1), "loss": round(loss, 5),
            "launches": (bench.device.launches - before) // 7,
        }  # fmt: skip


def _model(device: Device) -> Any:
    from groundup.models.gpt import GPT, GPTConfig

    config = GPTConfig(
        n_layer=LAYERS, n_head=HEADS, n_embd=EMBED, block_size=CONTEXT, vocab_size=VOCABULARY
    )
    return GPT(config).to(device)


def _training(bench: Bench) -> tuple[Callable[[Any, Any], Any], Any, Any]:
    from groundup import nn, optim

    model = _model(bench.device)
    optimizer = optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)

    def step(x: Any, y: Any) -> Any:
        loss = model(x, y)
        loss.backward()
        nn.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step, bench.ids(VOCABULARY, BATCH, CONTEXT), bench.ids(VOCABULARY, BATCH, CONTEXT)


def sweep(bench: Bench) -> Iterator[tuple[str, dict[str, object]]]:
    """Other tiles of attention, other shares of rows in the norms' gradients."""
    import groundup_webgpu.attention_tiles as tiles
    import groundup_webgpu.normalization as norms

    forward, backward, q, given = _attention_operands(bench, (16, 12, 1024, 64), True)
    for name, chosen, op, inputs in (
        ("forward", tiles.FORWARD, forward, q), ("backward", tiles.BACKWARD, backward, given),
    ):  # fmt: skip
        kept = list(chosen)
        for groups, columns, each in (
            (16, 8, 4), (16, 8, 2), (16, 4, 4), (8, 16, 2), (8, 16, 4), (8, 8, 4), (8, 8, 2),
            (8, 4, 4), (8, 4, 8), (4, 8, 4), (4, 8, 2), (4, 16, 2), (4, 4, 4),
        ):  # fmt: skip
            chosen[:] = [tiles.Tile(groups, columns, each)]
            label = f"attention {name} {groups},{columns},{each}"
            try:
                yield label, bench.speed(op, inputs)
            except IndexError:
                yield label, {"skipped": "more workgroup memory than there is"}
        chosen[:] = kept
    x, weight, grad = bench.normal(ROWS, WIDTH), bench.normal(WIDTH), bench.normal(ROWS, WIDTH)
    own: Any = norms
    kept_figures = own._ROWS_EACH, own._PIECES
    for each in (4, 8, 16, 32):
        for pieces in (512, 1024, 2048):
            own._ROWS_EACH, own._PIECES = each, pieces
            figure = bench.bandwidth(REGISTRY["layer_norm_backward"](), [x, weight, grad])
            yield f"layer_norm_backward, {each} rows, {pieces} pieces", figure
    own._ROWS_EACH, own._PIECES = kept_figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="webgpu:0")
    parser.add_argument("--sweep", action="store_true")
    options = parser.parse_args()
    device: Any = g.device_for(options.device)
    print(json.dumps({"device": device.info.description, "machine": str(device.machine)}))
    bench = Bench(device)
    parts = [copies, rows, updates, attention, matmuls, steps, *([sweep] if options.sweep else [])]
    for part in parts:
        try:
            for name, figures in part(bench):
                print(json.dumps({"what": name, **figures}), flush=True)
        except Exception:  # the other parts are measured all the same
            print(json.dumps({"what": part.__name__, "error": traceback.format_exc(limit=3)}))


if __name__ == "__main__":
    main()
