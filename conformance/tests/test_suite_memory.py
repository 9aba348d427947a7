"""Placement, poison and canaries: the suite sees what a kernel does to memory."""

from __future__ import annotations

import numpy as np
import pytest

import groundup
from groundup import dtypes
from groundup.backends.api import Device
from groundup.dtypes import DType
from groundup.ops.samples import Operand
from groundup_conformance.layouts import LAYOUTS, SHARING, arrange
from groundup_conformance.memory import Guard, as_given, placed, poison, read


@pytest.fixture
def cpu() -> Device:
    return groundup.device_for("cpu")


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (7,)])
def test_layouts_keep_the_values(name: str, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = LAYOUTS[name](values)
    if found is None:
        assert (name, len(shape)) in (("transposed", 1), ("repeated", 1))
        return
    assert found.array.shape == shape
    if name in SHARING:
        assert found.layout.is_expanded
    else:
        np.testing.assert_array_equal(found.array, values)
    assert not found.layout.is_row_major or found.offset


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_reaches_the_device(cpu: Device, name: str) -> None:
    values = np.arange(12, dtype=np.int32).reshape(3, 4)
    found = LAYOUTS[name](values)
    assert found is not None
    with Guard(cpu) as guard:
        tensor = guard.put(found)
        assert tensor._view.layout is found.layout
        np.testing.assert_array_equal(read(tensor), found.array)
        np.testing.assert_array_equal(tensor.numpy(), found.array)


def test_there_is_no_layout_for_a_scalar() -> None:
    assert arrange("transposed", [np.zeros((), np.float32)]) is None


def test_views_of_samples_keep_their_strides() -> None:
    operand = Operand(np.arange(24.0).reshape(4, 6), lambda x: x[1:, ::-2])
    found = as_given(operand)
    assert (found.strides, found.offset) == ((6, -2), 11)
    np.testing.assert_array_equal(found.array, operand.array)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_the_two_poisons_differ_everywhere(dtype: DType) -> None:
    one, two = poison(dtype, 9, 0), poison(dtype, 9, 1)
    assert one.dtype == two.dtype == dtype.numpy
    assert not (one == two).any()


def test_results_are_poisoned_first(cpu: Device) -> None:
    from groundup.layout import Layout, Spec

    with Guard(cpu):
        fresh = cpu.read(cpu.empty(Layout.contiguous(Spec((5,), dtypes.float32))))
    assert np.isnan(fresh).all()


def test_writing_outside_of_a_result_is_seen(cpu: Device) -> None:
    with Guard(cpu) as guard:
        result = guard.put(placed(np.zeros(4, np.float32))) + 1
        values, damage = guard.fetch(result)
        assert (values.tolist(), damage) == ([1, 1, 1, 1], None)
        block = guard.blocks[-1]
        block.root.native[block.start + 4] = 0
        assert guard.fetch(result)[1] == "memory after a result was overwritten"
        block.root.native[block.start - 1] = 0
        assert guard.fetch(result)[1] == "memory before a result was overwritten"


def test_changing_an_input_is_seen(cpu: Device) -> None:
    with Guard(cpu) as guard:
        x = guard.put(placed(np.zeros(4, np.float32)))
        assert guard.check() is None
        x._view.native[2] = -0.0  # the same value, other bits
        assert guard.check() == "an input was changed, at element 2 of its memory"


def test_writing_outside_of_an_input_is_seen(cpu: Device) -> None:
    with Guard(cpu) as guard:
        guard.put(placed(np.zeros(4, np.int32)))
        block = guard.inputs[0]
        block.root.native[block.start + 5] = 1
        assert guard.check() == (
            "memory outside of a tensor was overwritten, at element +1 from it"
        )


def test_the_device_is_as_before(cpu: Device) -> None:
    before = cpu.empty
    with pytest.raises(RuntimeError), Guard(cpu):
        raise RuntimeError
    assert cpu.empty == before
    assert "empty" not in vars(cpu)
