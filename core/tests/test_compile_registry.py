"""Every op on every sample, compiled: the same bits as eagerly, its kernel and its composition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import dispatch
from groundup.backends.devices import device_for
from groundup.ops import REGISTRY
from groundup.ops.op import has
from groundup.ops.samples import Case, cases_of
from groundup.program.passes import EXACT
from groundup.program.passes.fusion import fuse_elementwise
from groundup.tensor import Tensor

NAMES = sorted(name for name in REGISTRY if "::" not in name)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def _apply(case: Case, bases: list[Tensor], composed: bool) -> tuple[Tensor, ...]:
    inputs = tuple(o.view(base) for o, base in zip(case.inputs, bases, strict=True))
    op: Any = case.op
    if not composed:
        results = dispatch.apply(op, inputs, device_for("cpu"))
    elif inputs:
        results = op.compose(*inputs)
    else:
        results = op.compose(device=device_for("cpu"))
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_ops_are_eager_ops(name: str) -> None:
    op = REGISTRY[name]
    cases = cases_of(op, op.dtypes[0])
    bases = [[gu.tensor(operand.base) for operand in case.inputs] for case in cases]
    both = (False, True) if has(op, "compose") and not op.broadcasts else (False,)

    def every(bases: list[list[Tensor]]) -> list[Any]:
        """All cases in one program, as their constants and subexpressions meet there."""
        return [
            _apply(case, own, composed)
            for composed in both
            for case, own in zip(cases, bases, strict=True)
        ]

    eager = every(bases)
    run = gu.compile(every, passes=(*EXACT, fuse_elementwise))
    for compiled in (run(bases), run(bases)):
        flat = zip(_flat(eager), _flat(compiled), strict=True)
        for wanted, got in flat:
            assert got.spec is wanted.spec
            np.testing.assert_array_equal(_bits(got), _bits(wanted))
    assert len(run.entries) == 1


def _flat(results: list[Any]) -> list[Tensor]:
    return [t for result in results for t in result]


def _bits(t: Tensor) -> Any:
    """Numbers as they lie, so that NaN equals NaN and 0.0 is not -0.0."""
    array = np.ascontiguousarray(t.detach().numpy())
    return array.view(np.uint8) if array.size else array.shape
