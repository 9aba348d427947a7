"""Every source that composites can be lowered to is a valid one, for naga."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup import dtypes
from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.ops import REGISTRY
from groundup.ops.samples import Make
from groundup_webgpu import native
from groundup_webgpu.composites import COMPOSITES
from groundup_webgpu.machine import Machine
from groundup_webgpu.source import STORED, Stage

MACHINES = (Machine(software=True), Machine(software=False))


def layouts(op: Any, case: Any) -> tuple[list[Layout], list[Layout]] | None:
    """Of the inputs and outputs of a case, None if the device stores none such."""
    given = []
    arrays = [operand.array for operand in case.inputs]
    for array in np.broadcast_arrays(*arrays) if op.broadcasts else arrays:
        dtype = dtypes.as_dtype(array.dtype)
        if dtype not in STORED:
            return None
        given.append(Layout(array.shape, tuple(s // array.itemsize for s in array.strides), dtype))
    outs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in given])]
    return (given, outs) if all(out.dtype in STORED for out in outs) else None


def stages(name: str) -> Iterator[Stage]:
    """All that the samples of an op become."""
    for machine in MACHINES:
        for dtype in (dtypes.float32, dtypes.float16, dtypes.int32):
            if dtype not in REGISTRY[name].dtypes:
                continue
            for case in REGISTRY[name].samples(Make(name, dtype)):
                found = layouts(case.op, case)
                made = COMPOSITES[name](case.op, *found, machine) if found else []
                for stage in [] if isinstance(made, Declined) else made:
                    yield stage
                    if stage.aligned is not None:
                        yield stage.aligned


def sources(name: str) -> set[str]:
    """Their texts, with operands in buffers of their own and all in one."""
    texts = set()
    for stage in stages(name):
        count = len(stage.operands)
        texts |= {stage.source(range(count)), stage.source([0] * count)}
    return texts


@pytest.mark.parametrize("name", COMPOSITES)
def test_naga_accepts(name: str, portable_device: Any) -> None:
    found = sources(name)
    assert found
    for source in found:
        if "enable f16" in source and g.float16 not in portable_device.info.dtypes:
            continue
        native.shader_module(portable_device._gpu, source, native.CHECKS["bounds"])


@pytest.mark.parametrize("name", COMPOSITES)
def test_portable_memory_and_buffers_suffice(name: str) -> None:
    for stage in stages(name):
        own, _ = stage.bindings(range(len(stage.operands)))
        assert len(own) <= 8
        text = stage.source(range(len(stage.operands)))
        assert _workgroup_bytes(text) <= 16384


def _workgroup_bytes(text: str) -> int:
    """Of the arrays in workgroup memory that a source declares."""
    total = 0
    for line in text.splitlines():
        if line.startswith("var<workgroup>") and "array<" in line:
            sizes = [int(size) for size in re.findall(r", (\d+)>", line)]
            total += (16 if "vec4" in line else 4) * prod(sizes)
    return total
