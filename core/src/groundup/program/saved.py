"""Programs as files: saved in one place, run in another without the Python that made them.

A file is safetensors: the captured arrays by name, and the program as JSON in the metadata entry
"program". Nothing in it can run code. Loading finds the ops by name, in the core and in plugins,
and the kernels on whatever device is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from groundup import creation
from groundup.backends.api import Device, View
from groundup.backends.devices import DeviceLike, device_for
from groundup.dtypes import DType, as_dtype
from groundup.errors import CheckpointError, ProgramError
from groundup.files import StrPath
from groundup.layout import Layout, Spec
from groundup.ops.op import Op
from groundup.ops.third_party import all_ops
from groundup.program.executable import Executable
from groundup.program.lowering import lower_program
from groundup.program.program import Effect, Node, Program, Value, verify
from groundup.program.signature import Slot, put_together
from groundup.program.views import PutView, StridedView
from groundup.serialization import Array, load_arrays, save_arrays
from groundup.shapes import row_major
from groundup.suggest import did_you_mean
from groundup.tensor import Tensor

FORMAT: Final = 1
_ENTRY: Final = "program"
_OWN: Final[dict[str, type[Op]]] = {"view": StridedView, "put_view": PutView}


class Loaded:
    """A program from a file: call it with tensors like the function that it was traced from.

    Tensor arguments come in the order of `inputs`. `state` are its captured tensors by name;
    each call reads and updates them in place.
    """

    def __init__(self, program: Program, result: Any, state: dict[str, Tensor], device: Device):
        self.program, self.state, self._result = program, state, result
        names = state_names(program)
        views: dict[Value, View] = {v: state[names[v]]._view for v in program.captured}
        self.executable = Executable(lower_program(program, device), views)

    @property
    def inputs(self) -> dict[str, Spec]:
        """Shape and dtype of each input."""
        named = self.program.names
        return {named.get(v, f"input {i}"): v.spec for i, v in enumerate(self.program.inputs)}

    def __call__(self, *inputs: Tensor) -> Any:
        """The results. Raises ShapeError for inputs of another shape or dtype."""
        wanted = self.inputs
        if len(inputs) != len(wanted):
            raise ProgramError(f"the program takes {', '.join(wanted)}: {len(inputs)} were given")
        outputs = self.executable.run(inputs)
        return put_together(self._result, outputs.__getitem__)


def save(path: StrPath, program: Program, result: Any, state: Mapping[str, Array]) -> None:
    """Write a program, the tree of its results, and the arrays that it captured.

    Raises CheckpointError if the file cannot be written or a value has no place in it.
    """
    record = {"format": FORMAT, "result": _tree_out(result), **_program_out(program)}
    save_arrays(path, state, {_ENTRY: json.dumps(record, allow_nan=False)})


def load(path: StrPath, device: DeviceLike = None) -> Loaded:
    """The program in the file, ready to run on `device`.

    Raises CheckpointError for a file that is damaged or no program, or that needs an op which is
    not installed; UnsupportedOp or UnsupportedDtype for what the device cannot do.
    """
    place = device_for(device)
    arrays, metadata = load_arrays(path)
    try:
        record = json.loads(metadata[_ENTRY])
        if record["format"] != FORMAT:
            raise CheckpointError(f"{path}: program format {record['format']}, not {FORMAT}")
        program, result = verify(_program_in(record)), _tree_in(record["result"])
        put_together(result, range(len(program.outputs)).__getitem__)  # there is no other output
        _check_state(program, arrays)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ProgramError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} holds no program: {error!r}") from error
    state = {name: creation.from_numpy(array, place) for name, array in arrays.items()}
    return Loaded(program, result, state, place)


def state_names(program: Program) -> dict[Value, str]:
    """A name for each captured value: its own if it has one, and no two alike."""
    found: dict[Value, str] = {}
    for i, value in enumerate(program.captured):
        name = program.names.get(value, f"captured.{i}")
        found[value] = name if name not in found.values() else f"{name}.{i}"
    return found


def _check_state(program: Program, arrays: Mapping[str, Array]) -> None:
    wanted = {name: value.spec for value, name in state_names(program).items()}
    given = {name: Spec(array.shape, as_dtype(array.dtype)) for name, array in arrays.items()}
    if wanted != given:
        different = [name for name in {**wanted, **given} if wanted.get(name) != given.get(name)]
        raise CheckpointError(f"the captured arrays do not fit the program: {different[0]}")


# ---- programs ----


def _program_out(program: Program) -> dict[str, Any]:
    numbers: dict[Value, int] = {}
    for value in (*program.inputs, *program.captured):
        numbers[value] = len(numbers)
    for node in (*program.setup, *program.nodes):
        for value in node.outputs:
            numbers[value] = len(numbers)
    names = {**program.names, **state_names(program)}
    return {
        "values": [_layout_out(value.layout) for value in numbers],
        "inputs": [numbers[value] for value in program.inputs],
        "captured": [numbers[value] for value in program.captured],
        "names": {str(numbers[v]): name for v, name in names.items() if v in numbers},
        "setup": [_node_out(node, numbers) for node in program.setup],
        "nodes": [_node_out(node, numbers) for node in program.nodes],
        "outputs": [numbers[value] for value in program.outputs],
        "effects": [[numbers[e.target], numbers[e.value]] for e in program.effects],
    }


def _node_out(node: Node, numbers: Mapping[Value, int]) -> dict[str, Any]:
    op = node.op
    record: dict[str, Any] = {
        "op": op.name,
        "inputs": [numbers[value] for value in node.inputs],
        "outputs": [numbers[value] for value in node.outputs],
    }
    if op.fields:
        record["parameters"] = {
            name: _value_out(getattr(op, name), f"{op.name}: {name}") for name in op.fields
        }
    where = {"scope": node.scope, "lane": node.lane}
    return record | {key: name for key, name in where.items() if name}


def _program_in(record: Mapping[str, Any]) -> Program:
    values = [Value(_layout_in(each)) for each in record["values"]]
    ops = {**all_ops(), **_OWN}

    def chosen(numbers: Iterable[int]) -> tuple[Value, ...]:
        return tuple([values[number] for number in numbers])

    def node(each: Mapping[str, Any]) -> Node:
        if each["op"] not in ops:
            hint = did_you_mean(each["op"], ops) or "install the package that brings it"
            raise CheckpointError(f"the program needs an op {each['op']!r}", hint=hint)
        parameters = {k: _value_in(v) for k, v in each.get("parameters", {}).items()}
        op = ops[each["op"]](**parameters)
        where = each.get("scope", ""), each.get("lane", "")
        return Node(op, chosen(each["inputs"]), chosen(each["outputs"]), *where)

    return Program(
        inputs=chosen(record["inputs"]),
        captured=chosen(record["captured"]),
        nodes=tuple(map(node, record["nodes"])),
        outputs=chosen(record["outputs"]),
        effects=tuple(Effect(values[target], values[value]) for target, value in record["effects"]),
        setup=tuple(map(node, record["setup"])),
        names={values[int(number)]: str(name) for number, name in record["names"].items()},
    )


def _layout_out(layout: Layout) -> dict[str, Any]:
    record: dict[str, Any] = {"dtype": layout.dtype.name, "shape": list(layout.shape)}
    if layout.strides != row_major(layout.shape):
        record["strides"] = list(layout.strides)
    return record


def _layout_in(record: Mapping[str, Any]) -> Layout:
    shape = tuple(record["shape"])
    strides = tuple(record.get("strides", row_major(shape)))
    return Layout(shape, strides, as_dtype(record["dtype"]))


# ---- parameters of ops, and trees of results ----


def _value_out(value: Any, where: str) -> Any:
    """JSON tells 1 from 1.0 and keeps every finite float; the rest is written as objects."""
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, tuple):
        return [_value_out(item, where) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise CheckpointError(f"{where} is a {type(value).__name__}, which a file cannot hold")


def _value_in(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_value_in, value))
    if isinstance(value, dict):
        return as_dtype(value["dtype"]) if "dtype" in value else float(value["float"])
    return value


def _tree_out(tree: Any) -> Any:
    if isinstance(tree, Slot):
        return {"output": tree.index}
    if isinstance(tree, Tensor):
        raise CheckpointError("the function returns a tensor that it captured", hint="return x + 0")
    if isinstance(tree, tuple):
        return {"tuple": [_tree_out(item) for item in tree]}
    if isinstance(tree, list):
        return [_tree_out(item) for item in tree]
    if isinstance(tree, dict):
        return {"dict": [[_tree_out(key), _tree_out(item)] for key, item in tree.items()]}
    return {"value": _value_out(tree, "a result")}


def _tree_in(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_tree_in(item) for item in tree]
    if "output" in tree:
        return Slot(int(tree["output"]))
    if "tuple" in tree:
        return tuple(map(_tree_in, tree["tuple"]))
    if "dict" in tree:
        return {_tree_in(key): _tree_in(item) for key, item in tree["dict"]}
    return _value_in(tree["value"])


def host_state(program: Program, state: Mapping[Value, View], device: Device) -> dict[str, Array]:
    """Copies of the captured arrays, by name."""
    return {name: device.read(state[value]) for value, name in state_names(program).items()}
