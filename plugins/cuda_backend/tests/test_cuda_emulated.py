"""What kernels compute, without a GPU: their source is compiled for the processor and run on the
samples of the ops. Needs g++ on Linux, but nothing of CUDA.

`emulation.h` says how. The threads of a block take turns in rising and in falling order, and both
must give the same bits.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

import groundup as g
from groundup.dtypes import as_dtype
from groundup.errors import GroundupError
from groundup.layout import Layout
from groundup.ops import REGISTRY
from groundup.ops.lower import adjustments
from groundup.ops.op import Op, has
from groundup.ops.samples import Array, Case, Operand, cases_of
from groundup_cuda.expressions import STORED
from groundup_cuda.inventory import layouts
from groundup_cuda.lowering import lower
from groundup_cuda.plans import Lowered
from groundup_cuda.source import OUT, Stage, prelude
from groundup_cuda.staging import address

if sys.platform != "linux" or shutil.which("g++") is None:
    pytest.skip("kernels are emulated by g++ on Linux", allow_module_level=True)

HERE = Path(__file__).parent
HOPPER = (9, 0)
FLAGS = ("-std=c++17", "-O1", "-fwrapv", "-ffp-contract=off", "-w", "-shared", "-fPIC")
# Of the largest magnitude: 8 and 4 units in the last place for the narrow ones.
RELATIVE = {"float32": 2e-5, "float16": 8e-3, "bfloat16": 3e-2}
OFTEN = ("cumsum", "topk", "max_pool2d_backward", "group_norm_backward", "softmax")
OPS = sorted(
    n for n in REGISTRY if "::" not in n and n not in OFTEN and not has(REGISTRY[n], "view")
)


@attrs.frozen
class Planned:
    """A sample with its launches."""

    case: Case
    lowered: Lowered


def planned(name: str, capability: tuple[int, int] = HOPPER) -> list[Planned]:
    """The samples of an op, but for what the core adjusts first and what has other kernels too."""
    found = []
    for dtype in (d for d in REGISTRY[name].dtypes if d in STORED):
        for case in cases_of(REGISTRY[name], dtype):
            op, inputs = case.op, layouts(case)
            if op.broadcasts and adjustments(op, [layout.spec for layout in inputs]):
                continue
            outs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in inputs])]
            if any(layout.dtype not in STORED for layout in (*inputs, *outs)):
                continue
            made = lower(op, inputs, outs, capability)
            if isinstance(made, Lowered) and all(isinstance(step, Stage) for step in made.steps):
                found.append(Planned(case, made))
    return found


def compiled(stages: Iterable[Stage], folder: Path) -> ctypes.CDLL:
    """All kernels in one library, each behind a function `start_` and its name."""
    text = ['#include "emulation.h"', for_host(prelude()), '#include "emulation_cores.h"']
    for stage in {stage.name: stage for stage in stages}.values():
        text.append(for_host(stage.source))
        text.append(
            f'extern "C" void start_{stage.name}(unsigned blocks, int threads, int falling, '
            f"const void *parameters) {{\n    emulated::run({stage.name}, blocks, threads, "
            "falling != 0, parameters);\n}"
        )
    source = folder / f"{hashlib.sha256(''.join(text).encode()).hexdigest()[:16]}.cpp"
    source.write_text("\n".join(text))
    library = source.with_suffix(".so")
    done = subprocess.run(
        ["g++", *FLAGS, f"-I{HERE}", str(source), "-o", str(library)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(library))


def for_host(source: str) -> str:
    """Without the few things that only NVIDIA's compiler knows."""
    narrow = {
        'asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));': "y = emulated::half_value(x.bits);",
        'asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));':
            "out.bits = emulated::half_bits(x);",
    }  # fmt: skip
    for words, meaning in narrow.items():
        source = source.replace(words, meaning)
    dynamic = r"extern __shared__ __align__\(16\) unsigned char (\w+)\[\];"
    return re.sub(dynamic, r"static unsigned char __align__(16) \1[232448];", source)


def run(
    library: ctypes.CDLL, op: Op, made: Lowered, inputs: Sequence[Array], *, falling: bool
) -> Any:
    """The outputs, in memory that held other things before."""
    dense = [np.array(x, order="C") if k in made.contiguous else x for k, x in enumerate(inputs)]
    specs = op.infer_all(*[g.from_numpy(np.array(x, order="C"), "cpu").spec for x in inputs])
    outputs = [np.empty(spec.shape, spec.dtype.numpy) for spec in specs]
    for out in outputs:
        out.reshape(-1).view(np.uint8)[:] = 0x7B
    scratch = np.full(made.scratch + 256, 0x7B, np.uint8)
    start = -(-address(scratch) // 256) * 256
    places = [*map(address, (*dense, *outputs[::-1])), start]
    for step in made.steps:
        assert isinstance(step, Stage)
        block = (ctypes.c_int64 * len(step.parameters))(*step.parameters)
        for k, operand in enumerate(step.operands):
            block[k] = places[operand]
        begin = getattr(library, f"start_{step.name}")
        begin(ctypes.c_uint(step.blocks), step.threads, int(falling), block)
    return outputs


def expected(case: Case) -> list[Array] | None:
    """The cpu's results; None if it refuses the case."""
    try:
        made = g.dispatch.apply(
            case.op, [on_cpu(operand) for operand in case.inputs], g.device_for("cpu")
        )
    except GroundupError:
        return None
    return [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]


def on_cpu(operand: Operand) -> g.Tensor:
    return operand.view(g.from_numpy(operand.base, "cpu"))


def largest(array: Array) -> float:
    """The largest finite magnitude."""
    wide = np.abs(array.astype(np.float64))
    return float(wide[np.isfinite(wide)].max(initial=0.0))


def compare(got: Array, wanted: Array, terms: float) -> None:
    """`terms`: the largest magnitude of the inputs, which narrow sums may cancel."""
    dtype = as_dtype(wanted.dtype)
    if not dtype.is_floating:
        np.testing.assert_array_equal(got, wanted)
        return
    relative = RELATIVE[dtype.name]
    scale = min(max(largest(wanted), terms if dtype.name != "float32" else 0.0, 1e-30), 1e30)
    np.testing.assert_allclose(
        got.astype(np.float64), wanted.astype(np.float64), rtol=relative, atol=relative * scale / 4
    )


def judge(
    library: ctypes.CDLL, op: Op, made: Lowered, inputs: list[Array], wanted: list[Array]
) -> None:
    runs = [run(library, op, made, inputs, falling=falling) for falling in (False, True)]
    for got, other, right in zip(*runs, wanted, strict=True):
        assert got.tobytes() == other.tobytes(), "the order of threads shows"
        compare(got, right, max(map(largest, inputs), default=0.0))


@pytest.mark.parametrize(
    "name", [*OFTEN, *[pytest.param(name, marks=pytest.mark.slow) for name in OPS]]
)
def test_samples(name: str, tmp_path: Path) -> None:
    samples = planned(name)
    if not samples:
        pytest.skip("composed, or by cuBLAS alone")
    stages = [step for each in samples for step in each.lowered.steps if isinstance(step, Stage)]
    library, counted = compiled(stages, tmp_path), 0
    for each in samples:
        wanted, inputs = expected(each.case), [operand.array for operand in each.case.inputs]
        if wanted is None:
            continue
        try:
            judge(library, each.case.op, each.lowered, inputs, wanted)
        except AssertionError as error:
            raise AssertionError(f"{name} {each.case.id}: {error}") from None
        counted += 1
    assert counted


LARGE: tuple[tuple[str, tuple[tuple[int, ...], ...], dict[str, Any]], ...] = (
    ("sort", ((2, 5000),), {}),
    ("sort", ((4100, 2),), {"axis": 0, "descending": True}),
    ("topk", ((2, 9000),), {"k": 700}),
    ("cumsum", ((2, 20_000),), {}),
    ("cumsum", ((3000, 40),), {"axis": 0}),
    ("sum", ((517, 256),), {"axes": (0,), "keepdims": False}),
    ("max", ((130, 776),), {"axes": (0,), "keepdims": True}),
    ("group_norm_backward", ((3, 8, 16, 12), (8,), (3, 8, 16, 12)), {"groups": 2}),
    ("batch_norm_backward", ((40, 48), (48,), (48,), (48,), (40, 48)), {}),
    ("conv2d", ((2, 20, 13, 11), (70, 20, 3, 3), (70,)), {"padding": (1, 1)}),
    ("conv2d", ((1, 40, 5, 5), (16, 20, 3, 3)), {"groups": 2}),
    ("conv_transpose2d", ((1, 40, 6, 5), (40, 66, 3, 3)), {"stride": (2, 2), "padding": (1, 0)}),
    ("conv2d_backward_weight", ((2, 12, 20, 18), (2, 24, 18, 16)), {"kernel": (3, 3)}),
)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "shapes", "fields"), LARGE)
def test_tiles_and_pieces(
    name: str, shapes: tuple[tuple[int, ...], ...], fields: dict[str, Any], dtype: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """What samples are too small for, with tensor cores and without."""
    rng, kind = np.random.default_rng(sum(shapes[0])), as_dtype(dtype).numpy
    arrays = [(np.abs(rng.normal(size=shape)) + 0.1).astype(kind) for shape in shapes]
    op = REGISTRY[name](**fields)
    made = op(*[g.from_numpy(x, "cpu") for x in arrays])
    wanted = [t.numpy() for t in (made if isinstance(made, tuple) else (made,))]
    inputs = [Layout.contiguous(g.from_numpy(x, "cpu").spec) for x in arrays]
    outs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in inputs])]
    for capability in ((7, 5), HOPPER):
        lowered = lower(op, inputs, outs, capability)
        assert isinstance(lowered, Lowered)
        stages = [step for step in lowered.steps if isinstance(step, Stage)]
        judge(compiled(stages, tmp_path), op, lowered, arrays, wanted)


@pytest.mark.parametrize("barrier", ["", "__syncthreads();"])
def test_a_missing_barrier_shows(barrier: str, tmp_path: Path) -> None:
    source = (
        'extern "C" __global__ void turned(const Parameters<1> p) {\n'
        "    __shared__ int seen[64];\n    seen[threadIdx.x] = threadIdx.x + 1;\n"
        f"    {barrier}\n    ((int *)p.v[0])[threadIdx.x] = seen[63 - threadIdx.x];\n}}"
    )
    library = compiled([Stage("turned", source, (0,), (OUT,), 1, 64)], tmp_path)
    found = []
    for falling in (False, True):
        out = np.zeros(64, np.int32)
        library.start_turned(1, 64, int(falling), (ctypes.c_int64 * 1)(address(out)))
        found.append(out.tolist())
    right = list(range(64, 0, -1))
    assert (found == [right, right]) == bool(barrier)
