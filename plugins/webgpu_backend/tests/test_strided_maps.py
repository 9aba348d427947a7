"""Elementwise ops, sums and pads by vectors, where operands are broadcast or permuted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Kernel
from groundup.layout import Layout
from groundup.ops import REGISTRY

RANDOM = np.random.default_rng(2)


def whole(*shape: int) -> Any:
    return RANDOM.integers(-9, 10, shape).astype(np.float32)


def family(device: Any, op: Any, *inputs: g.Tensor) -> str:
    """The template that is taken for tensors that begin where vectors can be read."""
    layouts = [x._view.layout for x in inputs]
    outs = [Layout.contiguous(op.infer(*[x.spec for x in inputs]))]
    kernel: Any = device.kernel(op, layouts, outs)
    assert isinstance(kernel, Kernel)
    stage = kernel._stages[0]  # type: ignore[attr-defined]
    return str((stage.aligned or stage).family)


OPERANDS = {
    "rows in common": ((6, 5, 8), (8,), True),
    "columns in common": ((6, 5, 8), (5, 1), True),
    "an odd line": ((6, 5, 7), (7,), False),
    "a line that is shorter": ((3, 4), (1, 4), True),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_broadcast_operands(machine_device: Any, name: str) -> None:
    shape, other, vectors = OPERANDS[name]
    a, b = whole(*shape), whole(*other)
    x = g.from_numpy(a, machine_device)
    y = g.from_numpy(b, machine_device).expand(*shape)
    np.testing.assert_array_equal((x - y).numpy(), a - b)
    np.testing.assert_array_equal((y - x).numpy(), b - a)
    chosen = family(machine_device, REGISTRY["sub"](), x, y)
    assert (chosen == "map_vectors") == vectors


@pytest.mark.parametrize("size", [8, 6])
def test_permuted_operands(machine_device: Any, size: int) -> None:
    a, b = whole(2, 3, 5, size), whole(2, 5, 3, size)
    x = g.from_numpy(a, machine_device).permute(0, 2, 1, 3)
    y = g.from_numpy(b, machine_device)
    np.testing.assert_array_equal((x * y).numpy(), a.transpose(0, 2, 1, 3) * b)
    assert (family(machine_device, REGISTRY["mul"](), x, y) == "map_vectors") == (size == 8)
    np.testing.assert_array_equal(x.contiguous().numpy(), a.transpose(0, 2, 1, 3))
    turned = y.permute(3, 1, 0, 2)  # no line of it lies in order
    np.testing.assert_array_equal((turned + turned).numpy(), 2 * b.transpose(3, 1, 0, 2))


def test_a_window_that_begins_between_vectors(machine_device: Any) -> None:
    a = whole(6, 16)
    x = g.from_numpy(a, machine_device)
    for start in (0, 1, 4):
        window = x[:, start : start + 8]
        np.testing.assert_array_equal((window + window).numpy(), 2 * a[:, start : start + 8])


PADS = {
    "in vectors": ((3, 5, 8), (0, 1, 4), (2, 0, 8), None, True),
    "between vectors": ((3, 5, 8), (0, 0, 2), (0, 0, 2), None, False),
    "one number": ((), (), (), None, False),
    "with gaps": ((3, 4), (1, 0), (0, 0), (1, 0), True),
    "with gaps in a line": ((3, 4), (0, 0), (0, 0), (0, 3), False),
}


@pytest.mark.parametrize("name", PADS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_pads(machine_device: Any, name: str, dtype: str) -> None:
    if g.dtypes.as_dtype(dtype) not in machine_device.info.dtypes:
        pytest.skip("the adapter has no shader-f16")
    shape, before, after, interior, vectors = PADS[name]
    op = REGISTRY["pad"](before=before, after=after, value=7, interior=interior)
    a = whole(*shape).astype(dtype)
    x = g.from_numpy(a, machine_device)
    np.testing.assert_array_equal(op(x).numpy(), op(g.from_numpy(a, "cpu")).numpy())
    layout, out = x._view.layout, Layout.contiguous(op.infer(x.spec))
    stage = machine_device.kernel(op, [layout], [out])._stages[0]
    assert (stage.aligned is not None) == vectors


REDUCED = {
    "rows of a matrix": ((700, 24), (0,), "reduction_columns"),
    "rows of odd length": ((333, 7), (0,), "reduction_columns"),
    "both ends": ((9, 40, 33), (0, 2), "reduction"),
    "the middle": ((5, 300, 12), (1,), "reduction_columns"),
    "the first two": ((5, 60, 12), (0, 1), "reduction_columns"),
    "all": ((123, 457), (0, 1), "reduction"),
    "lines": ((40, 90), (1,), "reduction"),
}


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("op", ["sum", "max"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_reduced(machine_device: Any, name: str, op: str, dtype: str) -> None:
    if g.dtypes.as_dtype(dtype) not in machine_device.info.dtypes:
        pytest.skip("the adapter has no shader-f16")
    shape, axes, family = REDUCED[name]
    a = RANDOM.integers(-2, 3, shape).astype(dtype)
    x = g.from_numpy(a, machine_device)
    made = REGISTRY[op](axes=axes)
    wanted = getattr(a.astype(np.float64), op)(axes)
    np.testing.assert_array_equal(made(x).numpy(), wanted)
    if not machine_device.machine.software:
        out = Layout.contiguous(made.infer(x.spec))
        stages = machine_device.kernel(made, [x._view.layout], [out])._stages
        assert stages[0].family == family


def test_few_long_reductions_are_for_all_of_a_gpu(portable_device: Any) -> None:
    x = g.ones(3, 50_000, device=portable_device)
    kernel = portable_device.kernel(
        REGISTRY["sum"](axes=(1,)), [x._view.layout], [Layout((3,), (1,), g.float32)]
    )
    first, _ = kernel._stages
    assert first.groups[0] == 3 * 48, "pieces of about 1024 elements"
    assert first.scratch == 4 * first.groups[0]
    assert x.sum(axis=1).tolist() == [50_000] * 3


def test_rows_added_where_indices_say(machine_device: Any) -> None:
    """By vectors of columns, by columns, and with indices of their own for each column."""
    for width, shared in ((12, True), (7, True), (12, False)):
        count, rows = 600, 9
        ids = RANDOM.integers(-2, rows + 2, (count, 1 if shared else width)).astype(np.int32)
        source = whole(count, width)
        wanted = np.ones((rows, width), np.float32)
        every = np.broadcast_to(ids, source.shape)
        inside = (every >= 0) & (every < rows)
        np.add.at(wanted, (every[inside], np.nonzero(inside)[1]), source[inside])
        indices = g.from_numpy(ids, machine_device).expand(count, width)
        x = g.ones(rows, width, device=machine_device)
        found = x.scatter_add(indices, g.from_numpy(source, machine_device), 0)
        np.testing.assert_array_equal(found.numpy(), wanted)


def test_rows_are_gathered_by_vectors(machine_device: Any) -> None:
    for width in (8, 6):
        table = whole(9, width)
        ids = np.array([[3, 0, -1], [8, 9, 3]], np.int32)
        x = g.from_numpy(table, machine_device)
        found = g.nn.functional.embedding(g.from_numpy(ids, machine_device), x).numpy()
        inside = ((ids >= 0) & (ids < 9))[..., None]
        np.testing.assert_array_equal(found, np.where(inside, table[ids % 9], 0))
        wide = g.from_numpy(ids.reshape(6, 1), machine_device).expand(6, width)
        op = REGISTRY["gather"](axis=0)
        np.testing.assert_array_equal(op(x, wide).numpy(), found.reshape(6, width))
        out = [Layout.contiguous(op.infer(x.spec, wide.spec))]
        (stage,) = machine_device.kernel(op, [x._view.layout, wide._view.layout], out)._stages
        assert (stage.aligned is not None) == (width == 8)
        own = g.from_numpy(RANDOM.integers(0, 9, (6, width)).astype(np.int32), machine_device)
        wanted = np.take_along_axis(table, own.numpy(), 0)
        np.testing.assert_array_equal(op(x, own).numpy(), wanted)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_parts_are_put_together_by_vectors(machine_device: Any, axis: int) -> None:
    for last in (8, 6):
        arrays = [whole(*[size + i * (a == axis) * 4 for a, size in enumerate((2, 3, last))])
                  for i in range(3)]  # fmt: skip
        xs = [g.from_numpy(array, machine_device) for array in arrays]
        op = REGISTRY["concat"](axis=axis)
        np.testing.assert_array_equal(op(*xs).numpy(), np.concatenate(arrays, axis))
        outs = [Layout.contiguous(op.infer(*[x.spec for x in xs]))]
        stages = machine_device.kernel(op, [x._view.layout for x in xs], outs)._stages
        if last == 8 or axis:  # else each part is in one piece, and its size decides
            assert [stage.aligned is not None for stage in stages] == [last == 8] * 3
