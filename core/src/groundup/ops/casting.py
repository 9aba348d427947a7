"""recast and foreach_cast: many casts in few launches. Compiled programs contain them, users do not
write them.

Mixed precision runs an op in float32 between casts: `cast(layer_norm(cast(x), weight))`. A kernel
that loads and stores each operand in a dtype of its own does that at once, so the cast values are
neither written nor read. And a step begins with a cast of every weight, each of which is small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from groundup import dtypes as dt
from groundup.dtypes import DType
from groundup.errors import ConfigError, DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import COMPOSED, ROUNDED
from groundup.ops.op import REGISTRY, Cost, Op
from groundup.ops.samples import BadCase, Case, Make, Operand

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__: list[str] = []  # passes make them

Call: TypeAlias = tuple[str, tuple[tuple[str, Any], ...]]
Casts: TypeAlias = tuple[tuple[int, DType], ...]


class Recast(Op, name="recast", family="precision"):
    """The op of `call` between casts, each rounded as a cast rounds.

    `call` is the op's name and its parameters as pairs. `given` are the inputs that are cast first,
    `made` the results that are cast: pairs of a place and a dtype. `again` are results that are
    also wanted in another dtype: further outputs, after the op's own.
    """

    call: Call
    given: Casts = ()
    made: Casts = ()
    again: Casts = ()
    accuracy = COMPOSED
    gathers = True
    differentiable = ()  # gradients are traced before casts are absorbed
    dtypes = (dt.float32, dt.float16, dt.bfloat16)

    @cached_property
    def op(self) -> Op:
        """The op that is called. Raises ConfigError for one that does not exist."""
        name, parameters = self.call
        if name not in REGISTRY:
            raise ConfigError(f"recast: there is no op {name!r}")
        return REGISTRY[name](**dict(parameters))

    @property
    def outputs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The op's, then those that are wanted again."""
        return (*self.op.outputs, *[f"again{k}" for k in range(len(self.again))])

    @property
    def aliases(self) -> Mapping[int, int]:  # type: ignore[override]
        """The op's, of what is not cast."""
        cast = {place for place, _ in self.given}, {place for place, _ in self.made}
        pairs = self.op.aliases.items()
        return {out: at for out, at in pairs if at not in cast[0] and out not in cast[1]}

    @property
    def label(self) -> str:
        """`recast[layer_norm]`."""
        return f"recast[{self.op.name}]"

    @property
    def title(self) -> str:
        """For listings and pictures, the same."""
        return self.label

    def cast_inputs(self, specs: Sequence[Spec]) -> list[Spec]:
        """What the op itself is given. Raises ShapeError if there are too few inputs."""
        return _changed(self, specs, self.given)

    def infer(self, *specs: Spec) -> tuple[Spec, ...]:
        try:
            results = self.op.infer_all(*self.cast_inputs(specs))
        except (ShapeError, DTypeError) as error:
            raise type(error)(f"recast: {error.message}", hint=error.hint) from error
        own = _changed(self, results, self.made)
        return (*own, *[Spec(results[place].shape, dtype) for place, dtype in self.again])

    def compose(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.again:  # a backend may have a kernel for the rest
            rest = Recast(call=self.call, given=self.given, made=self.made)
            own = _tuple((rest if rest.given or rest.made else self.op).many(*tensors))
            return (*own, *[own[place].astype(dtype) for place, dtype in self.again])
        given = list(tensors)
        for place, dtype in self.given:
            given[place] = given[place].astype(dtype)
        results = list(_tuple(self.op.many(*given)))
        for place, dtype in self.made:
            results[place] = results[place].astype(dtype)
        return tuple(results) if len(results) > 1 else results[0]

    def cost(self, *specs: Spec) -> Cost:
        """The op's, less what the operands are smaller than its own."""
        given = self.cast_inputs(specs)
        own = self.op.cost(*given)
        wide = _bytes((*given, *self.op.infer_all(*given)))
        return Cost(own.flops, own.bytes - wide + _bytes((*specs, *self.infer(*specs))))

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        def case(
            name: str, call: Call, *inputs: Operand, made: Casts = (), again: Casts = ()
        ) -> Case:
            floats = [i for i, x in enumerate(inputs) if x.array.dtype.kind not in "iub"]
            given = tuple((i, dt.float32) for i in floats)
            views = any(not x.array.flags.c_contiguous for x in inputs)
            op = cls(call=call, given=given, made=made, again=again)
            return Case(op, inputs, name, frozenset({"view"} if views else ()))

        narrow = dt.bfloat16 if make.dtype is dt.float32 else make.dtype
        first = ((0, narrow),)
        for n in (7, 64, 1023):
            x, more, grad = (make.normal(5, n) for _ in range(3))
            w, b = make.of(dt.float32, n), make.of(dt.float32, n)
            yield case(f"norm-{n}", _LAYER, x, w, b, made=first)
            yield case(f"sum-and-norm-{n}", _ADD_LAYER, x, more, w, b, made=first)
            yield case(f"norm-gradient-{n}", _BACK, x, w, grad, again=first)
            inputs, vectors = (x, w, grad, more), ((1, narrow), (2, narrow))
            yield case(f"sum-and-norm-gradient-{n}", _ADD_BACK, *inputs, made=vectors, again=first)
            yield case(f"root-{n}", _RMS, x, w, made=first)
        turned = make.normal(64, 8, view=lambda x: x.mT)
        yield case("norm-view", _RMS, turned, make.of(dt.float32, 64), made=first)
        logits, target = make.normal(6, 17, scale=3.0), make.ints(0, 17, 6)
        yield case("loss", _LOSS, logits, target)
        rest = make.of(dt.float32, 6), make.of(dt.float32), make.of(dt.float32, 6)
        yield case("loss-gradient", _LOSS_BACK, logits, target, *rest, made=first)
        yield case("sum", _SUM, make.normal(9, 5, 3))
        yield case("variance", _VARIANCE, make.normal(9, 33), made=first)
        for axis in (0, 1):
            call = ("softmax", (("axis", axis),))
            yield case(f"softmax-{axis}", call, make.normal(5, 65), made=first)
            call = ("log_softmax_backward", (("axis", axis),))
            grad = make.of(dt.float32, 5, 65)
            yield case(f"softmax-gradient-{axis}", call, make.normal(5, 65), grad, made=first)
        yield case("length", _LENGTH, make.normal(9, 5), make.normal(33), make.of(dt.float32, 2))
        yield case("update", *_update(make))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        x, w = make.normal(2, 3), make.normal(3)
        yield BadCase(cls(call=("no_such_op", ())), (x,), ConfigError, "there is no op")
        few = cls(call=_RMS, given=((2, dt.float32),))
        yield BadCase(few, (x, w), ShapeError, "2 operands, and place 2 is cast")
        other = dt.bfloat16 if make.dtype is dt.float32 else dt.float32
        uneven = cls(call=_RMS, given=((0, other),))
        yield BadCase(uneven, (x, w), DTypeError, "but weight is")


_LAYER: Final[Call] = ("layer_norm", (("eps", 1e-5),))
_ADD_LAYER: Final[Call] = ("add_layer_norm", (("eps", 1e-5),))
_BACK: Final[Call] = ("layer_norm_backward", (("eps", 1e-5),))
_ADD_BACK: Final[Call] = ("add_layer_norm_backward", (("eps", 1e-5),))
_RMS: Final[Call] = ("rms_norm", (("eps", 1e-6),))
_LOSS: Final[Call] = ("cross_entropy", (("ignore_index", -100), ("reduction", "mean")))
_LOSS_BACK: Final[Call] = ("cross_entropy_backward", _LOSS[1])
_SUM: Final[Call] = ("sum", (("axes", (0, 2)), ("keepdims", False)))
_VARIANCE: Final[Call] = ("var", (("axes", (1,)), ("keepdims", False)))
_LENGTH: Final[Call] = ("global_norm", ())


def _update(make: Make) -> tuple[Any, ...]:
    """An optimizer's step on gradients that are narrower than the parameters."""
    parameters = (("count", 2), ("weight_decay", (0.1, 0.0)), ("momentum", 0.9))
    rates = [Operand(np.asarray(x)) for x in (np.float32(0.01), np.int32(3), np.float32(0.5))]
    tensors = [make.of(dt.float32, 5), make.of(dt.float32, 2, 3), make.normal(5), make.normal(2, 3)]
    buffers = [make.of(dt.float32, 5), make.of(dt.float32, 2, 3)]
    return ("sgd", parameters), *rates, *tensors, *buffers


def _changed(op: Recast, specs: Sequence[Spec], casts: Casts) -> list[Spec]:
    found = list(specs)
    for place, dtype in casts:
        if not 0 <= place < len(found):
            raise ShapeError(f"{op.op.name} has {len(found)} operands, and place {place} is cast")
        found[place] = Spec(found[place].shape, dtype)
    return found


def _bytes(specs: Sequence[Spec]) -> int:
    return sum(spec.nbytes for spec in specs)


def _tuple(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


class ForeachCast(Op, name="foreach_cast", family="precision"):
    """Each tensor in another dtype: out[i] = cast(tensors[i], dtype)."""

    dtype: DType
    outputs = ("tensors",)
    accuracy = ROUNDED
    gathers = True
    differentiable = ()  # gradients are traced before casts are gathered
    dtypes = (dt.float32, dt.float16, dt.bfloat16)

    def infer(self, *tensors: Spec) -> tuple[Spec, ...]:
        for i, spec in enumerate(tensors):
            if not (spec.dtype.is_floating and self.dtype.is_floating):
                raise DTypeError(f"foreach_cast: floats to floats, tensor {i} is {spec}")
        return tuple(Spec(spec.shape, self.dtype) for spec in tensors)

    def compose(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        results = tuple(t.astype(self.dtype) for t in tensors)
        return results if len(results) > 1 else results[0]

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for dtype in (dt.bfloat16, dt.float32):
            op = cls(dtype=dtype)
            yield Case(op, (make.normal(3, 5), make.normal(7)), f"two-{dtype}")
            sizes = make.normal(), make.normal(0, 3), make.normal(4099), make.normal(2, 2)
            yield Case(op, sizes, f"sizes-{dtype}")
            turned = make.normal(5, 4, view=lambda x: x.mT)
            yield Case(op, (turned, make.normal(8)), f"view-{dtype}", frozenset({"view"}))
            yield Case(op, (make.of(dt.float32, 7), make.normal(7)), f"mixed-{dtype}")
        yield Case(cls(dtype=dt.float16), (make.normal(9),), "alone")

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        bad = (make.normal(3), make.of(dt.int32, 2))
        yield BadCase(cls(dtype=dt.bfloat16), bad, DTypeError, "tensor 1 is")
