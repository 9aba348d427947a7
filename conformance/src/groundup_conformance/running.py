"""Running one case: inputs on the device, the op under test, results against the oracle.

Each function returns the figures of a case that passes and raises `Failed` for one that does not.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import numpy as np

import groundup
from groundup import dispatch
from groundup.backends.api import Device
from groundup.errors import GroundupError, UnsupportedDtype
from groundup.layout import Layout
from groundup.ops.lower import lower
from groundup.ops.op import Op
from groundup.tensor import Tensor
from groundup_conformance.budgets import Expected, Profile
from groundup_conformance.budgets.units import Array
from groundup_conformance.cases import Check, alike
from groundup_conformance.judging import (
    Failed,
    Figures,
    input_name,
    judge_all,
    judge_arrays,
    judge_gradient,
    raise_damage,
    same_bits,
    sum_of,
    unlike,
)
from groundup_conformance.layouts import SHARING
from groundup_conformance.memory import Guard, Placed, placed
from groundup_conformance.samples import Sample, seen

T = TypeVar("T")
_REMEMBERED: Final = 24  # results of the oracle that are kept for the next layout


class Oracle:
    """References for one profile; remembers the last results, which other layouts ask for again."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._known: OrderedDict[Any, Any] = OrderedDict()

    def forward(self, check: Check, arrays: Sequence[Array]) -> tuple[Expected, ...]:
        """What the results must be."""
        from groundup_conformance.oracle import forward

        op = _sample(check).op
        return self._remember("forward", check, lambda: forward(op, arrays, self.profile))

    def backward(
        self, check: Check, arrays: Sequence[Array], cotangents: Sequence[Array | None]
    ) -> tuple[Expected | None, ...]:
        """What the gradients must be."""
        from groundup_conformance.oracle import backward

        op = _sample(check).op
        return self._remember(
            "backward", check, lambda: backward(op, arrays, cotangents, self.profile)
        )

    def _remember(self, way: str, check: Check, compute: Callable[[], T]) -> T:
        sample, variant = check.sample, check.id.variant
        key = (
            way,
            sample,
            variant,
            check.id.layout if check.id.layout in SHARING else "",
        )  # the others have the same values
        if variant in ("overlap", "shared") or (sample and sample.source):
            return compute()
        if key in self._known:
            self._known.move_to_end(key)
        else:
            self._known[key] = compute()
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return cast("T", self._known[key])


# ---- what is asked of a case ----


def forward(check: Check, device: Device, oracle: Oracle) -> Figures:
    """The op's results are within budget; inputs and the memory around all stay as they were."""
    sample = _sample(check)
    operands = check.operands()
    with Guard(device) as guard:
        results = apply(sample.op, [guard.put(x) for x in operands], device)
        arrays = [x.array for x in operands]
        expected = oracle.forward(check, sample.tiles.first(arrays) if sample.tiles else arrays)
        return judge_all(guard, sample.op, operands, results, expected)


def gradient(check: Check, device: Device, oracle: Oracle) -> Figures:
    """The gradients of all inputs of floats, for a random gradient of the results."""
    op, operands = _sample(check).op, check.operands()
    with Guard(device) as guard:
        found = gradients_of(guard, op, operands, check)
        if found is None:  # nothing that depends on the inputs carries a gradient
            return Figures()
        gradients, cotangents = found
        expected = oracle.backward(check, [x.array for x in operands], cotangents)
        figures = Figures()
        for place, (got, wanted) in enumerate(zip(gradients, expected, strict=True)):
            if not operands[place].dtype.is_floating:
                continue
            what = f"the gradient of {input_name(op, place)}"
            figures = figures.worst(judge_gradient(guard, what, got, wanted, operands[place]))
        raise_damage(guard.check(), figures)
        return figures


def twice(check: Check, device: Device, oracle: Oracle) -> Figures:
    """Result and gradients have the same bits whatever the memory held before."""
    op, operands = _sample(check).op, check.operands()
    runs: list[list[Array]] = []
    for kind in (0, 1):
        with Guard(device, kind) as guard:
            results = apply(op, [guard.put(x) for x in operands], device)
            got = [guard.fetch(y)[0] for y in results]
            if _differentiable(check, operands):
                found = gradients_of(guard, op, operands, check)
                got += [guard.fetch(g)[0] for g in found[0] if g is not None] if found else []
            raise_damage(guard.check(everything=True))
        runs.append(got)
    for index, (one, two) in enumerate(zip(*runs, strict=True)):
        different = unlike(one, two)
        if different.any():
            at = tuple(int(i) for i in np.argwhere(different)[0])
            raise Failed(
                f"result {index} differs between two runs: at {at} {one[at]!r}, then {two[at]!r}; "
                f"{int(different.sum())} of {one.size} elements\n"
                "guess: elements that are never written, or an order of summation that varies"
            )
    return Figures()


def in_place(check: Check, device: Device, oracle: Oracle) -> Figures:
    """`dispatch.update` leaves in the aliased inputs what the op returns; the rest stays."""
    op, operands = _sample(check).op, check.operands()
    operands = tuple(x if x.layout.is_row_major else placed(x.array) for x in operands)
    with Guard(device) as guard:
        functional = apply(op, [guard.put(x) for x in operands], device)
        wanted = [guard.fetch(y)[0] for y in functional]
    with Guard(device) as guard:
        inputs = tuple(guard.put(x) for x in operands)
        versions = [(x._view.root or x._view).version for x in inputs]
        dispatch.update(op, inputs)
        for output, place in op.aliases.items():
            got, damage = guard.fetch(inputs[place])
            raise_damage(damage)
            if not same_bits(got, wanted[output]):
                raise Failed(f"in place, {input_name(op, place)} is not what the op returns")
            if (inputs[place]._view.root or inputs[place]._view).version <= versions[place]:
                raise Failed(f"the version of {input_name(op, place)} did not grow")
        changed = set(op.aliases.values())
        for place, block in enumerate(guard.inputs):
            raise_damage(block.damage(device, middle=place not in changed))
            if place in changed:
                block.written[:] = device.read(block.root)
    expected = oracle.forward(check, [x.array for x in operands])
    return judge_arrays(op, wanted, expected)


def overlap(check: Check, device: Device, oracle: Oracle) -> Figures:
    """Inputs that are overlapping windows of one buffer."""
    sample = _sample(check)
    op, given = sample.op, sample.operands
    shared = [i for i, x in enumerate(given) if x.dtype is sample.dtype]
    length = max(given[i].layout.size for i in shared) + len(shared)
    rng = np.random.default_rng(check.id.seed)
    memory = rng.uniform(0.5, 2.0, length).astype(sample.dtype.numpy)
    operands = [
        Placed(memory, x.shape, placed(x.array).strides, shared.index(i)) if i in shared else x
        for i, x in enumerate(given)
    ]
    with Guard(device) as guard:
        whole = guard.put(placed(memory))
        size = device.info.itemsize(sample.dtype)
        inputs = [
            _window_of(whole, x, x.offset * size, device) if i in shared else guard.put(x)
            for i, x in enumerate(operands)
        ]
        results = apply(op, inputs, device)
        expected = oracle.forward(check, [x.array for x in operands])
        return judge_all(guard, op, operands, results, expected)


def shared(check: Check, device: Device, oracle: Oracle) -> Figures:
    """One tensor given for several inputs: its gradient is the sum of theirs."""
    sample = _sample(check)
    op, places = sample.op, alike(sample)
    one = sample.operands[places[0]]
    operands = tuple(one if i in places else x for i, x in enumerate(sample.operands))
    arrays = [x.array for x in operands]
    with Guard(device) as guard:
        tensor = guard.put(one).requires_grad_()
        inputs = [tensor if i in places else guard.put(x) for i, x in enumerate(operands)]
        results = apply(op, inputs, device)
        expected = oracle.forward(check, arrays)
        figures = judge_all(guard, op, operands, results, expected)
        found = _pull_back(guard, op, results, [tensor], check)
        if found is None:
            return figures
        (got,), cotangents = found
        parts = oracle.backward(check, arrays, cotangents)
        wanted = sum_of([parts[i] for i in places])
        what = f"the gradient of one tensor as {len(places)} inputs"
        return figures.worst(judge_gradient(guard, what, got, wanted, one))


def refusal(check: Check, device: Device) -> Figures:
    """The error that the op promises, of exactly that class, with its text; inputs as before."""
    bad = check.payload
    with Guard(device) as guard:
        inputs = [guard.put(placed(x.array)) for x in bad.inputs]
        try:
            apply(bad.op, inputs, device)
        except GroundupError as error:
            if type(error) is not bad.error or bad.text not in str(error):
                raise Failed(
                    f"wanted {bad.error.__name__} with {bad.text!r}, got "
                    f"{type(error).__name__}: {error}"
                ) from error
        else:
            raise Failed(f"accepted; wanted {bad.error.__name__} with {bad.text!r}")
        raise_damage(guard.check())
    return Figures()


def undeclared(check: Check, device: Device) -> Figures:
    """UnsupportedDtype, by name, where a dtype of the op is not declared."""
    sample = _sample(check)
    specs = seen(sample.op, sample.specs)
    try:
        lower(sample.op, [Layout.contiguous(spec) for spec in specs], device)
    except UnsupportedDtype as error:
        missing = [str(dtype) for dtype in sample.dtypes if dtype not in device.info.dtypes]
        if not any(name in str(error) for name in missing):
            raise Failed(f"the error names none of {missing}: {error}") from error
        return Figures()
    except GroundupError as error:
        raise Failed(f"wanted UnsupportedDtype, got {type(error).__name__}: {error}") from error
    raise Failed("accepted, though the device does not declare the dtype")


# ---- parts ----


def apply(op: Op, inputs: Sequence[Tensor], device: Device) -> tuple[Tensor, ...]:
    """The op's results, always as a tuple."""
    results = dispatch.apply(op, tuple(inputs), device)
    return results if isinstance(results, tuple) else (results,)


def gradients_of(
    guard: Guard, op: Op, operands: Sequence[Placed], check: Check
) -> tuple[list[Tensor | None], list[Array | None]] | None:
    """(gradient of each input or None, what was given as each output's gradient)."""
    inputs = [guard.put(x) for x in operands]
    inputs = [x.requires_grad_() if x.dtype.is_floating else x for x in inputs]
    results = apply(op, inputs, guard.device)
    leaves = [x for x in inputs if x.requires_grad]
    pulled = _pull_back(guard, op, results, leaves, check)
    if pulled is None:
        return None
    found = iter(pulled[0])
    return [next(found) if x.requires_grad else None for x in inputs], pulled[1]


def _pull_back(
    guard: Guard, op: Op, results: Sequence[Tensor], leaves: Sequence[Tensor], check: Check
) -> tuple[Sequence[Tensor | None], list[Array | None]] | None:
    """Gradients of the leaves for random ones of the results; None if nothing has any."""
    rng = np.random.default_rng(gradient_seed(op))
    cotangents: list[Array | None] = []
    reached, given = [], []
    for y in results:
        if not y.requires_grad:
            cotangents.append(None)
            continue
        values = np.asarray(rng.standard_normal(y.shape)).astype(y.dtype.numpy)
        cotangents.append(values)
        reached.append(y)
        given.append(guard.put(_laid_out(values, check)))
    if not reached or not leaves:
        return None
    return groundup.grad(reached, leaves, given), cotangents


def gradient_seed(op: Op) -> int:
    """What the gradients of an op's results are drawn from: the same in every layout."""
    return zlib.crc32(repr(op).encode())


def _laid_out(values: Array, check: Check) -> Placed:
    """The output's gradient in the case's layout, where it can have it with the same values."""
    from groundup_conformance.layouts import arrange

    if check.id.layout in ("given", *SHARING):
        return placed(values)
    arranged = arrange(check.id.layout, [values])
    return arranged[0] if arranged else placed(values)


def _window_of(whole: Tensor, operand: Placed, offset: int, device: Device) -> Tensor:
    view = dispatch.derive(whole._view, operand.layout, offset, device)
    return dispatch.make(view, device, None, 0)


def _differentiable(check: Check, operands: Sequence[Placed]) -> bool:
    return bool(_sample(check).op.differentiable) and any(x.dtype.is_floating for x in operands)


def _sample(check: Check) -> Sample:
    assert check.sample is not None
    return check.sample


__all__ = [
    "Failed", "Figures", "Oracle", "apply", "forward", "gradient", "gradient_seed", "gradients_of",
    "in_place", "overlap", "refusal", "shared", "twice", "undeclared",
]  # fmt: skip
