"""What a program takes for granted of the Python world, and whether it still holds.

Looking at every module, setting and tensor on each call would cost more than a small step. So what
changes by our own doors (attributes of modules, settings of optimizers, moves, marks on leaves) is
looked at only after `graph.changes` has counted; what has no door (a function's closure, its
globals, the attributes of other objects) is compared every time.
"""

from __future__ import annotations

import dis
import struct
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import attrs
import numpy as np

from groundup.dtypes import DType
from groundup.graph import changes
from groundup.tensor import Tensor

_SCALARS: Final = (bool, int, float, complex, str, bytes, type(None))
_CODE: Final = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, type)
_LARGEST: Final = 1000  # items of a container up to which a change of it is looked for
_COMPARED: Final = 32  # and up to which it is compared on every call


def token(value: Any) -> object:
    """What tells two Python values apart: numbers and texts by value, other things by identity."""
    if type(value) is float:
        return ("float", struct.pack("<d", value))
    if type(value) in _SCALARS or isinstance(value, range):
        return (type(value).__name__, value)
    if isinstance(value, np.generic):
        return (value.dtype.str, value.tobytes())
    if isinstance(value, slice):
        return ("slice", token(value.start), token(value.stop), token(value.step))
    return id(value)


@attrs.define(eq=False)
class Check:
    """`read()` gave `expected` when the program was traced."""

    name: str
    read: Callable[[], object]
    expected: object = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.expected = self.read()

    def holds(self) -> bool:
        """Whether it still does."""
        return self.read() == self.expected


class Guards:
    """All checks of one program."""

    def __init__(self) -> None:
        self.always: list[Check] = []  # on every call
        self.noted: list[Check] = []  # when `changes` has counted
        self._count = changes.count
        self._tensors: dict[int, tuple[Tensor, object, object, int]] = {}
        self._modules: set[int] = set()
        self._keep: list[object] = []

    def captured(self, t: Tensor) -> None:
        """The program is bound to the memory of `t`, and traced with its marks."""
        if id(t) not in self._tensors:
            self._tensors[id(t)] = (t, t._view, t._node, _hooks(t))

    def module(self, module: Any) -> None:
        """The program depends on a module's attributes, the `training` mark among them."""
        if id(module) not in self._modules:
            self._modules.add(id(module))
            name = f"an attribute of {type(module).__name__}"
            self.watch(name, lambda: _tokens(vars(module)), module, *vars(module).values())

    def watch(self, name: str, read: Callable[[], object], *keep: object) -> None:
        """A check for when something has changed."""
        self.noted.append(Check(name, read))
        self._keep += keep

    def watch_always(self, name: str, read: Callable[[], object]) -> None:
        """A check for every call."""
        self.always.append(Check(name, read))

    def settle(self) -> None:
        """Called when the trace ends: what it changed itself (new optimizer state) is expected."""
        for check in self.noted:
            check.expected = check.read()
        self._count = changes.count

    def broken(self) -> str | None:
        """What no longer holds, None if all does."""
        for check in self.always:
            if not check.holds():
                return check.name
        if self._count == changes.count:
            return None
        count = changes.count
        for t, view, node, hooks in self._tensors.values():
            if t._view is not view:
                return f"the memory of a captured {t.spec}"
            if t._node is not node or _hooks(t) != hooks:
                return f"the marks or hooks of a captured {t.spec}"
        for check in self.noted:
            if not check.holds():
                return check.name
        self._count = count
        return None


def _hooks(t: Tensor) -> int:
    hooks = getattr(t._node, "hooks", None)
    return len(hooks) if hooks else 0


def _tokens(attributes: dict[str, Any]) -> dict[str, object]:
    return {name: token(value) for name, value in attributes.items()}


# ---- a function's surroundings ----


@attrs.frozen(eq=False)
class Surroundings:
    """The things outside of itself that a function's code names: closure, globals, its objects."""

    function: Any
    attributes: frozenset[str]  # names of attributes that the code reads or writes
    objects: dict[str, Any]  # with attributes of their own: self, arguments, closures, globals

    @classmethod
    def of(cls, function: Any, arguments: dict[str, Any]) -> Surroundings:
        """`arguments` are the objects among the arguments, by name."""
        plain = _plain(function)
        codes = [] if plain is None else _codes(plain.__code__)
        names = frozenset(name for code in codes for name in code.co_names)
        objects = dict(arguments)
        plain_function = isinstance(function, FunctionType)
        objects["self"] = None if plain_function else getattr(function, "__self__", function)
        if plain is not None:
            objects |= dict(_named(plain))
        found = {name: value for name, value in objects.items() if _has_state(value)}
        return cls(plain, names, found)

    def guard(self, guards: Guards) -> None:
        """Checks of closure and globals, and of the attributes that the code names."""
        if self.function is not None:
            named = dict(_named(self.function))
            for name in named:
                guards.watch_always(f"{name} (a closure or global)", self._reader(name))
            guards._keep += named.values()
        for name, value in self.objects.items():
            if not isinstance(value, list | dict | set):
                self._guard_object(name, value, guards)
            elif len(value) <= _COMPARED:
                guards._keep += value.values() if isinstance(value, dict) else value
                guards.watch_always(f"an item of {name}", partial(_items, value))

    def _reader(self, name: str) -> Callable[[], object]:
        function = self.function
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if name in cells:
            cell = cells[name]
            return lambda: _held(cell)
        space = function.__globals__
        return lambda: token(space.get(name))

    def _guard_object(self, name: str, value: Any, guards: Guards) -> None:
        space = vars(value)
        used = tuple(key for key in space if key in self.attributes)
        guards._keep += [space[key] for key in used]
        if used:
            guards.watch_always(
                f"an attribute of {name} ({', '.join(used)})",
                lambda: [token(space.get(key)) for key in used],
            )

    def restorer(self) -> Callable[[], None]:
        """What puts back everything that `snapshot` sees, for a trace that fails."""
        before = self.snapshot()
        kept = {name: _copied(value) for name, value in self.objects.items()}
        named = {} if self.function is None else dict(_named(self.function))

        def restore() -> None:
            if changed(before, self.snapshot()) is None:
                return
            for name, value in self.objects.items():
                _put_back(value, kept[name])
            for name, value in named.items():
                self._rebind(name, value)

        return restore

    def _rebind(self, name: str, value: Any) -> None:
        function = self.function
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if name in cells:
            cells[name].cell_contents = value
        else:
            function.__globals__[name] = value

    def snapshot(self) -> dict[str, object]:
        """What the function could change in Python: compared after the trace."""
        found: dict[str, object] = {}
        if self.function is not None:
            for name, value in _named(self.function):
                found[name] = token(value)
        for name, value in self.objects.items():
            found |= {f"{name}{part}": each for part, each in _contents(value)}
        return found


def changed(before: dict[str, object], after: dict[str, object]) -> str | None:
    """The first name whose meaning differs."""
    for name in (*before, *after):
        if before.get(name) != after.get(name):
            return name
    return None


def _plain(function: Any) -> FunctionType | None:
    """The Python function behind a method, a module or a wrapper."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        function = getattr(type(function), "forward", None)
    return function if isinstance(function, FunctionType) else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of functions inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What the function's closure and its globals hold under the names that it uses."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if not isinstance(value, _CODE):
            yield name, value
    space = function.__globals__
    read = {
        step.argval
        for code in _codes(function.__code__)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "STORE_GLOBAL")
    }
    for name in sorted(read & space.keys()):
        if not isinstance(space[name], _CODE):
            yield name, space[name]


def _has_state(value: Any) -> bool:
    if isinstance(value, list | dict | set):
        return True
    simple = (*_SCALARS, *_CODE, Tensor, DType)
    return not isinstance(value, simple) and hasattr(value, "__dict__")


def _copied(value: Any) -> Any:
    """The attributes or items of an object."""
    return value.copy() if isinstance(value, list | dict | set) else dict(vars(value))


def _put_back(value: Any, kept: Any) -> None:
    if isinstance(value, list):
        value[:] = kept
        return
    space = value if isinstance(value, dict | set) else vars(value)
    space.clear()
    space.update(kept)


def _held(cell: CellType) -> object:
    try:
        return token(cell.cell_contents)
    except ValueError:  # the variable was deleted
        return None


def _items(value: Any) -> list[object]:
    return list(_contents(value))


def _contents(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        if len(value) <= _LARGEST:
            yield from ((f"[{key!r}]", token(item)) for key, item in value.items())
        yield "", len(value)
    elif isinstance(value, list | set):
        if len(value) <= _LARGEST:
            yield from ((f"[{i}]", token(item)) for i, item in enumerate(value))
        yield "", len(value)
    else:
        yield from ((f".{key}", token(item)) for key, item in vars(value).items())
