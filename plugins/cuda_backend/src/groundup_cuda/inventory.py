"""Every kernel that the samples of the ops need, and what each takes of a GPU.

Needs NVRTC, but neither a GPU nor a driver. docs/cuda_kernels.md is made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

import attrs

from groundup.backends.api import Declined
from groundup.dtypes import as_dtype
from groundup.errors import GroundupError
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.op import Op, has
from groundup.ops.samples import Case, cases_of
from groundup_cuda.expressions import STORED
from groundup_cuda.jit import Resources, nvrtc
from groundup_cuda.lowering import lower
from groundup_cuda.source import Stage, prelude

ARCHITECTURES: Final = (75, 80, 86, 89, 90, 100, 120)


@cache
def kernels() -> dict[str, Stage]:
    """One kernel per op and dtypes, that of the most axes."""
    found: dict[str, Stage] = {}
    for name, op in REGISTRY.items():
        if "::" in name or has(op, "view"):
            continue
        for dtype in STORED:
            for case in cases_of(op, dtype) if dtype in op.dtypes else ():
                for stage in stages_of(case.op, layouts(case)):
                    keep(found, stage)
    return found


def layouts(case: Case) -> tuple[Layout, ...]:
    """The operands' layouts, as strided as the sample has them."""
    made = []
    for operand in case.inputs:
        array = operand.array
        spec = Spec(array.shape, as_dtype(array.dtype))
        strides = tuple(s // array.itemsize for s in array.strides)
        strided = Layout(spec.shape, strides, spec.dtype)
        made.append(strided if array.size else Layout.contiguous(spec))
    return tuple(made)


def stages_of(op: Op, inputs: tuple[Layout, ...]) -> Iterator[Stage]:
    """The stages of an op; none for what the core adjusts first or what is refused."""
    if op.broadcasts and len({layout.shape for layout in inputs}) > 1:
        return
    try:
        outputs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in inputs])]
    except GroundupError:
        return
    if any(layout.dtype not in STORED for layout in (*inputs, *outputs)):
        return
    # With no tensor cores for bfloat16, our own kernel multiplies it.
    lowered = lower(op, inputs, outputs, (7, 5))
    if not isinstance(lowered, Declined):
        yield from (step for step in lowered.steps if isinstance(step, Stage))


def keep(found: dict[str, Stage], stage: Stage) -> None:
    """Add a stage, or put it in the place of a simpler one of its kind and dtypes."""
    types = re.findall(r"\((?:const )?([\w ]+?) \*\)p\.v", stage.source)
    flags = re.findall(r"across = \w+|typedef .*;", stage.source)
    key = " ".join([kind(stage), *types, *flags])
    if key not in found or len(found[key].source) < len(stage.source):
        found[key] = stage


def kind(stage: Stage) -> str:
    """The template and the op: a kernel's name without what tells its variants apart."""
    return stage.name.rsplit("_", 1)[0]


@cache
def resources(arch: int) -> dict[str, Resources]:
    """By name what every kernel takes on that architecture. Raises KernelCompileError."""
    source = "\n".join([prelude(), *[stage.source for stage in kernels().values()]])
    return nvrtc().resources(source, f"sm_{arch}")


@attrs.frozen
class Kind:
    """The kernels of one template and op: how many, and the most that any takes."""

    variants: int
    most: Resources


def by_kind(arch: int) -> dict[str, Kind]:
    """What the kernels of each kind take; shared memory that a launch asks for is not in it."""
    used = resources(arch)
    grouped: dict[str, list[Resources]] = {}
    for stage in kernels().values():
        grouped.setdefault(kind(stage), []).append(used[stage.name])
    return {
        name: Kind(len(each), Resources(*map(max, zip(*map(attrs.astuple, each), strict=True))))
        for name, each in sorted(grouped.items())
    }
