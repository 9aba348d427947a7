"""Whether a device computed a program right: every step by the operands that the device had.

So errors do not add up, and the op that is wrong is the one that is named.
"""

from __future__ import annotations

import numpy as np

from groundup.backends.api import Device
from groundup_conformance.budgets import Expected, Profile, Verdict
from groundup_conformance.budgets.units import Array
from groundup_conformance.fuzz.programs import Program
from groundup_conformance.fuzz.running import Did, Outcome, check_lean, run, run_compiled
from groundup_conformance.judging import sum_of
from groundup_conformance.memory import Placed
from groundup_conformance.oracle import backward, forward
from groundup_conformance.running import Failed, Figures

_SAME_BITS_FUSED = frozenset({"cpu"})  # devices whose fused ops compute the bits of single ones


def check(program: Program, device: Device, profile: Profile) -> Figures:
    """Run a program eagerly and compiled, and judge both. Raises Failed."""
    eager = run(program, device)
    figures = judge(eager, profile)
    compiled = run_compiled(eager, device)
    try:
        figures = figures.worst(judge(compiled, profile))
    except Failed as error:
        raise Failed(f"compiled: {error}", error.figures) from None
    if device.info.name in _SAME_BITS_FUSED:
        check_lean(eager, device)
    return figures


def judge(outcome: Outcome, profile: Profile) -> Figures:
    """Results, writes and gradients. Raises Failed."""
    figures = judge_results(outcome, profile)
    for number, did in enumerate(outcome.did):
        if did.step.writes:
            judge_write(number, did, outcome)
    return figures.worst(judge_gradients(outcome, profile))


def judge_results(outcome: Outcome, profile: Profile) -> Figures:
    """Each step's results, from the operands that the device had."""
    figures = Figures()
    arrays = outcome.arrays
    for number, did in enumerate(outcome.did):
        if did.step.writes:
            continue
        given = [arrays[i] for i in did.given]
        for place, wanted in zip(did.made, forward(did.step.op, given, profile), strict=True):
            if decided(profile, wanted.value, *given):
                figures = figures.worst(_judged(_named(number, did), wanted.judge(arrays[place])))
    return figures


def judge_write(number: int, did: Did, outcome: Outcome) -> None:
    """All values that share the memory, bit for bit: those of the window are new, others stay."""
    arrays = outcome.arrays
    memory = arrays[did.before].reshape(-1).copy()
    assert did.target is not None
    target = Placed(memory, did.target.layout.shape, did.target.layout.strides, did.target.offset)
    target.array[...] = arrays[did.given[1]]
    for window in did.windows:
        shown = Placed(memory, window.layout.shape, window.layout.strides, window.offset).array
        got = arrays[window.after]
        if got.tobytes() != shown.tobytes():
            raise Failed(f"{_named(number, did)}: a view shows {got}, wanted {shown}")


def judge_gradients(outcome: Outcome, profile: Profile) -> Figures:
    """Each value's gradient: the sum of what its uses give, from the gradients that there were."""
    gradients = outcome.gradients
    parts: list[list[Expected]] = [[] for _ in gradients]
    unclear: set[int] = set()
    for did, span in zip(outcome.did, outcome.program.specs()[1], strict=True):
        given = [outcome.arrays[i] for i in did.given]
        cotangents = [gradients[i] for i in span]
        known = [c for c in cotangents if c is not None]
        if not known:
            continue
        if not decided(profile, *given, *known):
            unclear |= set(did.step.operands)
        found = backward(did.step.op, given, cotangents, profile)
        for operand, part in zip(did.step.operands, found, strict=True):
            if part is not None:
                parts[operand].append(part)
    figures = Figures()
    for i, got in enumerate(gradients[:-1]):
        wanted = sum_of(parts[i])
        if got is None or wanted is None or i in unclear:
            continue
        if decided(profile, wanted.value):
            figures = figures.worst(_judged(f"the gradient of value {i}", wanted.judge(got)))
    return figures


def _named(number: int, did: Did) -> str:
    return f"step {number}, {did.step.op!r} of values {list(did.step.operands)}"


def _judged(what: str, verdict: Verdict) -> Figures:
    figures = Figures(verdict.ratio, verdict.ulp)
    if not verdict.ok:
        raise Failed(f"{what}: {verdict}", figures)
    return figures


def decided(profile: Profile, *arrays: Array) -> bool:
    """Whether the profile says what comes of these values: wgsl knows no NaN and no infinity."""
    if profile.name != "wgsl":
        return True
    floats = [a for a in arrays if a.dtype.kind not in "iub"]
    return all(bool(np.isfinite(a.astype(np.float64)).all()) for a in floats)
