"""Tensor: a view of device memory, and if it is part of a graph, the node that made it.

Operators and methods are ops (`tensor_methods.py`); this file holds what a tensor *is*: its memory,
device and graph, and the ways in and out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup import autograd, dispatch, indexing, ops
from groundup.backends.api import Device, View
from groundup.backends.devices import DeviceLike, device_for
from groundup.dtypes import DType, DTypeLike, as_dtype
from groundup.errors import AutogradError, DTypeError, GroundupError, ShapeError, TraceError
from groundup.graph import Hook, Leaf, Node, Setting, changes, mode
from groundup.layout import Layout, Spec
from groundup.ops.movement import Assign
from groundup.shapes import Shape
from groundup.tensor_methods import TensorMethods

if TYPE_CHECKING:
    HostArray = np.ndarray[Any, np.dtype[Any]]


class Tensor(TensorMethods):
    """An n-dimensional array on a device. Make one with `groundup.tensor`, `zeros`, `randn`, ..."""

    __slots__ = ("__weakref__", "_device", "_index", "_node", "_view")
    __array_ufunc__ = None  # NumPy then leaves `array + tensor` to us, which refuses it clearly
    __hash__ = object.__hash__

    def __init__(self, view: View, device: Device, node: Node | Leaf | None, index: int) -> None:
        self._view = view
        self._device = device
        self._node = node
        self._index = index

    @staticmethod
    def __apply__(op: Any, inputs: tuple[Any, ...]) -> Any:
        return dispatch.dispatch(op, inputs)

    # ---- what it is ----

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self._view.layout.shape

    @property
    def dtype(self) -> DType:
        """What one element is."""
        return self._view.layout.dtype

    @property
    def spec(self) -> Spec:
        """Shape and dtype in one."""
        return self._view.layout.spec

    @property
    def device(self) -> Device:
        """Where the memory is."""
        return self._device

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._view.layout.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._view.layout.size

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take on the device."""
        return self._view.layout.size * self._device.info.itemsize(self.dtype)

    # ---- autograd ----

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded."""
        return self._node is not None

    @property
    def is_leaf(self) -> bool:
        """Whether it is not the result of a recorded operation."""
        return not isinstance(self._node, Node)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` left on a leaf."""
        if not isinstance(self._node, Leaf):
            return None
        if mode.trace is not None:
            mode.trace.touch(self._node, self)
        return self._node.grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if not isinstance(self._node, Leaf):
            raise AutogradError("grad: only a leaf that requires a gradient has one")
        if value is not None and value.shape != self.shape:
            raise ShapeError(f"grad: tensor is {self.spec}, gradient is {value.spec}")
        if mode.trace is not None:
            mode.trace.touch(self._node, self)
        self._node.grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Mark (or unmark) this leaf; returns itself. Raises AutogradError unless a float leaf."""
        if isinstance(self._node, Node):
            raise AutogradError(
                "requires_grad_: this tensor is computed, not a leaf", hint="use detach() first"
            )
        if requires_grad == self.requires_grad:
            return self
        if requires_grad and not self.dtype.is_floating:
            raise AutogradError(f"requires_grad_: only floats have gradients, not {self.spec}")
        self._refuse_change("requires_grad_: this would change a tensor from outside")
        self._node = Leaf() if requires_grad else None
        return self

    def detach(self) -> Tensor:
        """The same memory without the graph."""
        return Tensor(self._view, self._device, None, 0)

    def register_hook(self, hook: Hook) -> None:
        """Call `hook(grad)` when this tensor's gradient is complete; a returned tensor replaces
        it.
        """
        if isinstance(self._node, Leaf):
            self._refuse_change("register_hook: a replay would not add the hook again")
            self._node.hooks.append(hook)
        elif self._node is not None:
            hooks = self._node.hooks = self._node.hooks or {}
            hooks.setdefault(self._index, []).append(hook)
        else:
            raise AutogradError("register_hook: this tensor does not require a gradient")

    def backward(
        self,
        gradient: Tensor | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Add this tensor's gradients to `.grad` of the leaves it depends on."""
        autograd.backward([self], [gradient], retain_graph=retain_graph, create_graph=create_graph)

    def _refuse_change(self, what: str) -> None:
        """Raises TraceError where a trace would change this tensor, which it did not make."""
        if mode.trace is not None and not mode.trace.owns(self):
            mode.trace.refuse(what, "do it before the compiled function is called")
        changes.note()

    # ---- state ----

    def assign_(self, value: Tensor | bool | int | float) -> Tensor:
        """Write `value` (broadcast to this shape, same dtype) into this memory; returns itself.

        Not recorded: raises AutogradError where a gradient would be lost. Raises ShapeError for an
        expanded tensor, whose elements share memory.
        """
        if mode.grad and (self._node is not None or getattr(value, "_node", None) is not None):
            raise AutogradError(
                f"assign_: writing into {self.spec} is not recorded", hint="use it under no_grad()"
            )
        if self._view.layout.is_expanded:
            raise ShapeError(
                f"assign_: elements of the expanded {self.spec} share memory",
                hint="clone() it first",
            )
        if not isinstance(value, Tensor):
            value = dispatch.number(value, "assign_")
            dtype = dispatch.weak_dtype(value, self.dtype, "assign_")
            value = dispatch.constant(value, dtype, self.shape, self._device)
        if value.shape != self.shape:
            value = value.expand(*self.shape)
        with Setting(grad=False):
            if (value._view.root or value._view) is (self._view.root or self._view):
                value = value.clone()  # they may overlap, and kernels copy in any order
            dispatch.update(Assign(), (self, value))
        return self

    def __getitem__(self, key: Any) -> Tensor:
        return indexing.getitem(self, key)

    def __setitem__(self, key: Any, value: Tensor | bool | int | float) -> None:
        target = indexing.writable(self, key)
        if isinstance(value, Tensor) and value.dtype is not self.dtype:
            raise DTypeError(f"setitem: target is {target.spec}, value is {value.spec}")
        if mode.grad and self._node is not None:
            target.requires_grad_()
        target.assign_(value)

    # ---- to and from other places ----

    def to(self, target: DeviceLike | DTypeLike) -> Tensor:
        """On another device, or in another dtype."""
        if isinstance(target, DType | np.dtype | type):
            return self.astype(target)
        if isinstance(target, str):
            try:
                return self.astype(as_dtype(target))
            except DTypeError:
                pass
        return self._to_device(device_for(target))

    def _to_device(self, device: Device) -> Tensor:
        if device is self._device:
            return self
        if mode.grad and isinstance(self._node, Node):
            raise AutogradError(
                "to: moving a computed tensor is not recorded", hint="detach() it first"
            )
        if mode.trace is not None:
            mode.trace.refuse("a tensor is moved to another device", "move it before the call")
        view = device.empty(Layout.contiguous(self.spec))
        source = self._view
        if not device.copy(self._device, source, view):
            device.write(view, self._device.read(source))
        return Tensor(view, device, None if self._node is None else Leaf(), 0)

    def numpy(self) -> HostArray:
        """A NumPy array with a copy of the values. Raises AutogradError under a graph."""
        if self._node is not None and mode.grad:
            raise AutogradError(
                "numpy: the tensor requires a gradient", hint="use x.detach().numpy()"
            )
        return self._host()

    def _host(self) -> HostArray:
        """The values on the host: everything that reads a tensor comes by here."""
        if mode.trace is not None:
            mode.trace.refuse(
                f"the values of a {self.spec} are read",
                "return the tensor and read it after the call; for a choice by value use "
                "groundup.where",
            )
        return self._device.read(self._view)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> HostArray:
        if copy is False:
            raise ValueError("a tensor becomes an array only by a copy; use numpy.from_dlpack")
        array = self.detach().numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        if self._node is not None:
            raise BufferError("the tensor requires a gradient; export x.detach()")
        return self._exportable().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._exportable().__dlpack_device__()  # type: ignore[no-any-return]

    def _exportable(self) -> Any:
        if mode.trace is not None:
            self._host()
        native = self._view.native
        if not hasattr(native, "__dlpack__"):
            raise BufferError(f"{self._device.info.name} does not export DLPack; use x.numpy()")
        return native

    def item(self) -> Any:
        """The one value as a Python number. Raises ShapeError for more than one."""
        if self.size != 1:
            raise ShapeError(f"item: a {self.spec} has {self.size} values, not one")
        return self._host().item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._host().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if isinstance(self._node, Node):
            raise AutogradError(f"deepcopy: {self.spec} is part of a graph", hint="use detach()")
        with Setting(grad=False):
            copied = memo[id(self)] = self.detach().clone()
            if self.requires_grad:
                copied.requires_grad_()
                copied.grad = None if self.grad is None else self.grad.clone()
        return copied

    def __reduce__(self) -> Any:
        raise TypeError("tensors are not pickled; save x.numpy(), or a state_dict as safetensors")

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of a {self.spec} is ambiguous", hint="use x.any() or x.all()"
            )
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if self.dtype.is_floating:
            raise TypeError(f"a {self.spec} is no index")
        return int(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a rank 0 tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("a rank 0 tensor cannot be iterated")
        return iter(ops.unstack(self))

    def __repr__(self) -> str:
        extra = f", dtype={self.dtype}, device={self._device.info.name}"
        if self.requires_grad:
            extra += ", requires_grad=True"
        try:
            array = self._host()
        except TraceError:
            raise  # printing while tracing would print once, and nothing in the runs after
        except GroundupError as error:
            return f"tensor(<{type(error).__name__}>, shape={self.shape}{extra})"
        if self.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        return f"tensor({np.array2string(array, prefix='tensor(', separator=', ')}{extra})"


dispatch.make = Tensor
