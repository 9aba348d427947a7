"""What is benchmarked: every op, at every size, on data of its domain, with real models' shapes."""

from __future__ import annotations

import numpy as np
import pytest

from groundup import dtypes as dt
from groundup.layout import Layout
from groundup.ops import REGISTRY
from groundup.ops.arithmetic import Mul
from groundup.ops.op import has
from groundup_conformance.bench import traced
from groundup_conformance.bench.drawing import arranged, draw
from groundup_conformance.bench.works import REGIMES, Work, main_dtypes, regimes
from groundup_conformance.budgets import IEEE
from groundup_conformance.oracle import forward

SMALL = [("launch", 1 << 10), ("cache", 1 << 14)]
COMPUTING = sorted(name for name, op in REGISTRY.items() if not has(op, "view"))
FIXED = ("advance_state",)  # ops that have one size


def works(name: str, sizes: list[tuple[str, int]]) -> list[Work]:
    op = REGISTRY[name]
    return list(regimes(op, main_dtypes(op, [dt.float32])[0], sizes))


@pytest.mark.parametrize("name", COMPUTING)
def test_every_op_that_computes_has_a_work_for_each_regime(name: str) -> None:
    found = works(name, list(REGIMES.items()))
    assert len(found) == (1 if name in FIXED else len(REGIMES))
    for work, elements in zip(found, REGIMES.values(), strict=False):
        largest = max(spec.size for spec in (*work.specs, *work.results))
        assert name in FIXED or elements / 4 <= largest <= 4 * elements
    assert len({work.name for work in found}) == len(found)


@pytest.mark.parametrize("name", COMPUTING)
def test_operands_have_the_layout_and_are_not_all_zero(name: str) -> None:
    for work in works(name, SMALL):
        one, two = draw(work, 1), draw(work, 2)
        assert [x.layout for x in one] == list(work.layouts)
        assert all(np.isfinite(x.array.astype(np.float64)).all() for x in one)
        floats = [i for i, x in enumerate(one) if x.dtype.is_floating and x.layout.size > 8]
        if floats and name not in ("any", "all"):
            assert any((one[i].array != two[i].array).any() for i in floats), "sets are alike"
            assert any(one[i].array.any() for i in floats)


@pytest.mark.parametrize("name", ["take", "gather", "scatter_add"])
def test_indices_reach_the_whole_table(name: str) -> None:
    [_, work] = works(name, SMALL)
    table, indices = draw(work, 3)[:2]
    assert set(np.unique(indices.array)) == set(range(table.shape[0]))


def test_an_expanded_operand_counts_once() -> None:
    whole = Layout((64, 32), (32, 1), dt.float32)
    number = Layout((64, 32), (0, 0), dt.float32)
    work = Work(Mul(), (whole, number), dt.float32, "test")
    assert work.cost.bytes == 2 * 4 * 64 * 32 + 4
    assert work.name == "mul/float32/64x32,64x32@0x0"


def test_values_lie_in_strided_memory() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    for strides, wanted in (((1, 3), values), ((4, 1), values), ((0, 1), values[:1].repeat(3, 0))):
        got = arranged(values, Layout((3, 4), strides, dt.float32))
        assert np.array_equal(got.array, wanted)


def test_the_shapes_of_a_model_are_those_of_its_training_step() -> None:
    found = {work.name: work for work in traced.works(traced.GPT_12M)}
    assert "matmul/float32/2048x4096,4096x384" in found  # the gradient of the head
    assert "layer_norm/float32/8x256x384,384,384" in found
    assert {"adamw", "cross_entropy_backward", "take"} <= {w.op.name for w in found.values()}
    assert any(not layout.is_row_major for work in found.values() for layout in work.layouts)
    assert all(work.regime == "gpt-12m" for work in found.values())


@pytest.mark.parametrize("name", COMPUTING)
def test_values_are_of_the_domain(name: str) -> None:
    """NaN and infinity would take other ways through a kernel than what is usually computed."""
    work = works(name, SMALL)[0]
    arrays = [x.array for x in draw(work, 1)]
    if any(x.dtype.kind == "f" for x in arrays):
        for result in forward(work.op, arrays, IEEE):
            assert np.isfinite(result.value.astype(np.float64)).all()
