"""Every rung of every ladder compiles for all GPUs, and computes what its op does where there is
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundup as g
import groundup_cuda
from groundup.backends.api import Unavailable
from groundup.errors import BackendUnavailable
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup_cuda.backend import CudaBackend
from groundup_cuda.jit import nvrtc
from groundup_cuda.ladders import LADDERS, Rung
from groundup_cuda.source import prelude

try:
    KNOWN = nvrtc().architectures()
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

OPS: Any = REGISTRY
KERNELS = Path(groundup_cuda.__file__).parent / "kernels"
ARCHITECTURES = ("75", "80", "86", "89", "90", "90a", "100", "120")
OFTEN = ("75", "90")
AMPERE = {("matmul", "6 tensor"), ("attention", "5 tensor"), ("attention", "6 pipelined")}
NAMES = {
    "matmul": ("1 naive", "2 coalesced", "3 shared", "4 registers", "5 vectors", "6 tensor"),
    "layer_norm": ("1 naive", "2 block", "3 warp", "4 registers", "5 fused"),
    "adamw": ("1 operations", "2 tensor", "3 vectors", "4 all"),
    "attention": ("1 naive", "2 online", "3 shared", "4 registers", "5 tensor", "6 pipelined"),
}
EACH = [(ladder, name) for ladder, names in NAMES.items() for name in names]
COMPUTED = [(*key, g.bfloat16) for key in EACH if key[0] != "adamw"]
COMPUTED += [(*key, g.float32) for key in EACH if key not in AMPERE]

# Shapes of the operands, none a multiple of a tile; rows of whole packs and others.
MATRICES = ([(150, 72), (72, 136)], [(33, 47), (47, 129)], [(1, 1), (1, 1)], [(257, 40), (40, 8)])
ROWS = [[(n, d), (n, d), (d,), (d,)] for n, d in ((37, 1024), (5, 7), (300, 33), (3, 3000))]
TENSORS = [(7,), (33, 5), (1024,), (2049,), ()]


def cases(ladder: str) -> Iterator[tuple[Any, list[tuple[int, ...]]]]:
    """An op of the ladder, and shapes for it."""
    if ladder == "matmul":
        yield from ((OPS["matmul"](), list(shapes)) for shapes in MATRICES)
    elif ladder == "layer_norm":
        yield from ((OPS["add_layer_norm"](eps=0.01), shapes) for shapes in ROWS)
    elif ladder == "adamw":
        op = OPS["adamw"](count=5, weight_decay=(0.1, 0.2, 0.0, 0.3, 0.1))
        yield op, [(), (), (), *TENSORS * 4]
    else:
        op = OPS["scaled_dot_product_attention"](scale=0.125, causal=True)
        yield op, [(2, 3, 150, 64)] * 3


def dtypes(ladder: str, dtype: g.DType, count: int) -> list[g.DType]:
    """Of the operands: a step is an integer, and the ladder of adamw is for float32 alone."""
    if ladder == "adamw":
        return [g.float32, g.int32, *[g.float32] * (count - 2)]
    return [dtype] * count


def rungs(ladder: str, op: Any, shapes: list[tuple[int, ...]], dtype: g.DType) -> dict[str, Rung]:
    kinds = dtypes(ladder, dtype, len(shapes))
    specs = [Spec(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]
    outs = [Layout.contiguous(spec) for spec in op.infer_all(*specs)]
    made = LADDERS[ladder](op, [Layout.contiguous(spec) for spec in specs], outs)
    return {rung.name: rung for rung in made}


@cache
def every(dtype: g.DType) -> dict[tuple[str, str], list[Rung]]:
    """All rungs, of each case one."""
    found: dict[tuple[str, str], list[Rung]] = {}
    for ladder in LADDERS:
        for op, shapes in cases(ladder):
            for name, rung in rungs(ladder, op, shapes, dtype).items():
                found.setdefault((ladder, name), []).append(rung)
    return found


def test_the_rungs() -> None:
    assert list(every(g.bfloat16)) == EACH
    narrow = [key for key in EACH if key not in AMPERE]
    assert list(every(g.float32)) == narrow


@pytest.mark.parametrize(("ladder", "name"), EACH)
def test_a_rung_tells_its_idea(ladder: str, name: str) -> None:
    (rung, *_) = every(g.bfloat16)[ladder, name]
    assert len(rung.idea) > 80
    if rung.family.startswith("ladder/"):
        assert f", rung {name[0]}: " in rung.idea
        lines = (KERNELS / f"{rung.family}.cu").read_text().splitlines()
        assert len(lines) <= 150


def test_every_file_is_a_rung() -> None:
    used = {f"{rung.family}.cu" for (rung, *_) in every(g.bfloat16).values()}
    found = {str(path.relative_to(KERNELS)) for path in (KERNELS / "ladder").iterdir()}
    assert found <= used


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=[] if a in OFTEN else pytest.mark.slow) for a in ARCHITECTURES]
)
def test_rungs_compile_without_spills(arch: str) -> None:
    number = int(arch.rstrip("a"))
    if number not in KNOWN:
        pytest.skip(f"NVRTC {nvrtc().version} does not know sm_{arch}")
    stages = {
        stage.name: stage
        for dtype in (g.float32, g.bfloat16)
        for key, made in every(dtype).items()
        if key not in AMPERE or number >= 80
        for rung in made
        for stage in rung.stages()
    }
    source = "\n".join([prelude(), *[stage.source for stage in stages.values()]])
    used = nvrtc().resources(source, f"sm_{arch}")
    assert used.keys() == stages.keys()
    assert not {name: found for name, found in used.items() if found.spilled}


@pytest.mark.parametrize(("ladder", "name", "dtype"), COMPUTED)
def test_a_rung_computes_its_op(ladder: str, name: str, dtype: g.DType) -> None:
    probe = CudaBackend().probe()
    if isinstance(probe, Unavailable):
        pytest.skip(f"cuda: {probe.reason} ({probe.fix})")
    device: Any = g.device_for("cuda:0")
    for op, shapes in cases(ladder):
        given = operands(ladder, shapes, dtype)
        wide = [t.astype(g.float32) if t.dtype.is_floating else t for t in given]
        found: Any = op(*wide)
        wanted = found if isinstance(found, tuple) else (found,)
        views = [t.to(device)._view for t in given]
        specs = op.infer_all(*[view.layout.spec for view in views])
        outs = [device.empty(Layout.contiguous(spec)) for spec in specs]
        kernel = rungs(ladder, op, shapes, dtype)[name].kernel(device, op)
        scratch = device.empty(Layout.contiguous(Spec((max(kernel.workspace, 1),), g.uint8)))
        kernel.launch(views, outs, scratch)
        for view, right in zip(outs, wanted, strict=True):
            exact = right.numpy().astype(np.float64)
            limit = 2e-6 if view.layout.dtype is g.float32 else 5e-3
            error = np.linalg.norm(device.read(view).astype(np.float64) - exact)
            assert error <= limit * np.linalg.norm(exact)


def operands(ladder: str, shapes: list[tuple[int, ...]], dtype: g.DType) -> list[g.Tensor]:
    """On the cpu, rounded to the dtype. The optimizer's second moments are not negative."""
    rng = np.random.default_rng(4)
    arrays = [np.asarray(rng.normal(size=shape), np.float32) for shape in shapes]
    if ladder == "adamw":
        arrays[:3] = [np.asarray(value, np.float32) for value in (0.01, 3, 0.5)]
        arrays[-5:] = [np.abs(array) for array in arrays[-5:]]
    kinds = dtypes(ladder, dtype, len(shapes))
    return [g.from_numpy(a, "cpu").astype(kind) for a, kind in zip(arrays, kinds, strict=True)]
