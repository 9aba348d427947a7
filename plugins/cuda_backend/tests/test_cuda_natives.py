"""Sorts, scans, pools, norms of channels and convolutions as they are planned for large operands:
which launches, and that their kernels compile. Needs NVRTC, but neither a GPU nor a driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from groundup.dtypes import as_dtype
from groundup.errors import BackendUnavailable
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.samples import cases_of
from groundup_cuda.expressions import STORED
from groundup_cuda.inventory import ARCHITECTURES, layouts
from groundup_cuda.jit import nvrtc
from groundup_cuda.lowering import lower
from groundup_cuda.plans import Lowered
from groundup_cuda.source import Stage, prelude

try:
    KNOWN = nvrtc().architectures()
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

NATIVE = (
    "avg_pool2d", "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "conv1d", "conv2d",
    "conv2d_backward_weight", "conv_transpose2d", "cumsum", "group_norm", "group_norm_backward",
    "max_pool2d", "max_pool2d_backward", "repeat", "sort", "topk",
)  # fmt: skip
HOPPER = (9, 0)
OFTEN = (75, 90)  # the oldest, and the newest that most kernels were measured on


def of(*shape: int, dtype: str = "float32") -> Layout:
    return Layout.contiguous(Spec(shape, as_dtype(dtype)))


def lowered(
    name: str, *inputs: Layout, capability: tuple[int, int] = HOPPER, **fields: Any
) -> Lowered:
    op = REGISTRY[name](**fields)
    outputs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in inputs])]
    made = lower(op, inputs, outputs, capability)
    assert isinstance(made, Lowered)
    return made


def families(name: str, *inputs: Layout, **fields: Any) -> list[str]:
    """The launches' templates, in order."""
    return [
        step.name.split(f"_{name}_")[0].split("_order_")[0]
        for step in lowered(name, *inputs, **fields).steps
        if isinstance(step, Stage)
    ]


@pytest.mark.parametrize("name", NATIVE)
def test_every_sample_has_kernels(name: str) -> None:
    counted = 0
    for dtype in (d for d in REGISTRY[name].dtypes if d in STORED):
        for case in cases_of(REGISTRY[name], dtype):
            fields = {field: getattr(case.op, field) for field in case.op.fields}
            lowered(name, *layouts(case), **fields)
            counted += 1
    assert counted >= 16


def test_short_lines_are_sorted_by_one_launch() -> None:
    assert families("sort", of(4096, 2048)) == ["sort"]
    assert lowered("sort", of(4096, 2048)).scratch == 0
    (step,) = lowered("sort", of(1000, 100)).steps
    assert isinstance(step, Stage)
    assert step.blocks == 63  # sixteen lines of 128 places in each


def test_long_lines_are_merged() -> None:
    assert families("sort", of(2, 2049)) == ["sort", "sort_merge"]
    made = lowered("sort", of(3, 50_000))
    assert [step.blocks for step in made.steps if isinstance(step, Stage)] == [75] * 6
    assert made.scratch == 2 * 3 * 50_000 * 8
    assert lowered("sort", of(3, 50_000, dtype="int64")).scratch == 2 * 3 * 50_000 * 16


def test_few_of_a_long_line_are_found_without_sorting_it() -> None:
    made = lowered("topk", of(64, 50_304), k=50)
    assert [step.blocks for step in made.steps if isinstance(step, Stage)] == [64 * 25, 64]
    assert made.scratch == 2 * 64 * 25 * 50 * 8
    assert families("topk", of(1, 50_304), k=1000)[0] == "sort"
    assert families("topk", of(1, 50_304), k=1025)[1:] == ["sort_merge"] * 5


def test_few_long_lines_are_scanned_in_pieces() -> None:
    assert families("cumsum", of(4, 1 << 20)) == ["scan", "scan"]
    assert families("cumsum", of(4096, 1024)) == ["scan"]
    first, second = (s.blocks for s in lowered("cumsum", of(1, 1 << 20)).steps)  # type: ignore[union-attr]
    assert first == second == 256


def test_convolutions_of_few_results_are_cut_along_the_inner_axis() -> None:
    x, grad = of(16, 64, 56, 56), of(16, 64, 56, 56)
    fields = {"kernel": (3, 3), "padding": (1, 1)}
    assert families("conv2d", x, of(64, 64, 3, 3), padding=(1, 1)) == ["conv"]
    assert families("conv2d_backward_weight", x, grad, **fields) == ["conv", "conv_join"]
    assert families("conv2d", x, of(64, 1, 3, 3), groups=64) == ["conv_thin"]
    assert (
        families("conv2d", of(*x.shape, dtype="float16"), of(64, 64, 3, 3, dtype="float16"))[0]
        == "conv_tensor"
    )
    small, weight, bias = of(1, 512, 7, 7), of(512, 512, 3, 3), of(512)
    assert families("conv2d", small, weight, bias, padding=(1, 1)) == ["conv", "conv_join"]


def large(dtype: str, capability: tuple[int, int]) -> Iterator[Stage]:
    """Every template that samples are too small for, in all its ways."""

    def stages(name: str, *inputs: Layout, **fields: Any) -> Iterator[Stage]:
        steps = lowered(name, *inputs, capability=capability, **fields).steps
        yield from (step for step in steps if isinstance(step, Stage))

    lines, across = of(3, 50_000, dtype=dtype), of(50_000, 64, dtype=dtype)
    for axis in (0, 1):
        yield from stages("sort", across, axis=axis)
        yield from stages("cumsum", across, axis=axis)
    yield from stages("sort", lines)
    yield from stages("sort", of(3, 50_000, dtype="int64"), descending=True)
    yield from stages("cumsum", lines)
    for k in (50, 2000):
        yield from stages("topk", lines, k=k)
    x, weight, vector = (of(*s, dtype=dtype) for s in ((8, 64, 32, 32), (64, 64, 3, 3), (64,)))
    yield from stages("conv2d", x, weight, vector, padding=(1, 1))
    yield from stages("conv2d", x, weight)
    yield from stages("conv2d", of(1, 64, 7, 7, dtype=dtype), weight, vector)
    yield from stages("conv_transpose2d", x, weight, stride=(2, 2))
    yield from stages("conv2d_backward_weight", x, x, kernel=(3, 3), padding=(1, 1))
    yield from stages("conv2d_backward_weight", x, x, kernel=(1, 1), groups=64)
    yield from stages("batch_norm", x, *[vector] * 4)
    yield from stages("batch_norm_backward", x, *[vector] * 3, x)
    yield from stages("group_norm", x, vector, vector, groups=8)
    yield from stages("group_norm_backward", x, vector, x, groups=8)
    pool = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    yield from stages("max_pool2d", x, **pool)
    yield from stages("max_pool2d_backward", x, *[of(8, 64, 16, 16, dtype=dtype)] * 2, **pool)


@cache
def kernels(capability: tuple[int, int]) -> dict[str, Stage]:
    dtypes = ("float32", "float16", "bfloat16")
    return {s.name: s for dtype in dtypes for s in large(dtype, capability)}


@pytest.mark.parametrize(
    "arch",
    [pytest.param(arch, marks=[] if arch in OFTEN else pytest.mark.slow) for arch in ARCHITECTURES],
)
def test_large_kernels_stay_in_registers(arch: int) -> None:
    if arch not in KNOWN:
        pytest.skip(f"NVRTC {nvrtc().version} does not know sm_{arch}")
    made = kernels((7, 5) if arch < 80 else HOPPER)
    source = "\n".join([prelude(), *[stage.source for stage in made.values()]])
    used = nvrtc().resources(source, f"sm_{arch}")
    assert used.keys() == made.keys()
    assert not {name: each for name, each in used.items() if each.stack or each.spilled}
    assert max(each.registers for each in used.values()) <= 128


def test_kernels_of_huge_tensors_compile() -> None:
    """Indices of 64 bits."""
    x, lines = of(1 << 14, 64, 64, 64, dtype="bfloat16"), of(1 << 22, 1 << 10)
    weight, vector = of(64, 64, 3, 3, dtype="bfloat16"), of(64, dtype="bfloat16")
    pool = {"kernel": (2, 2), "stride": (2, 2)}
    half = of(1 << 14, 64, 32, 32, dtype="bfloat16")
    made = [
        *lowered("sort", lines).steps, *lowered("sort", lines, axis=0).steps,
        *lowered("topk", lines, k=3, axis=0).steps, *lowered("cumsum", lines).steps,
        *lowered("cumsum", lines, axis=0).steps, *lowered("max_pool2d", x, **pool).steps,
        *lowered("max_pool2d_backward", x, half, half, **pool).steps,
        *lowered("group_norm", x, vector, vector, groups=4).steps,
        *lowered("group_norm_backward", x, vector, x, groups=4).steps,
        *lowered("batch_norm_backward", x, vector, vector, vector, x).steps,
        *lowered("conv2d", x, weight, padding=(1, 1)).steps,
        *lowered("conv2d", of(*x.shape), of(*weight.shape), padding=(1, 1)).steps,
        *lowered("conv2d_backward_weight", x, x, kernel=(3, 3), padding=(1, 1)).steps,
        *lowered("conv_transpose2d", half, weight, stride=(2, 2)).steps,
    ]  # fmt: skip
    stages = {step.name: step for step in made if isinstance(step, Stage)}
    assert sum("typedef long long Index" in stage.source for stage in stages.values()) >= 20
    source = "\n".join([prelude(), *[stage.source for stage in stages.values()]])
    assert nvrtc().compile(source, "sm_90")
