"""Level 1: indices out of range and division by zero: refused by name, or of a defined value.

A device that sees its operands refuses them (DomainError); one that does not may not crash, nor
read or write elsewhere: rows that are not there are 0, nothing is written, a quotient is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup
from groundup import dispatch
from groundup.backends.api import Device
from groundup.errors import DomainError
from groundup.ops.arithmetic import FloorDivide, Remainder
from groundup.ops.indexing import Gather, ScatterAdd, Take
from groundup.ops.loss import CrossEntropy, NllLoss
from groundup.ops.masking import OneHot
from groundup.ops.op import Op
from groundup.tensor import Tensor

LEVEL = 1
OUTSIDE = (-1, 4, 2**31 - 1, -(2**31))  # of 4 columns
ROWS = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
Wanted = np.ndarray[Any, np.dtype[Any]] | None


def judge(op: Op, operands: list[Any], device: Device, wanted: Wanted) -> None:
    """DomainError, or the result (None: anything finite); inputs as they were."""
    tensors = tuple(groundup.from_numpy(np.asarray(x), device) for x in operands)
    try:
        results = dispatch.apply(op, tensors, device)
        got: Tensor = results[0] if isinstance(results, tuple) else results
        values = got.numpy()
    except DomainError:
        pass
    else:
        assert np.isfinite(values).all()
        if wanted is not None:
            np.testing.assert_array_equal(values, wanted)
    for tensor, operand in zip(tensors, operands, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), operand)


@pytest.mark.parametrize("index", OUTSIDE)
def test_take(device: Device, index: int) -> None:
    """A column that is not there is 0."""
    wanted = np.stack([ROWS[:, 0], np.zeros(3, np.float32)], 1)
    judge(Take(axis=1), [ROWS, np.array([0, index], np.int32)], device, wanted)


@pytest.mark.parametrize("index", OUTSIDE)
def test_gather(device: Device, index: int) -> None:
    """An element that is not there is 0."""
    wanted = np.stack([ROWS[:, 0], np.zeros(3, np.float32)], 1)
    judge(Gather(axis=1), [ROWS, np.array([[0, index]] * 3, np.int32)], device, wanted)


@pytest.mark.parametrize("index", OUTSIDE)
def test_scatter_add(device: Device, index: int) -> None:
    """What has no place is not added."""
    wanted = ROWS.copy()
    wanted[:, 0] += ROWS[:, 0]
    operands = [ROWS, np.array([[0, index]] * 3, np.int32), ROWS[:, :2].copy()]
    judge(ScatterAdd(axis=1), operands, device, wanted)


@pytest.mark.parametrize("index", OUTSIDE)
def test_one_hot(device: Device, index: int) -> None:
    """A class that is not there is none of the others."""
    wanted = np.array([[1, 0, 0, 0], [0, 0, 0, 0]])
    judge(OneHot(classes=4), [np.array([0, index], np.int32)], device, wanted)


@pytest.mark.parametrize("index", OUTSIDE)
@pytest.mark.parametrize("op", [CrossEntropy, NllLoss], ids=["cross_entropy", "nll_loss"])
def test_losses(device: Device, op: Callable[..., Op], index: int) -> None:
    """A target that is not there gives some loss, and no crash."""
    ids = np.array([0, index, 1], np.int32)
    judge(op(reduction="none"), [ROWS, ids], device, None)


@pytest.mark.parametrize("op", [FloorDivide, Remainder], ids=["floor_divide", "remainder"])
def test_division_by_zero(device: Device, op: Callable[..., Op]) -> None:
    """Of integers; the first quotient is an ordinary one."""
    wanted = {"floor_divide": [-4, 0], "remainder": [1, 0]}[op().name]
    operands = [np.array([-7, 7], np.int32), np.array([2, 0], np.int32)]
    judge(op(), operands, device, np.array(wanted, np.int32))
