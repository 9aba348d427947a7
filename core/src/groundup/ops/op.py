"""The op registry: one class per operation, with everything that is known about it.

An `Op` instance is the operation with its static parameters (`Softmax(axis=-1)`). Instances are
interned, so that `is` compares them and a lowering cache hashes only an identity. Calling one
applies it to tensors. Tests, the support matrix, documentation and cost models are derived from the
classes.
"""

from __future__ import annotations

import inspect
import struct
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, dataclass_transform

import attrs
import numpy as np

from groundup.dtypes import FLOATS, DType
from groundup.errors import DTypeError, OpDefinitionError, ShapeError
from groundup.layout import Layout, Spec
from groundup.ops.accuracy import Accuracy

if TYPE_CHECKING:
    from groundup.ops.samples import BadCase, Case, Make
    from groundup.tensor import Tensor

REGISTRY: Final[dict[str, type[Op]]] = {}
_PLAIN: Final[dict[type, Any]] = {}  # instances with the default parameters
# The others, as long as anything refers to them: there are as many as a program slices tensors.
_INSTANCES: Final[weakref.WeakValueDictionary[Any, Any]] = weakref.WeakValueDictionary()
_lock: Final = threading.Lock()
_NUMBERS: Final = ("int", "int | None", "float", "float | None")  # annotations of parameters


class Ctx(Protocol):
    """What `vjp` may read."""

    @property
    def saved(self) -> tuple[Tensor, ...]:
        """The tensors named by `Op.saves`, in that order."""

    @property
    def needs(self) -> tuple[bool, ...]:
        """Per input, whether its gradient is wanted."""

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Shape and dtype of each input."""


@attrs.frozen
class Cost:
    """The least work an op can do: floating-point operations, bytes that must be moved."""

    flops: int
    bytes: int


class OpMeta(type):
    """Interns instances: equal parameters give the same object."""

    if not TYPE_CHECKING:  # mypy must see the constructor that dataclass_transform promises

        def __call__(cls, **params):
            defaults = cls._defaults
            if not params:
                found = _PLAIN.get(cls)
                if found is None:
                    made = cls(**defaults) if defaults else super().__call__()
                    found = _PLAIN.setdefault(cls, made)
                return found
            bound = {**defaults, **params}
            key = (cls, *[_canonical(value) for value in bound.values()], *bound)
            try:
                found = _INSTANCES.get(key)
            except TypeError:  # a list, say
                found = None
            if found is None:
                numbers = {n: _number(cls, n, bound[n]) for n in cls._numbers if n in bound}
                if any(numbers[name] is not bound[name] for name in numbers):
                    return cls(**{**params, **numbers})
                with _lock:
                    found = _INSTANCES.setdefault(key, super().__call__(**params))
            return found


def _number(cls: type[Op], name: str, value: Any) -> Any:
    """A number among the parameters, as Python has it. Raises ShapeError, DTypeError."""
    kind, _, optional = cls._numbers[name].partition(" | ")
    if value is None and optional:
        return None
    if kind == "int":
        try:
            return index(value)
        except TypeError:
            raise ShapeError(f"{cls.name}: {name} must be an integer, got {value!r}") from None
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, int | float):
        raise DTypeError(f"{cls.name}: {name} must be a number, got a {type(value).__name__}")
    return value


def _canonical(value: object) -> object:
    """A key that tells 1 from True and 1.0, and 0.0 from -0.0."""
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, tuple):
        return tuple(_canonical(item) for item in value)
    return (type(value), value)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Op(metaclass=OpMeta):
    """Base class. A subclass with `name=` is registered; annotated fields are its static
    parameters.

    A registered class needs a docstring, `family`, `infer`, `samples` and `accuracy`; `vjp` unless
    it has a `compose` or is not differentiable. Anything missing is an OpDefinitionError at import.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    saves: ClassVar[Sequence[str]] = ()  # input or output names that vjp reads
    outputs: ClassVar[Sequence[str]] = ("out",)
    differentiable: ClassVar[Sequence[int]] = (0,)  # outputs that carry gradients; () for none
    aliases: ClassVar[Mapping[int, int]] = {}  # output -> input whose memory it may take over
    accuracy: ClassVar[Accuracy]
    dtypes: ClassVar[Sequence[DType]] = FLOATS  # what samples are made in
    # Elementwise ops: inputs are broadcast to one shape, and those listed promoted to one dtype.
    broadcasts: ClassVar[bool] = False
    promotes: ClassVar[Sequence[int]] = ()
    float_only: ClassVar[bool] = False  # integers are cast to the default float dtype first

    inputs: ClassVar[tuple[str, ...]] = ()  # derived from infer's signature
    variadic: ClassVar[bool] = False  # infer takes *specs
    gathers: ClassVar[bool] = False  # it is made of a program's ops, which it runs where need be
    fields: ClassVar[tuple[str, ...]] = ()  # derived: names of the static parameters
    _defaults: ClassVar[dict[str, Any]] = {}
    _numbers: ClassVar[dict[str, str]] = {}  # of the parameters that are: their annotations

    def __init_subclass__(cls, name: str = "", family: str = "") -> None:
        if vars(cls).get("__annotations__"):  # most ops add no parameter, and attrs takes its time
            attrs.frozen(cls, slots=False, eq=False, kw_only=True, repr=False)
            found = attrs.fields(cls)  # type: ignore[arg-type]
            cls.fields = tuple(field.name for field in found)
            cls._defaults = {f.name: f.default for f in found if f.default is not attrs.NOTHING}
            cls._numbers = {f.name: f.type for f in found if f.type in _NUMBERS}
        if family:
            cls.family = family
        if name:
            cls.name = name
            _register(cls)

    # Subclasses narrow these signatures; `Any` keeps that legal for type checkers.

    def infer(self, *specs: Any, **_: Any) -> Any:
        """Spec or tuple of Specs of the outputs. Raises ShapeError or DTypeError."""
        raise NotImplementedError

    def compose(self, *tensors: Any, **_: Any) -> Any:
        """The op in simpler ops; absent on a primitive."""
        raise NotImplementedError

    def vjp(self, ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs from those of the differentiable outputs (never None)."""
        raise NotImplementedError

    def view(self, layout: Layout) -> tuple[Layout, int] | list[tuple[Layout, int]] | None:
        """Views only: the new layout and the offset in elements, None if only a copy will do.

        A list of them for an op with several outputs.
        """
        raise NotImplementedError

    def cost(self, *specs: Any, **_: Any) -> Cost:
        """Default: one flop per output element; every operand is moved once."""
        outs = self.infer_all(*specs)
        moved = sum(spec.nbytes for spec in (*specs, *outs))
        return Cost(sum(out.size for out in outs), moved)

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        """Inputs that a correct kernel must handle, edge cases included."""
        raise NotImplementedError

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        """Inputs that must be refused, with the error class and text."""
        return iter(())

    def infer_all(self, *specs: Spec) -> tuple[Spec, ...]:
        """`infer`, always as a tuple."""
        outs = self.infer(*specs)
        return outs if isinstance(outs, tuple) else (outs,)

    @property
    def label(self) -> str:
        """What profiles call it."""
        return self.name

    def nondefault(self) -> list[str]:
        """Names of the static parameters that differ from their defaults."""
        missing = object()
        return [
            name
            for name in self.fields
            if _canonical(getattr(self, name)) != _canonical(self._defaults.get(name, missing))
        ]

    def __call__(self, *inputs: Any) -> Tensor:
        """Apply to tensors (Python numbers are promoted); for ops with one output."""
        return _dispatcher(inputs)(self, inputs)  # type: ignore[no-any-return]

    def many(self, *inputs: Any) -> tuple[Tensor, ...]:
        """Apply an op with several outputs."""
        return _dispatcher(inputs)(self, inputs)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.fields)
        return f"{self.name}({given})" if given else self.name

    def __reduce__(self) -> tuple[object, tuple[str, dict[str, Any]]]:
        return (_restore, (self.name, {name: getattr(self, name) for name in self.fields}))


def has(op: Op | type[Op], part: str) -> bool:
    """Whether an op defines `compose`, `vjp` or `view` itself."""
    cls = op if isinstance(op, type) else type(op)
    return getattr(cls, part) is not getattr(Op, part)


def _restore(name: str, params: dict[str, Any]) -> Op:
    return REGISTRY[name](**params)


def _dispatcher(inputs: tuple[Any, ...]) -> Callable[[Op, tuple[Any, ...]], Any]:
    """Ops sit below tensors, so the first tensor among the inputs says how to apply an op."""
    for value in inputs:
        found = getattr(value, "__apply__", None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    raise TypeError("an op needs at least one tensor; use groundup.tensor(...) for numbers")


def _register(cls: type[Op]) -> None:
    missing = [part for part in ("infer", "samples") if not _defines(cls, part)]
    if not inspect.getdoc(cls) or "__doc__" not in vars(cls) or not cls.__doc__:
        missing.append("a docstring with its formula")
    if not cls.family:
        missing.append("family")
    if not hasattr(cls, "accuracy"):
        missing.append("accuracy")
    if cls.differentiable and not (has(cls, "vjp") or has(cls, "compose")):
        missing.append("vjp (or `differentiable = ()`)")
    if missing:
        raise OpDefinitionError(f"op {cls.name!r} ({cls.__qualname__}) lacks {', '.join(missing)}")
    if cls.name in REGISTRY:
        raise OpDefinitionError(
            f"op {cls.name!r} is already defined by {REGISTRY[cls.name].__module__}",
            hint="name third-party ops `distribution::op`",
        )
    parameters = list(inspect.signature(cls.infer).parameters.values())[1:]
    cls.inputs = tuple(p.name for p in parameters)
    cls.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    # An op whose number of outputs depends on its parameters names them by a property instead.
    outputs = cls.outputs if isinstance(cls.outputs, tuple) else ()
    unknown = set(cls.saves) - {*cls.inputs, *outputs}
    if unknown:
        raise OpDefinitionError(f"op {cls.name!r}: `saves` names unknown tensors {sorted(unknown)}")
    unclear = set(cls.saves) & set(cls.inputs) & set(outputs)
    if unclear:
        raise OpDefinitionError(
            f"op {cls.name!r}: `saves` names {sorted(unclear)}, which is an input and an output",
            hint="set `outputs` to another name",
        )
    if cls.differentiable and not has(cls, "vjp") and tuple(cls.saves) != cls.inputs:
        raise OpDefinitionError(
            f"op {cls.name!r} has no vjp, so its composition is differentiated on its inputs",
            hint=f"set saves = {cls.inputs}",
        )
    REGISTRY[cls.name] = cls


def _defines(cls: type[Op], part: str) -> bool:
    own = getattr(cls, part)
    base = getattr(Op, part)
    return getattr(own, "__func__", own) is not getattr(base, "__func__", base)
