"""`groundup conformance repro ID`: a case as a script that stands alone.

The script needs groundup, NumPy and the backend; what must come out, and how far it may be off, is
written into it, so it can be handed to someone who has no suite.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from groundup.backends.api import Device
from groundup.errors import ConfigError
from groundup_conformance import cases, transfers
from groundup_conformance.budgets import Expected
from groundup_conformance.budgets.units import Array
from groundup_conformance.cases import Check
from groundup_conformance.ids import parse
from groundup_conformance.memory import Placed
from groundup_conformance.running import Oracle, gradient_seed

_GENERATORS: Final = (
    cases.foundations, cases.forward, cases.grid, cases.gradients, cases.repeats, cases.aliases,
    cases.refusals, cases.references, cases.undeclared, transfers.round_trips, transfers.strided,
    transfers.reuse, transfers.unknown,
)  # fmt: skip
_SCRIPTED: Final = ("forward", "gradient")
_LARGEST: Final = 200_000  # elements that a script may carry

_HEAD = '''"""{name} on {device}: groundup conformance repro."""

import base64
import zlib

import numpy as np

import groundup
from groundup import dispatch, dtypes
from groundup.dtypes import as_dtype
from groundup.layout import Layout
from groundup.ops.op import REGISTRY
from groundup.ops.third_party import all_ops

all_ops()  # those of installed packages too
device = groundup.device_for({device!r})
float16, bfloat16, float32, float64 = (
    dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64)
bool_, uint8, int8, int32, int64 = (
    dtypes.bool_, dtypes.uint8, dtypes.int8, dtypes.int32, dtypes.int64)


def data(dtype, shape, text):
    raw = zlib.decompress(base64.b85decode(text))
    return np.frombuffer(raw, as_dtype(dtype).numpy).reshape(shape).copy()


def tensor(base, shape, strides, offset):
    """A tensor with just that place in memory: shape, strides and offset in elements."""
    root = groundup.from_numpy(base, device)
    layout = Layout(shape, strides, root.dtype)
    step = device.info.itemsize(root.dtype)
    view = dispatch.derive(root._view, layout, offset * step, device)
    return dispatch.make(view, device, None, 0)


def report(what, got, wanted, budget):
    got = got.detach().numpy()
    assert got.shape == wanted.shape, f"{{what}}: shape {{got.shape}}, not {{wanted.shape}}"
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    equal = (got == wanted) | ((got != got) & (wanted != wanted))
    ratio = np.where(equal | (error <= budget), 0, np.inf)
    with np.errstate(all="ignore"):
        ratio = np.where(equal | (budget == 0), ratio, error / budget)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    if not ratio.size:
        print(f"{{what}}: empty")
        return
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    print(f"{{what}}: ratio {{ratio[at]:.3g}}, worst at {{tuple(map(int, at))}}: "
          f"got {{got[at]!r}}, wanted {{wanted[at]!r}} +- {{budget[at]:.3g}}; "
          f"{{int((ratio > 1).sum())}} of {{ratio.size}} out of budget")
'''


def find(name: str, ops: cases.Ops, device: Device) -> Check:
    """The case of that name. Raises ConfigError with the names that are near."""
    wanted = parse(name)
    narrowed = {op: kind for op, kind in ops.items() if op == wanted.op}
    near = []
    for generator in _GENERATORS:
        for check in generator(narrowed, device.info):
            if check.id == wanted:
                return check
            if check.id.op == wanted.op and check.id.dtype == wanted.dtype:
                near.append(str(check.id))
    hint = f"there are {', '.join(near[:3])} ..." if near else "see `groundup ops` for the ops"
    raise ConfigError(f"no case is called {name!r}", hint=hint)


def script(check: Check, device: Device, oracle: Oracle) -> str:
    """The script. Raises ConfigError for a case that is none: of memory, refusals, repeats."""
    name = str(check.id)
    if check.sample is None or check.id.variant not in _SCRIPTED:
        raise ConfigError(
            f"{name} is more than one op on its inputs",
            hint=f"run it with: groundup conformance {device.info.name} --case '{name}'",
        )
    operands = check.operands()
    size = sum(x.base.size for x in operands)
    if size > _LARGEST:
        raise ConfigError(
            f"{name} has {size:,} elements, too many for a script",
            hint=f"run it with: groundup conformance {device.info.name} --case '{name}'",
        )
    op = check.sample.op
    fields = ", ".join(f"{field}={_literal(getattr(op, field))}" for field in op.fields)
    lines = [
        _HEAD.format(name=name, device=device.info.name),
        f"op = REGISTRY[{op.name!r}]({fields})",
        "inputs = [",
        *[f"    {_tensor(x)}," for x in operands],
        "]",
    ]
    body = _forward if check.id.variant == "forward" else _gradient
    return "\n".join([*lines, *body(check, operands, oracle)]) + "\n"


def _forward(check: Check, operands: Sequence[Placed], oracle: Oracle) -> Iterator[str]:
    yield "results = dispatch.apply(op, tuple(inputs), device)"
    yield "results = results if isinstance(results, tuple) else (results,)"
    for index, wanted in enumerate(oracle.forward(check, [x.array for x in operands])):
        yield f"report('result {index}', results[{index}], {_wanted(wanted)})"


def _gradient(check: Check, operands: Sequence[Placed], oracle: Oracle) -> Iterator[str]:
    assert check.sample is not None
    op = check.sample.op
    arrays = [x.array for x in operands]
    yield "inputs = [x.requires_grad_() if x.dtype.is_floating else x for x in inputs]"
    yield "results = dispatch.apply(op, tuple(inputs), device)"
    yield "results = results if isinstance(results, tuple) else (results,)"
    yield "reached = [y for y in results if y.requires_grad]"
    yield "leaves = [x for x in inputs if x.requires_grad]"
    cotangents: list[Array | None] = []
    yield "given = ["
    rng = np.random.default_rng(gradient_seed(op))
    for index, result in enumerate(oracle.forward(check, arrays)):
        if index not in op.differentiable or not result.dtype.is_floating:
            cotangents.append(None)
            continue
        values = np.asarray(rng.standard_normal(result.value.shape)).astype(result.dtype.numpy)
        cotangents.append(values)
        yield f"    groundup.from_numpy({_data(values)}, device),"
    yield "]"
    yield "gradients = groundup.grad(reached, leaves, given)"
    wanted = oracle.backward(check, arrays, cotangents)
    floats = [w for w, x in zip(wanted, operands, strict=True) if x.dtype.is_floating]
    for index, expected in enumerate(floats):
        if expected is not None:
            yield f"report('gradient {index}', gradients[{index}], {_wanted(expected)})"


def _wanted(expected: Expected) -> str:
    value = expected.value
    budget = np.broadcast_to(np.asarray(expected.budget, np.float64), value.shape)
    return f"{_data(value)},\n       {_data(budget)}"


def _tensor(operand: Placed) -> str:
    where = f"{operand.shape}, {operand.strides}, {operand.offset}"
    return f"tensor({_data(operand.base)}, {where})"


def _data(array: Array) -> str:
    raw = zlib.compress(np.ascontiguousarray(array).tobytes(), 9)
    from groundup.dtypes import as_dtype

    kind = as_dtype(array.dtype).name
    text = base64.b85encode(raw).decode()
    return f"data({kind!r}, {array.shape}, {text!r})"


def _literal(value: Any) -> str:
    """A parameter as Python source; dtypes by the names that the script has for them."""
    from groundup.dtypes import DType

    if isinstance(value, DType):
        return "bool_" if value.name == "bool" else value.name
    if isinstance(value, float) and not np.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, tuple):
        return "(" + "".join(f"{_literal(item)}, " for item in value) + ")"
    return repr(value)
