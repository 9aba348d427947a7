"""`groundup conformance explain OP`: what is asked of an op, and how far its results may be off."""

from __future__ import annotations

import inspect
from collections import Counter

import numpy as np

from groundup.backends.api import DeviceInfo
from groundup.ops.op import Op
from groundup_conformance import cases
from groundup_conformance.budgets import Profile
from groundup_conformance.coverage import GENERATORS, KINDS
from groundup_conformance.oracle import forward, has_reference
from groundup_conformance.samples import Sample, base

_MEANING = {
    "exact": "the result itself, bit by bit",
    "rounded": "the exact result, rounded once",
    "transcendental": "c units in the last place, or what c roundings of the argument do",
    "contraction": "(8 + 2 sqrt(terms)) roundings of the sum of the terms' sizes",
    "composed": "what its formula's steps add up to",
}


def explain(op: type[Op], info: DeviceInfo, profile: Profile) -> str:
    """The op's meaning, its accuracy class, its cases by class, and budgets of its samples."""
    accuracy = op.accuracy
    factor = f", c = {accuracy.factor:g}" if accuracy.kind == "transcendental" else ""
    lines = [
        f"{op.name} ({op.family})",
        inspect.cleandoc(op.__doc__ or ""),
        "",
        f"accuracy: {accuracy.kind}{factor}: {_MEANING[accuracy.kind]}",
        f"level: {cases.level_of(op)} forward"
        + (", 2 gradient" if op.differentiable else ", no gradient"),
        "",
        "cases:",
    ]
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for generator in GENERATORS:
        for check in generator({op.name: op}, info):
            counts[check.kind] += 1
            examples.setdefault(check.kind, str(check.id))
    lines += [f"  {kind:12} {counts[kind]:5}  {examples[kind]}" for kind in KINDS if counts[kind]]
    lines += ["", f"budgets in profile {profile.name}, in units in the last place of the result:"]
    if not has_reference(op):
        return "\n".join([*lines, "  none: the oracle has no reference for it"])
    for dtype in op.dtypes:
        sample = base(op, dtype)
        if sample is not None and dtype.is_floating:
            lines.append(f"  {dtype!s:9} {sample.name}: {_budgets(sample, profile)}")
    return "\n".join(lines)


def _budgets(sample: Sample, profile: Profile) -> str:
    from groundup_conformance.budgets.units import ulp

    parts = []
    for expected in forward(sample.op, sample.arrays, profile):
        if not expected.dtype.is_floating or not expected.value.size:
            parts.append("exact")
            continue
        with np.errstate(all="ignore"):
            units = np.broadcast_to(expected.budget, expected.value.shape)
            units = units / ulp(expected.value, expected.dtype)
        units = units[np.isfinite(units)]
        parts.append(f"{np.median(units):.3g} (up to {units.max():.3g})" if units.size else "any")
    return "; ".join(parts)
