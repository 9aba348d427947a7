"""The derived cases: every op has what applies to it, names are unique, values are as they say."""

from __future__ import annotations

from collections import Counter

import attrs
import numpy as np
import pytest

import groundup
from groundup import dtypes
from groundup.backends.api import DeviceInfo
from groundup.ops.third_party import all_ops
from groundup_conformance import cases, coverage, grids, samples, transfers
from groundup_conformance.cases import Check
from groundup_conformance.layouts import LAYOUTS, MIXED, SHARING

GENERATORS = [
    cases.foundations, cases.forward, cases.grid, cases.gradients, cases.repeats, cases.aliases,
    cases.refusals, cases.undeclared, cases.references, transfers.round_trips, transfers.strided,
    transfers.reuse, transfers.unknown,
]  # fmt: skip


@pytest.fixture(scope="module")
def info() -> DeviceInfo:
    return groundup.device_for("cpu").info


@pytest.fixture(scope="module")
def checks(info: DeviceInfo) -> list[Check]:
    return [check for generator in GENERATORS for check in generator(all_ops(), info)]


def test_names_are_unique(checks: list[Check]) -> None:
    counts = Counter(str(check.id) for check in checks)
    assert not [name for name, count in counts.items() if count > 1]


def test_every_op_has_every_class_that_applies(info: DeviceInfo) -> None:
    found = coverage.coverage(all_ops(), info)
    assert {entry.op for entry in found} == set(all_ops())
    assert not [(entry.op, entry.holes) for entry in found if entry.holes]


def test_an_op_without_cases_is_a_hole() -> None:
    entry = coverage.Coverage("softmax", {"values": 3}, ("special",))
    line = coverage.render([entry]).splitlines()[1].split()
    assert line[:3] == ["softmax", "3", "NONE"]


def test_layouts_of_cases_are_what_they_are_called(checks: list[Check]) -> None:
    found = Counter[str]()
    for check in checks:
        if check.sample is None or check.id.layout == "given" or check.id.op == "memory":
            continue
        operands = check.operands()
        values = check.sample.arrays
        if check.id.layout not in SHARING:
            for operand, array in zip(operands, values, strict=True):
                np.testing.assert_array_equal(operand.array, array)
        assert any(not x.layout.is_row_major or x.offset for x in operands)
        found[check.id.layout] += 1
    assert set(found) == {*LAYOUTS, MIXED}


def test_grids_are_large_enough(info: DeviceInfo) -> None:
    for check in cases.grid({"add": all_ops()["add"], "sum": all_ops()["sum"]}, info):
        assert check.sample is not None
        most = max(operand.layout.size for operand in check.operands())
        assert most >= (65537 if check.sample.name == "rows" else grids.GRID)


def test_tiles_are_what_repeats(info: DeviceInfo) -> None:
    [check] = cases.grid({"softmax": all_ops()["softmax"]}, info)
    sample = check.sample
    assert sample is not None
    assert sample.tiles is not None
    array = check.operands()[0].array
    tile = sample.tiles.first([array])[0]
    axis = sample.tiles.axes[0]
    assert axis is not None
    again = np.take(tile, np.arange(array.shape[axis]) % sample.tiles.period, axis)
    np.testing.assert_array_equal(array, again)


def test_resized_samples_stay_small(info: DeviceInfo) -> None:
    sample = samples.base(all_ops()["matmul"], dtypes.float32)
    assert sample is not None
    sizes = {x.shape for made in samples.resized(sample, (17, 257)) for x in made.operands}
    assert {(17, 7), (5, 257), (257, 3)} <= sizes


def test_indices_stay_inside_when_sizes_change() -> None:
    sample = samples.base(all_ops()["take"], dtypes.float32)
    assert sample is not None
    for made in samples.resized(sample, samples.SIZES):
        table, indices = made.arrays
        assert not indices.size or indices.max() < table.shape[made.op.axis]  # type: ignore[attr-defined]


def test_what_a_device_lacks_is_unsupported_and_refused(info: DeviceInfo) -> None:
    narrow = attrs.evolve(info, dtypes={dtypes.float32: info.dtypes[dtypes.float32]})
    ops = {"exp": all_ops()["exp"]}
    found = {str(c.id): c.unsupported for c in cases.forward(ops, narrow)}
    assert found["exp[float32,matrix,given,forward]"] is None
    assert found["exp[float64,matrix,given,forward]"] == "cpu has no float64"
    refused = [str(c.id) for c in cases.undeclared(ops, narrow)]
    assert "exp[float64,matrix,given,refused]" in refused
    assert not list(cases.undeclared(ops, info))


def test_dtypes_without_products_leave_out_contractions(info: DeviceInfo) -> None:
    uses = {**info.dtypes, dtypes.float16: frozenset({"store", "compute"})}
    narrow = attrs.evolve(info, dtypes=uses)
    ops = {name: all_ops()[name] for name in ("matmul", "exp")}
    left_out = {c.id.op for c in cases.forward(ops, narrow) if c.unsupported}
    assert left_out == {"matmul"}


def test_integers_beside_int32_are_tried(info: DeviceInfo) -> None:
    found = {c.id.dtype for c in cases.forward({"add": all_ops()["add"]}, info)}
    assert {"int64", "int8", "uint8"} <= found
