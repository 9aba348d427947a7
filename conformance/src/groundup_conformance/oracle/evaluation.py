"""Evaluating references: `forward` and `backward` of an op, on arrays, for a profile."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import numpy as np

from groundup.dtypes import DType, as_dtype
from groundup.errors import UnsupportedOp
from groundup.layout import Spec
from groundup.ops.lower import adjustments
from groundup.ops.op import Op, has
from groundup.shapes import Shape
from groundup_conformance.budgets.expected import Expected
from groundup_conformance.budgets.profile import Profile
from groundup_conformance.budgets.units import Array, flushed
from groundup_conformance.oracle.moves import expand, select
from groundup_conformance.oracle.number import Number, backpropagate, leaf
from groundup_conformance.oracle.registry import (
    CREATED,
    EXACT,
    FILLS,
    GRADIENTS,
    MOVES,
    NUMBERS,
    Undecided,
)

Value: TypeAlias = "Number | Undecided | Array"
E = TypeVar("E", Expected, Expected | None)
# Beside what only moves elements, these keep or flip the sign of a zero.
_SIGNED: Final = frozenset({"abs", "cast", "neg", "sort", "topk"})
Change: TypeAlias = tuple[DType | None, Shape | None]


def has_reference(op: type[Op]) -> bool:
    """Whether the oracle knows what an op means.

    Ops of the core need a reference. Those of other packages may do with a composition, which is
    evaluated over the references of its parts.
    """
    return known(op.name) or ("::" in op.name and has(op, "compose"))


def forward(op: Op, inputs: Sequence[Array], profile: Profile) -> tuple[Expected, ...]:
    """What every output of `op` must be. `inputs` are arrays in the case's dtypes, of any strides.

    Raises UnsupportedOp without reference and composition, other GroundupErrors for inputs that the
    op refuses.
    """
    return _either_way(lambda inputs: _forward(op, inputs, profile), profile, inputs)


def backward(
    op: Op, inputs: Sequence[Array], cotangents: Sequence[Array | None], profile: Profile
) -> tuple[Expected | None, ...]:
    """What the gradient of every input must be, given those of the outputs (None: no gradient).

    None for inputs that have no gradient, or one that is 0 everywhere. Raises as `forward`.
    """

    def reference(
        inputs: Sequence[Array], cotangents: Sequence[Array | None]
    ) -> tuple[Expected | None, ...]:
        return _backward(op, inputs, cotangents, profile)

    return _either_way(reference, profile, inputs, cotangents)


def _either_way(
    reference: Callable[..., tuple[E, ...]], profile: Profile, *given: Sequence[Array | None]
) -> tuple[E, ...]:
    """What the reference says of what is given, and of zeros in place of subnormal numbers if a
    device may read them so.
    """
    arrays = [[None if x is None else np.asarray(x) for x in each] for each in given]
    with np.errstate(all="ignore"):
        found = reference(*arrays)
        if not profile.flushes:
            return found
        zeros = [[None if x is None else flushed(x) for x in each] for each in arrays]
        if all(map(operator.is_, chain(*zeros), chain(*arrays))):
            return found
        pairs = zip(found, reference(*zeros), strict=True)
        return tuple(x and attrs.evolve(x, flushed=y) for x, y in pairs)


def _forward(op: Op, inputs: Sequence[Array], profile: Profile) -> tuple[Expected, ...]:
    if not _is_known(op):
        from groundup_conformance.oracle.fallback import composed_forward

        return composed_forward(op, inputs, profile)
    found = _evaluate(op, inputs, profile, numbers=False)
    pairs = zip(found.outputs, found.specs, strict=True)
    return tuple(as_expected(y, spec, profile, found.signed) for y, spec in pairs)


def _backward(
    op: Op, inputs: Sequence[Array], cotangents: Sequence[Array | None], profile: Profile
) -> tuple[Expected | None, ...]:
    if not _is_known(op):
        from groundup_conformance.oracle.fallback import composed_backward

        return composed_backward(op, inputs, cotangents, profile)
    gradients = _gradients(op, inputs, cotangents, profile)
    return tuple(
        None if g is None else as_expected(g, Spec(x.shape, as_dtype(x.dtype)), profile)
        for g, x in zip(gradients, inputs, strict=True)
    )


def as_expected(value: Value, spec: Spec, profile: Profile, signed: bool = False) -> Expected:
    """What a device may return for one output."""
    if isinstance(value, Number):
        assert value.dtype is spec.dtype, f"a reference gave {value.dtype}, not {spec}"
        return Expected(value.value, spec.dtype, value.budget, profile, signed)
    if isinstance(value, Undecided):
        return Expected(value.values, spec.dtype, np.where(value.free, np.inf, 0.0), profile)
    found = value.astype(np.float64) if spec.dtype.is_floating else value
    return Expected(found, spec.dtype, np.zeros(()), profile, signed)


def evaluate_numbers(op: Op, operands: Sequence[Value], profile: Profile) -> tuple[Value, ...]:
    """The outputs of `op` for operands of the shapes and dtypes that the op itself sees."""
    if op.name in CREATED:
        return _tuple(CREATED[op.name](op, profile, *operands))
    if op.name in NUMBERS and any(isinstance(x, Number) for x in operands):
        return _tuple(NUMBERS[op.name](op, *operands))
    if op.name in MOVES and any(isinstance(x, Number) for x in operands):
        return _moved(op, operands)
    arrays = [_plain(x) for x in operands]
    return _exact(op, arrays)


@attrs.frozen(eq=False)
class _Evaluated:
    """An op's inputs as leaves, what its reference made of them, the outputs' specs."""

    inputs: Sequence[Value]
    outputs: Sequence[Value]
    specs: Sequence[Spec]
    signed: bool  # the sign of zeros counts


def _is_known(op: Op) -> bool:
    """Whether an op has a reference of its own. Raises UnsupportedOp if it cannot do without."""
    if not (known(op.name) or has(op, "compose")):
        raise UnsupportedOp(
            f"{op.name}: the oracle has no reference for it, and it has no composition",
            hint="register one with groundup_conformance.oracle.reference",
        )
    return known(op.name)


def known(name: str) -> bool:
    """Whether a reference of its own is registered for the op of that name."""
    return any(name in table for table in (NUMBERS, EXACT, MOVES, CREATED))


def _evaluate(op: Op, inputs: Sequence[Array], profile: Profile, numbers: bool) -> _Evaluated:
    """Run a reference; `numbers`: on Numbers even where plain arrays would do, for gradients."""
    specs = [Spec(x.shape, as_dtype(x.dtype)) for x in inputs]
    changes: Sequence[Change] = ((None, None),) * len(specs)
    if op.broadcasts:
        changes = adjustments(op, specs) or changes
    seen = [
        Spec(spec.shape if shape is None else shape, dtype or spec.dtype)
        for spec, (dtype, shape) in zip(specs, changes, strict=True)
    ]
    outs = op.infer_all(*seen)
    if op.name in CREATED:
        return _Evaluated(inputs, evaluate_numbers(op, inputs, profile), outs, False)
    floating = any(spec.dtype.is_floating for spec in seen)
    signed = op.name in MOVES or op.name in _SIGNED
    if (op.name in MOVES and not (numbers and floating)) or (
        op.name in EXACT and not (floating and op.name in NUMBERS)
    ):
        arrays = [_array(x, change) for x, change in zip(inputs, changes, strict=True)]
        return _Evaluated(inputs, _exact(op, arrays), outs, signed)
    given = [_leaf(x, profile) for x in inputs]
    operands = [_operand(x, c, profile) for x, c in zip(given, changes, strict=True)]
    return _Evaluated(given, evaluate_numbers(op, operands, profile), outs, signed)


def _gradients(
    op: Op, inputs: Sequence[Array], cotangents: Sequence[Array | None], profile: Profile
) -> Sequence[Number | None]:
    found = _evaluate(op, inputs, profile, numbers=True)
    pulled: list[Number | None] = [
        None if c is None else leaf(c, spec.dtype, profile)
        for c, spec in zip(cotangents, found.specs, strict=True)
    ]
    if op.name in GRADIENTS:
        stored = [y.stored() if isinstance(y, Number) else y for y in found.outputs]
        filled = [
            y.constant(np.zeros(y.shape)) if c is None and isinstance(y, Number) else c
            for c, y in zip(pulled, found.outputs, strict=True)
        ]
        results = _tuple(GRADIENTS[op.name](op, found.inputs, stored, filled))
        return (*results, *[None] * (len(inputs) - len(results)))
    pairs = [
        (y, c) for y, c in zip(found.outputs, pulled, strict=True) if isinstance(y, Number) and c
    ]
    leaves = [x for x in found.inputs if isinstance(x, Number)]
    reached = iter(backpropagate([y for y, _ in pairs], [c for _, c in pairs], leaves))
    return [next(reached) if isinstance(x, Number) else None for x in found.inputs]


def _leaf(array: Array, profile: Profile) -> Number | Array:
    dtype = as_dtype(array.dtype)
    return leaf(array, dtype, profile) if dtype.is_floating else array


def _operand(x: Number | Array, change: Change, profile: Profile) -> Value:
    """After the cast and expansion that the core inserts; integers become floats here."""
    dtype, shape = change
    if dtype is not None:
        x = x.to(dtype) if isinstance(x, Number) else _leaf(x.astype(dtype.numpy), profile)
    if shape is None:
        return x
    return expand(x, shape) if isinstance(x, Number) else np.broadcast_to(x, shape)


def _plain(x: Value) -> Array:
    """As an ideal device holds it."""
    if isinstance(x, Number):
        return x.rounded()
    return x.values if isinstance(x, Undecided) else x


def _array(x: Array, change: Change) -> Array:
    dtype, shape = change
    x = x if dtype is None else x.astype(dtype.numpy)
    return x if shape is None else np.broadcast_to(x, shape)


def _exact(op: Op, arrays: Sequence[Array]) -> tuple[Array, ...]:
    function = MOVES.get(op.name) or EXACT[op.name]
    if op.name in FILLS:
        fill = np.asarray(FILLS[op.name](op)).astype(arrays[0].dtype)
        return _tuple(function(op, *arrays, fill))
    return _tuple(function(op, *arrays))


def _moved(op: Op, operands: Sequence[Value]) -> tuple[Value, ...]:
    """A movement's outputs, each a selection from the operands that are Numbers."""
    places = [i for i, x in enumerate(operands) if isinstance(x, Number)]
    sources = [x for x in operands if isinstance(x, Number)]
    extra = [sources[0].constant(FILLS[op.name](op))] if op.name in FILLS else []

    def outputs(*arrays: Array) -> tuple[Array, ...]:
        full: list[Any] = [*operands, *extra]
        for place, array in zip([*places, len(operands)], arrays, strict=False):
            full[place] = array
        return _tuple(MOVES[op.name](op, *full))

    count = len(op.outputs)
    return tuple(select(lambda *a, i=i: outputs(*a)[i], *sources, *extra) for i in range(count))


def _tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)
