"""Small programs as data: inputs made from seeds, and ops on values by number.

A program is one line of JSON, so that a find can be kept:

    {"inputs": [[[2, 3], "float32", 7]], "steps": [["permute", {"axes": [1, 0]}, [0]], ...]}

Values are numbered from 0: the inputs, then the results of each step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import attrs
import numpy as np

import groundup as gu
from groundup import dispatch
from groundup.backends.api import Device
from groundup.dtypes import DType, as_dtype
from groundup.errors import ConfigError, GroundupError
from groundup.layout import Spec
from groundup.ops.op import Op
from groundup.ops.third_party import all_ops
from groundup.tensor import Tensor
from groundup_conformance.budgets import Expected, Profile, Verdict
from groundup_conformance.budgets.units import Array
from groundup_conformance.memory import read
from groundup_conformance.oracle import backward, forward
from groundup_conformance.running import Failed, Figures
from groundup_conformance.samples import outputs

CORPUS: Final = "corpus.jsonl"  # beside this file: every find so far, a program a line
_DTYPE: Final = "dtype:"  # how a dtype among an op's parameters is written


@attrs.frozen
class Input:
    """An array of values from a seed."""

    shape: tuple[int, ...]
    dtype: DType
    seed: int

    @property
    def array(self) -> Array:
        """Floats are normal times 2, integers within +-9."""
        rng = np.random.Generator(np.random.PCG64(self.seed))
        if self.dtype.kind == "bool":
            return np.asarray(rng.uniform(size=self.shape) < 0.5)
        values = np.asarray(rng.standard_normal(self.shape))
        if self.dtype.is_floating:
            return (2 * values).astype(self.dtype.numpy)
        low, high = self.dtype.range
        return np.clip(np.rint(3 * values), max(low, -9), min(high, 9)).astype(self.dtype.numpy)


@attrs.frozen
class Step:
    """An op on values by number."""

    op: Op
    operands: tuple[int, ...]


@attrs.frozen
class Program:
    """Inputs and steps."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]

    def specs(self) -> tuple[list[Spec], list[range]]:
        """The specs of all values, and which of them each step makes. Raises as `infer`."""
        specs = [Spec(x.shape, x.dtype) for x in self.inputs]
        spans = []
        for step in self.steps:
            before = len(specs)
            specs += outputs(step.op, [specs[i] for i in step.operands])
            spans.append(range(before, len(specs)))
        return specs, spans

    def without_step(self, number: int) -> Program | None:
        """With the step's first operand in the place of its result; None if that does not fit."""
        try:
            _, spans = self.specs()
        except GroundupError:
            return None
        place, step = spans[number].start, self.steps[number]
        if len(spans[number]) != 1:
            return None
        steps = (*self.steps[:number], *self.steps[number + 1 :])
        made = Program(self.inputs, _renumbered(steps, place, step.operands[0]))
        return made if made.fits() else None

    def without_input(self, number: int) -> Program | None:
        """Without an input that nothing uses, or with the first one in its place."""
        if len(self.inputs) == 1:
            return None
        inputs = (*self.inputs[:number], *self.inputs[number + 1 :])
        other = 0 if number else 1
        made = Program(inputs, _renumbered(self.steps, number, other))
        return made if made.fits() else None

    def fits(self) -> bool:
        """Whether every op accepts what it is given."""
        try:
            self.specs()
        except GroundupError:
            return False
        return bool(self.steps)

    def to_json(self) -> str:
        """One line."""
        inputs = [[list(x.shape), x.dtype.name, x.seed] for x in self.inputs]
        steps = [[s.op.name, _parameters(s.op), list(s.operands)] for s in self.steps]
        return json.dumps({"inputs": inputs, "steps": steps})

    @classmethod
    def from_json(cls, line: str) -> Program:
        """The program of a line. Raises ConfigError for one that is not in order."""
        try:
            data = json.loads(line)
            inputs = tuple(Input(tuple(s), as_dtype(d), seed) for s, d, seed in data["inputs"])
            ops = all_ops()
            steps = tuple(
                Step(ops[name](**{k: _decoded(v) for k, v in given.items()}), tuple(operands))
                for name, given, operands in data["steps"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"no program: {error!r} in {line[:80]}") from error
        return cls(inputs, steps)


def _renumbered(steps: Sequence[Step], gone: int, instead: int) -> tuple[Step, ...]:
    """The steps when value `gone` no longer exists, and `instead` (numbered as before) is used."""

    def number(value: int) -> int:
        value = instead if value == gone else value
        return value - (value > gone)

    return tuple(Step(step.op, tuple(map(number, step.operands))) for step in steps)


def _parameters(op: Op) -> dict[str, Any]:
    return {name: _encoded(getattr(op, name)) for name in op.nondefault()}


def _encoded(value: Any) -> Any:
    if isinstance(value, DType):
        return f"{_DTYPE}{value.name}"
    return [_encoded(v) for v in value] if isinstance(value, tuple) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_DTYPE):
        return as_dtype(value.removeprefix(_DTYPE))
    return tuple(_decoded(v) for v in value) if isinstance(value, list) else value


def corpus() -> list[str]:
    """The programs that every device must get right, one line each."""
    text = resources.files(__package__).joinpath(CORPUS).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


# ---- running ----


@attrs.frozen(eq=False)
class Outcome:
    """What a device made of a program: the arrays of all values, and their gradients."""

    program: Program
    arrays: Sequence[Array]
    gradients: Sequence[Array | None]  # of the last value, for ones
    spans: Sequence[range]  # the values that each step makes


def check(program: Program, device: Device, profile: Profile) -> Figures:
    """Run all of it, then judge each result and gradient by what the device computed before.

    So errors do not add up, and the op that is wrong is the one that is named. Raises Failed.
    """
    outcome = run(program, device)
    return judge_results(outcome, profile).worst(judge_gradients(outcome, profile))


def run(program: Program, device: Device) -> Outcome:
    """Compute everything, then read it: reading in between would keep launches in order."""
    values = [gu.from_numpy(x.array, device) for x in program.inputs]
    for value in values:
        if value.dtype.is_floating:
            value.requires_grad_()
    for step in program.steps:
        results = dispatch.apply(step.op, tuple(values[i] for i in step.operands), device)
        values += results if isinstance(results, tuple) else (results,)
    _, spans = program.specs()
    gradients = _gradients(values)
    pulled = [None if g is None else read(g) for g in gradients]
    return Outcome(program, [read(value) for value in values], pulled, spans)


def _gradients(values: Sequence[Tensor]) -> list[Tensor | None]:
    last = values[-1]
    if not last.requires_grad:
        return [None] * len(values)
    ones = dispatch.constant(1.0, last.dtype, last.shape, last.device)
    tracked = [value for value in values[:-1] if value.requires_grad]
    found = dict(zip(map(id, tracked), gu.grad(last, tracked, [ones]), strict=True))
    return [ones if value is last else found.get(id(value)) for value in values]


# ---- judging ----


def judge_results(outcome: Outcome, profile: Profile) -> Figures:
    """Each step's results, from the operands that the device had."""
    figures = Figures()
    arrays = outcome.arrays
    for number, (step, span) in enumerate(zip(outcome.program.steps, outcome.spans, strict=True)):
        given = [arrays[i] for i in step.operands]
        for place, wanted in zip(span, forward(step.op, given, profile), strict=True):
            if decided(profile, wanted.value, *given):
                what = f"step {number}, {step.op!r} of values {list(step.operands)}"
                figures = figures.worst(_judged(what, wanted.judge(arrays[place])))
    return figures


def judge_gradients(outcome: Outcome, profile: Profile) -> Figures:
    """Each value's gradient: the sum of what its uses give, from the gradients that there were."""
    arrays, gradients = outcome.arrays, outcome.gradients
    parts: list[list[Expected]] = [[] for _ in arrays]
    unclear: set[int] = set()
    for step, span in zip(outcome.program.steps, outcome.spans, strict=True):
        given = [arrays[i] for i in step.operands]
        cotangents = [gradients[i] for i in span]
        known = [c for c in cotangents if c is not None]
        if not known:
            continue
        if not decided(profile, *given, *known):
            unclear |= set(step.operands)
        found = backward(step.op, given, cotangents, profile)
        for operand, part in zip(step.operands, found, strict=True):
            if part is not None:
                parts[operand].append(part)
    figures = Figures()
    for i, got in enumerate(gradients[:-1]):
        if got is None or not parts[i] or i in unclear:
            continue
        wanted = _sum(parts[i])
        if decided(profile, wanted.value):
            figures = figures.worst(_judged(f"the gradient of value {i}", wanted.judge(got)))
    return figures


def _sum(parts: Sequence[Expected]) -> Expected:
    first = parts[0]
    if len(parts) == 1:
        return first
    value = np.sum([part.value for part in parts], axis=0)
    sizes = np.sum([np.abs(part.value) for part in parts], axis=0)
    budget = np.sum([part.budget + np.zeros(value.shape) for part in parts], axis=0)
    budget = budget + (len(parts) - 1) * first.profile.rounded(sizes, first.dtype)
    return attrs.evolve(first, value=value, budget=budget)


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
