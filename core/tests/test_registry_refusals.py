"""Every bad case raises the error that it promises, in a text that names what, where and how."""

from __future__ import annotations

import pytest

import groundup as gu
from groundup import dispatch
from groundup.backends.devices import device_for
from groundup.ops import REGISTRY
from groundup.ops.samples import BadCase, bad_cases_of, cases_of

NAMES = sorted(name for name in REGISTRY if "::" not in name)


def attempt(bad: BadCase) -> None:
    inputs = tuple(operand.view(gu.tensor(operand.base, device="cpu")) for operand in bad.inputs)
    before = [x.numpy().tobytes() for x in inputs]
    with pytest.raises(bad.error) as caught:
        dispatch.apply(bad.op, inputs, device_for("cpu"))
    text = str(caught.value)
    assert type(caught.value) is bad.error
    assert bad.text in text, text
    assert text.startswith(bad.op.name), f"{text!r} does not begin with the op's name"
    assert "\n" not in text
    if issubclass(bad.error, gu.errors.ShapeError | gu.errors.DTypeError):
        assert "cpu]" in text, f"{text!r} does not name the device"
    assert [x.numpy().tobytes() for x in inputs] == before


@pytest.mark.parametrize("name", NAMES)
def test_refusals(name: str) -> None:
    op = REGISTRY[name]
    for dtype in op.dtypes:
        for bad in bad_cases_of(op, dtype):
            attempt(bad)


@pytest.mark.parametrize("name", NAMES)
def test_the_next_call_works(name: str) -> None:
    op = REGISTRY[name]
    for bad in bad_cases_of(op, op.dtypes[0]):
        attempt(bad)
        attempt(bad)  # nothing of it was cached
    case = cases_of(op, op.dtypes[0])[0]
    inputs = tuple(operand.view(gu.tensor(operand.base, device="cpu")) for operand in case.inputs)
    dispatch.apply(case.op, inputs, device_for("cpu"))
