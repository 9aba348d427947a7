"""fused: several elementwise ops in one. Compiled programs contain it, users do not write it.

Its body is data, a tuple of steps in order, so that it can be printed, saved and compared:

    (("mul", (), (0, 1)), ("add", (), (~0, (1.0,))))        x0 * x1 + 1.0

A step is an op's name, its parameters as pairs, and its operands: the number i of an input, ~i for
the result of step i, or a Python number in a tuple of its own. The last step's result is the op's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np

from groundup import dtypes as dt
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED
from groundup.ops.lower import adjustments
from groundup.ops.op import REGISTRY, Cost, Op
from groundup.ops.samples import BadCase, Case, Make, Operand
from groundup.shapes import broadcast_shapes

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__: list[str] = []  # passes make it

MAX_INPUTS: Final = 7  # and one output: a WebGPU kernel may bind eight buffers
MAX_STEPS: Final = 24
Literal: TypeAlias = tuple[bool | int | float]
Place: TypeAlias = int | Literal
Record: TypeAlias = tuple[str, tuple[tuple[str, Any], ...], tuple[Place, ...]]
Body: TypeAlias = tuple[Record, ...]


@attrs.frozen
class Step:
    """One op of a body and where its operands come from: see the module."""

    op: Op
    operands: tuple[Place, ...]

    def record(self) -> Record:
        """As it stands in a body."""
        parameters = tuple((name, getattr(self.op, name)) for name in self.op.fields)
        return (self.op.name, parameters, self.operands)


def steps_of(body: Body) -> tuple[Step, ...]:
    """The steps of a body.

    Raises ConfigError for one that names no elementwise op, looks ahead, or is too long.
    """
    if not 0 < len(body) <= MAX_STEPS:
        raise ConfigError(f"fused: a body has 1 to {MAX_STEPS} steps, got {len(body)}")
    steps = []
    for number, (name, parameters, operands) in enumerate(body):
        kind = REGISTRY.get(name)
        if kind is None or not is_fusible(kind):
            raise ConfigError(f"fused: {name} is no elementwise op of the core")
        if len(operands) != len(kind.inputs):
            raise ConfigError(f"fused: {name} takes {len(kind.inputs)} operands, got {operands}")
        if any(isinstance(place, int) and ~place >= number for place in operands):
            raise ConfigError(f"fused: step {number} reads a later one: {operands}")
        steps.append(Step(kind(**dict(parameters)), operands))
    return tuple(steps)


def is_fusible(kind: type[Op]) -> bool:
    """Whether a body may contain ops of this class: one result per element, of the core."""
    return kind.family == "elementwise" and "::" not in kind.name and kind is not Fused


class Fused(Op, name="fused", family="elementwise"):
    """The elementwise ops of `body`, one after the other, in one pass: see the module.

    Inputs broadcast to one shape. `in_place`: the result has the first input's dtype and may take
    over its memory. Its composition is its steps in order; kernels may keep more digits between
    them, no fewer.
    """

    body: Body
    in_place: bool = False
    accuracy = COMPOSED
    broadcasts = True
    gathers = True
    differentiable = ()  # gradients are traced before anything is fused

    @property
    def aliases(self) -> Mapping[int, int]:  # type: ignore[override]
        """The result may take over the first input."""
        return {0: 0} if self.in_place else {}

    @cached_property  # of the instance: a cache by bodies would take 0.0 and -0.0 for one
    def steps(self) -> tuple[Step, ...]:
        """The body's. Raises ConfigError."""
        return steps_of(self.body)

    @property
    def title(self) -> str:
        """For listings: `fused[add(mul(a, b), 1.0)]`."""
        return f"fused[{expression(self.steps)}]"

    def infer(self, *specs: Spec) -> Spec:
        wanted = 1 + max((i for step in self.steps for i in _inputs(step)), default=-1)
        if len(specs) != wanted or wanted > MAX_INPUTS:
            raise ShapeError(f"fused: its body takes {wanted} inputs, got {len(specs)}")
        shape = broadcast_shapes(*[spec.shape for spec in specs], op=self.name)
        return self.results(*[Spec(shape, spec.dtype) for spec in specs])[-1]

    def results(self, *specs: Spec) -> list[Spec]:
        """What every step gives, for inputs of one shape.

        Raises DTypeError where the operands of a step do not fit each other.
        """
        found: list[Spec] = []
        for step in self.steps:
            given = self.operands(step, specs, found)
            if step.op.broadcasts and adjustments(step.op, given) is not None:
                raise DTypeError(f"fused: {step.op.name} wants one dtype, got {given}")
            found.append(step.op.infer_all(*given)[0])
        return found

    def operands(self, step: Step, specs: Sequence[Spec], results: Sequence[Spec]) -> list[Spec]:
        """What a step is given. A number has the dtype of the arrays that it meets."""
        known = [
            None if isinstance(place, tuple) else specs[place] if place >= 0 else results[~place]
            for place in step.operands
        ]
        promoted = [spec for i in step.op.promotes if (spec := known[i]) is not None]
        if None in known and not promoted:
            raise DTypeError(f"fused: {step.op.name} of numbers alone has no dtype")
        return [promoted[0] if spec is None else spec for spec in known]

    def compose(self, *tensors: Tensor) -> Tensor:
        results: list[Tensor] = []
        for step in self.steps:
            given = [
                place[0] if isinstance(place, tuple)
                else tensors[place] if place >= 0 else results[~place]
                for place in step.operands
            ]  # fmt: skip
            results.append(step.op(*given))
        return results[-1]

    def cost(self, *specs: Spec) -> Cost:
        out = self.infer(*specs)
        moved = sum(spec.nbytes for spec in (*specs, out))
        return Cost(len(self.steps) * out.size, moved)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        def case(name: str, body: Body, *inputs: Operand, in_place: bool = False) -> Case:
            views = any(not x.array.flags.c_contiguous for x in inputs)
            tags = {"view"} if views else {"empty"} if not inputs[0].array.size else set()
            return Case(cls(body=body, in_place=in_place), inputs, name, frozenset(tags))

        def normal(count: int, *shape: int) -> list[Operand]:
            return [make.normal(*shape) for _ in range(count)]

        for shape in ((5, 7), (), (1023,), (3, 0)):
            name = "x".join(map(str, shape)) or "scalar"
            yield case(f"chain-{name}", _CHAIN, *normal(3, *shape), in_place=True)
        yield case("chain-rows", _CHAIN, make.normal(4, 6), make.normal(6), make.normal(4, 1))
        turned = make.normal(6, 4, view=lambda x: x.mT)
        sliced = make.normal(9, 12, view=lambda x: x[1::2, ::-2])
        yield case("chain-views", _CHAIN, turned, sliced, make.normal(4, 6))
        yield case("shared", _SHARED, make.normal(33))
        yield case("choice", _CHOICE, make.normal(4, 5), make.bools(5), in_place=True)
        yield case("cast", _CAST, make.normal(3, 3), make.ints(-5, 5, 3, 3))
        yield case("alone", (("abs", (), (0,)),), make.normal(3))
        yield case("middle", _MIDDLE, *normal(2, 70))
        yield case("again", _AGAIN, make.normal(70), in_place=True)

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x = make.normal(3)
        yield BadCase(cls(body=_SHARED), (x, x), ShapeError, "takes 1 inputs")
        yield BadCase(cls(body=_CHAIN), (x, make.normal(2), x), ShapeError, "do not broadcast")
        yield BadCase(cls(body=_CHAIN), (x, make.of(dt.int32, 3), x), DTypeError, "one dtype")
        numbers: Body = (("add", (), ((1.0,), (2.0,))), ("mul", (), (0, ~0)))
        yield BadCase(cls(body=numbers), (x,), DTypeError, "numbers alone")
        yield BadCase(cls(body=(("sum", (), (0,)),)), (x,), ConfigError, "no elementwise op")
        yield BadCase(cls(body=(("neg", (), (~1,)), _SHARED[0])), (x,), ConfigError, "a later one")


_CHAIN: Final[Body] = (("mul", (), (0, 1)), ("tanh", (), (~0,)), ("add", (), (~1, 2)))
_SHARED: Final[Body] = (  # exp(-|x|) / (exp(-|x|) + 1)
    ("abs", (), (0,)), ("neg", (), (~0,)), ("exp", (), (~1,)), ("add", (), (~2, (1.0,))),
    ("div", (), (~2, ~3)),
)  # fmt: skip
_CHOICE: Final[Body] = (  # x where the condition holds and x > 0.5, else its clamped double
    ("greater", (), (0, (0.5,))), ("logical_and", (), (1, ~0)), ("add", (), (0, 0)),
    ("clamp", (("min", -1), ("max", 2)), (~2,)), ("where", (), (~1, 0, ~3)),
)  # fmt: skip
# A kernel may write before it has read all: silu's over a step's result, and over the input.
_MIDDLE: Final[Body] = (("mul", (), (0, 1)), ("silu", (), (~0,)), ("add", (), (~1, 0)))
_AGAIN: Final[Body] = (("neg", (), (0,)), ("silu", (), (0,)))
_CAST: Final[Body] = (
    ("cast", (("dtype", dt.float32),), (0,)), ("cast", (("dtype", dt.float32),), (1,)),
    ("mul", (), (~0, ~1)),
)  # fmt: skip


def expression(steps: Sequence[Step]) -> str:
    """The body as text, inputs a, b, c ...; what is used more than once comes first, as t0, t1."""
    uses = [place for step in steps for place in step.operands]
    texts: list[str] = []
    shared: list[str] = []
    for number, step in enumerate(steps):
        given = [_text(place, texts) for place in step.operands]
        given += [f"{name}={getattr(step.op, name)!r}" for name in step.op.nondefault()]
        text = f"{step.op.name}({', '.join(given)})"
        if uses.count(~number) > 1:
            text, before = f"t{len(shared)}", text
            shared.append(f"{text} = {before}; ")
        texts.append(text)
    return "".join(shared) + texts[-1]


def printed(
    op: Fused,
    specs: Sequence[Spec],
    text: Callable[[Op, Sequence[dt.DType]], str | None],
    number: Callable[[float, dt.DType], str],
) -> list[str] | Op:
    """Each step as an expression of a backend's language; the op of one that has no text there.

    `text` gives an op's expression of a, b, c for operands of such dtypes, `number` that of a
    number. Inputs are called x0, x1 ..., the results of steps t0, t1 ...
    """
    results = op.results(*specs)
    lines = []
    for step in op.steps:
        given = op.operands(step, specs, results)
        found = text(step.op, [spec.dtype for spec in given])
        if found is None:
            return step.op
        names = {
            letter(i): number(place[0], spec.dtype) if isinstance(place, tuple)
            else f"x{place}" if place >= 0 else f"t{~place}"
            for i, (place, spec) in enumerate(zip(step.operands, given, strict=True))
        }  # fmt: skip
        lines.append(_LETTER.sub(partial(_named, names), found))
    return lines


_LETTER: Final = re.compile(r"\b[abc]\b")


def _named(names: Mapping[str, str], found: re.Match[str]) -> str:
    return names[found[0]]


def letter(number: int) -> str:
    """What an input is called in texts: a, b, c ..."""
    return chr(ord("a") + number)


def _text(place: Place, results: Sequence[str]) -> str:
    if isinstance(place, tuple):
        return repr(place[0])
    return letter(place) if place >= 0 else results[~place]


def _inputs(step: Step) -> list[int]:
    return [place for place in step.operands if isinstance(place, int) and place >= 0]


def number_in(value: float, dtype: dt.DType) -> Any:
    """A body's number as an array of rank 0, as the dtype holds it."""
    with np.errstate(over="ignore"):  # infinity in a narrower float
        return np.asarray(value).astype(dtype.numpy)
