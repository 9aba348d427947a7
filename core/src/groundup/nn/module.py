"""Module: a tree of parameters, buffers and other modules, with PyTorch's names for what it can do.

Everything lives in ordinary attributes. `__setattr__` only notes which names hold a parameter (a
leaf that requires a gradient) or a module; `register_buffer` notes the buffers. Since notes are by
name, a frozen parameter stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self

from groundup.backends.api import Device
from groundup.backends.devices import DeviceLike
from groundup.dtypes import DType, DTypeLike, as_dtype
from groundup.errors import AutogradError, ConfigError, DTypeError, GroundupError
from groundup.graph import changes, mode
from groundup.nn.state import Loaded, Stored, load_into
from groundup.spans import current
from groundup.tensor import Tensor

Role = Literal["parameter", "buffer", "unsaved", "module"]  # unsaved: a buffer that is not stored


class Module:
    """Base class of layers and models: assign tensors and modules as attributes, define `forward`.

    Calling a module calls `forward`. A GroundupError raised inside gets the path of the innermost
    module that was running, as in "... in blocks.3.norm1".
    """

    training: bool
    forward: Callable[..., Any]
    _roles: dict[str, Role]

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Made here, so that a subclass need not call `super().__init__()`."""
        module = super().__new__(cls)
        module.__dict__.update(_roles={}, training=True)
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get(name, changes) is not value:  # `changes`: what no attribute is
            self._note_change(name)
        role = self._role(name, value)
        if role is None:
            self._roles.pop(name, None)
        else:
            self._roles[name] = role
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._note_change(name)
        object.__delattr__(self, name)
        self._roles.pop(name, None)

    def _note_change(self, name: str) -> None:
        """Raises TraceError in a compiled function: its later runs would not make the change."""
        if mode.trace is not None:
            what = f"{type(self).__name__}.{name} is changed"
            mode.trace.refuse(what, "do it before the call, or return what is to be kept")
        changes.note()

    def _role(self, name: str, value: Any) -> Role | None:
        """What `value` will be under this name; None for an ordinary attribute."""
        if isinstance(value, Module):
            return "module"
        if not isinstance(value, Tensor):
            return None
        if value.requires_grad and value.is_leaf:
            return "parameter"
        known = self._roles.get(name)
        if known == "parameter" and not value.is_leaf:
            raise AutogradError(
                f"{type(self).__name__}.{name}: a computed tensor cannot be a parameter",
                hint="detach() it, or use another name",
            )
        return None if known == "module" else known

    def register_buffer(self, name: str, tensor: Tensor, persistent: bool = True) -> None:
        """Keep `tensor` as state, no parameter: it moves with `to` and, if `persistent`, is saved.

        Raises ConfigError for a name that holds something else.
        """
        if not name.isidentifier() or (name not in self._roles and hasattr(self, name)):
            raise ConfigError(f"{type(self).__name__}: {name!r} cannot name a buffer")
        self._note_change(name)
        self._roles[name] = "buffer" if persistent else "unsaved"
        object.__setattr__(self, name, tensor)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if mode.trace is not None:
            mode.trace.enter(self)
        recorder = current.recorder
        if recorder is not None:
            recorder.begin_module(self)
        try:
            return self.forward(*args, **kwargs)
        except GroundupError as error:
            self._locate(error)
            raise
        finally:
            if recorder is not None:
                recorder.end()

    def _locate(self, error: GroundupError) -> None:
        """Write the path to the module where it happened; the outermost module writes last."""
        if error.origin is None:
            error.origin = self
        for path, module in self.named_modules():
            if module is error.origin:
                error.note_module(path or type(self).__name__)
                break

    # ---- what it holds ----

    def _held(self, *roles: Role) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name, role in self._roles.items() if role in roles)

    def _places(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Every module below, with its path; one that is used twice comes twice."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child._places(f"{prefix}.{name}" if prefix else name)

    def _tensors(self, *roles: Role) -> Iterator[tuple[str, Tensor]]:
        for path, module in self._places():
            for name, tensor in module._held(*roles):
                yield f"{path}.{name}" if path else name, tensor

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, with their names."""
        return self._held("module")

    def children(self) -> Iterator[Module]:
        """The modules directly below."""
        return (module for _, module in self.named_children())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module (its path is "") and all below, each once."""
        return _once(self._places())

    def modules(self) -> Iterator[Module]:
        """This module and all below, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter with its path, each once; a shared one by its first path."""
        return _once(self._tensors("parameter"))

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter, each once."""
        return (tensor for _, tensor in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Every buffer with its path, each once."""
        return _once(self._tensors("buffer", "unsaved"))

    def buffers(self) -> Iterator[Tensor]:
        """Every buffer, each once."""
        return (tensor for _, tensor in self.named_buffers())

    def num_parameters(self) -> int:
        """Number of elements of all parameters."""
        return sum(tensor.size for tensor in self.parameters())

    # ---- saving and loading ----

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and saved buffers by path, on the same memory, without graph.

        A tensor that is shared under two paths stands under both, as in PyTorch.
        """
        found = {}
        for path, module in self._places():
            for role in ("parameter", "buffer"):
                for name, tensor in module._held(role):
                    found[f"{path}.{name}" if path else name] = tensor.detach()
        return found

    def load_state_dict(self, state: Mapping[str, Stored], strict: bool = True) -> Loaded:
        """Copy tensors or NumPy arrays by path into this module, cast to its dtypes.

        Returns the missing and unexpected names, which `strict` forbids. Raises CheckpointError
        that lists everything that does not fit, and then nothing has changed.
        """
        return load_into(self.state_dict(), state, strict, type(self).__name__)

    # ---- changing all of it ----

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, batch norm uses the batch) here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below."""
        return self.train(False)

    def to(self, target: DeviceLike | DTypeLike) -> Self:
        """Move to a device, or cast floats to a float dtype, in place: tensors keep their identity.

        So an optimizer that was made before still has the right ones. Not between a forward and its
        backward: the graph would see the moved tensors. Raises DTypeError for another dtype.
        """
        dtype = _dtype_or_none(target)
        if dtype is not None and not dtype.is_floating:
            raise DTypeError(f"to: the parameters of {type(self).__name__} cannot become {dtype}")
        for tensor in (*self.parameters(), *self.buffers()):
            if dtype is None or tensor.dtype.is_floating:
                _become(tensor, target)
        return self

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module below, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze all parameters."""
        for tensor in self.parameters():
            tensor.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for tensor in self.parameters():
            if tensor.requires_grad:
                tensor.grad = None

    # ---- printing ----

    def extra_repr(self) -> str:
        """What stands in the parentheses of this module's own line."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        if not lines:
            return f"{head})"
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{head}\n  {body}\n)"


def Parameter(data: Tensor) -> Tensor:  # noqa: N802 - what PyTorch users type
    """A leaf on `data`'s memory that requires a gradient; assigned to a module, its parameter."""
    return data.detach().requires_grad_()


def _once(pairs: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen = set()
    for name, value in pairs:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _become(tensor: Tensor, target: DeviceLike | DTypeLike) -> None:
    """Give a leaf the memory of `tensor.to(target)`; its gradient goes with it."""
    if mode.trace is not None:
        mode.trace.refuse("a module is moved", "move it before the call")
    changes.note()
    moved, grad = tensor.detach().to(target), tensor.grad
    tensor._view, tensor._device = moved._view, moved._device
    if grad is not None:
        tensor.grad = grad.detach().to(target)


def _dtype_or_none(target: DeviceLike | DTypeLike) -> DType | None:
    if target is None or isinstance(target, Device):
        return None
    try:
        return as_dtype(target)
    except DTypeError:
        return None
