"""Elementwise kernels of whole packs: the results of the kernels that take one element a thread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.layout import Layout, Spec
from groundup.ops.arithmetic import Add
from groundup_cuda.backend import CudaBackend
from groundup_cuda.lowering import lower
from groundup_cuda.source import Stage

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

DEVICE = "cuda:0"
ROWS, COLUMNS = 96, 104  # whole packs of 4 and of 8
Binary = Callable[[g.Tensor, g.Tensor], g.Tensor]
OPS: dict[str, Binary] = {
    "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "less": lambda a, b: a < b,
    "where": lambda a, b: (a < b).where(a, b), "maximum": lambda a, b: a.maximum(b),
    "to-float32": lambda a, b: a.astype("float32") + b.astype("float32"),
    "to-int32": lambda a, b: a.astype("int32") - b.astype("int32"),
    "to-float16": lambda a, b: a.astype("float16") * b.astype("float16"),
    "number": lambda a, b: a * 3 + b, "neg": lambda a, b: -a,
}  # fmt: skip
DTYPES = ("float32", "float16", "bfloat16", "int32", "int64", "int8", "uint8")


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 9, shape)


def in_packs(x: g.Tensor, y: g.Tensor) -> bool:
    layouts = [t._view.layout for t in (x, y)]
    out = Layout.contiguous(Spec(x.shape, x.dtype))
    lowered = lower(Add(), layouts, [out], (9, 0))
    (step,) = lowered.steps  # type: ignore[union-attr]
    return isinstance(step, Stage) and step.name.startswith("map_packed")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPS)
def test_packs(name: str, dtype: str) -> None:
    """Whole, with a part of a pack at the end, rows beside a row, a column, and views."""
    whole, row, column = values(ROWS, COLUMNS), values(COLUMNS), values(ROWS, 1)
    made = []
    for device in ("cpu", DEVICE):
        x, b, c, flat = (
            g.from_numpy(v, device).astype(dtype) for v in (whole, row, column, whole.reshape(-1))
        )
        pairs = [
            (x, x), (flat[:5003], flat[-5003:]), (flat[1:5001], flat[:5000]),
            (x, b.expand(ROWS, COLUMNS)), (c.expand(ROWS, COLUMNS), x),
            (x[:, 8:96], x[:, 16:104]), (x[::2, 1:], x[1::2, :-1]),
        ]  # fmt: skip
        made.append([OPS[name](one, other) for one, other in pairs])
        if device == DEVICE:
            packed = [in_packs(one, other) for one, other in pairs]
            assert packed == [True] * 6 + [False], packed
    for wanted, got in zip(*made, strict=True):
        np.testing.assert_array_equal(got.numpy(), wanted.numpy())


def test_a_part_of_a_tensor_is_written_in_packs() -> None:
    x = g.zeros(ROWS, COLUMNS, device=DEVICE)
    x[:, 8:96] = g.ones(ROWS, 88, device=DEVICE)
    assert x.sum().item() == ROWS * 88
    assert x[:, :8].sum().item() == x[:, 96:].sum().item() == 0
