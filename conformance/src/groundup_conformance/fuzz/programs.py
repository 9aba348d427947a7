"""Small programs as data: inputs made from seeds, and ops on values by number.

A program is one line of JSON, so that a find can be kept:

    {"inputs": [[[2, 3], "float32", 7]], "steps": [["permute", {"axes": [1, 0]}, [0]], ...]}

Values are numbered from 0: the inputs, then the results of each step. A step `assign` makes no
value: it writes its second operand, broadcast, into the memory of its first, which must be an input
or a view of one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import attrs
import numpy as np

from groundup.dtypes import DType, as_dtype
from groundup.errors import ConfigError, GroundupError, ShapeError
from groundup.layout import Spec
from groundup.ops.movement import Assign, Flip, Permute, Slice
from groundup.ops.op import Op
from groundup.ops.third_party import all_ops
from groundup.shapes import broadcast_shapes
from groundup_conformance.budgets.units import Array
from groundup_conformance.samples import outputs

CORPUS: Final = "corpus.jsonl"  # beside this file: every find so far, a program a line
_DTYPE: Final = "dtype:"  # how a dtype among an op's parameters is written
_ALWAYS_VIEWS: Final = (Permute, Slice, Flip)  # a reshape may be a copy


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

    @property
    def writes(self) -> bool:
        """Whether it changes memory instead of making a value."""
        return type(self.op) is Assign

    def check(self, specs: Sequence[Spec], roots: Sequence[int | None]) -> None:
        """Raises ShapeError or DTypeError for a write that cannot be."""
        target, source = self.operands
        if roots[target] is None:
            raise ShapeError(f"assign: value {target} is no view of an input")
        shape = broadcast_shapes(specs[target].shape, specs[source].shape)
        self.op.infer(specs[target], Spec(shape, specs[source].dtype))

    def root(self, roots: Sequence[int | None]) -> int | None:
        """The input whose memory its results are sure to share, None for memory of their own."""
        return roots[self.operands[0]] if isinstance(self.op, _ALWAYS_VIEWS) else None


@attrs.frozen
class Program:
    """Inputs and steps."""

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]

    def specs(self) -> tuple[list[Spec], list[range]]:
        """The specs of all values, and which of them each step makes. Raises as `infer`."""
        specs = [Spec(x.shape, x.dtype) for x in self.inputs]
        roots: list[int | None] = list(range(len(specs)))
        spans = []
        for step in self.steps:
            before = len(specs)
            if step.writes:
                step.check(specs, roots)
            else:
                specs += outputs(step.op, [specs[i] for i in step.operands])
                roots += [step.root(roots)] * (len(specs) - before)
            spans.append(range(before, len(specs)))
        return specs, spans

    def written(self) -> set[int]:
        """The inputs that a step writes to."""
        roots: list[int | None] = list(range(len(self.inputs)))
        found: set[int] = set()
        for step, span in zip(self.steps, self.specs()[1], strict=True):
            roots += [step.root(roots)] * len(span)
            root = roots[step.operands[0]] if step.writes else None
            if root is not None:
                found.add(root)
        return found

    def without_step(self, number: int) -> Program | None:
        """With the step's first operand in the place of its result; None if that does not fit."""
        try:
            _, spans = self.specs()
        except GroundupError:
            return None
        place, step = spans[number].start, self.steps[number]
        steps = (*self.steps[:number], *self.steps[number + 1 :])
        if step.writes:
            less = Program(self.inputs, steps)
            return less if less.fits() else None
        if len(spans[number]) != 1:
            return None
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
