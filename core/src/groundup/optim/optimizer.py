"""Optimizer: parameter groups, state per parameter, and steps of one launch per group."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import attrs
import numpy as np

from groundup import dispatch
from groundup.backends.api import Device
from groundup.creation import from_numpy, zeros, zeros_like
from groundup.dtypes import float32
from groundup.errors import CheckpointError
from groundup.graph import Setting, changes, mode, outside_trace
from groundup.nn.state import Stored, write
from groundup.optim.groups import Params, make_groups
from groundup.spans import span
from groundup.suggest import did_you_mean
from groundup.tensor import Tensor

State: TypeAlias = "dict[str, Tensor]"
_STEP = "step"


@attrs.frozen(eq=False)
class Batch:
    """Parameters of one group that have stepped equally often: what one launch updates."""

    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    states: Sequence[State]
    lr: Tensor
    step: Tensor  # rank 0 float32: which step this is, from 1
    scale: Tensor  # rank 0 float32: what gradients are multiplied by first

    def slot(self, name: str) -> list[Tensor]:
        """One state tensor of every parameter."""
        return [state[name] for state in self.states]


class Optimizer:
    """Base class. A subclass names its state tensors in `slots` and updates a `Batch` in `_update`.

    A parameter without a gradient is left alone, and its step count stays: bias corrections then
    agree with PyTorch's. Gradients of several backward passes add up in `.grad` until `zero_grad`,
    so gradient accumulation needs nothing but dividing the losses.
    """

    slots: ClassVar[Sequence[str]] = ()

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        self.param_groups = make_groups(params, defaults)
        for group in self.param_groups:
            self._check_options(group.options)
        self.state: dict[Tensor, State] = {}

    @span("optimizer")
    def step(self, grad_scale: Tensor | None = None) -> None:
        """Update every parameter that has a gradient, in place; nothing is read back.

        `grad_scale`, rank 0 float32 on the device, multiplies the gradients first: `nn.clip_factor`
        and loss scaling then cost no pass of their own. `.grad` stays as it is.
        """
        if mode.trace is not None:
            self._join_trace()
        with Setting(grad=False):
            for group in self.param_groups:
                for params in self._together(group.params, self._slots(group.options)):
                    count = self.state[params[0]][_STEP]
                    now = count + 1
                    batch = Batch(
                        params,
                        [p.grad.detach() for p in params if p.grad is not None],
                        [self.state[p] for p in params],
                        group.lr_tensor(now.device),
                        now,
                        _one(now.device) if grad_scale is None else grad_scale,
                    )
                    self._update(group.options, batch)
                    count.assign_(now)

    def _join_trace(self) -> None:
        """Tell a trace what a compiled step depends on, and how to take back new state."""
        trace = mode.trace
        assert trace is not None
        before = {p: dict(own) for p, own in self.state.items()}

        def settings() -> object:
            groups = [(*g.options.items(), *map(id, g.params)) for g in self.param_groups]
            return groups, [id(t) for own in self.state.values() for t in own.values()]

        def forget() -> None:
            self.state.clear()
            self.state.update(before)

        trace.watch(f"the settings of {type(self).__name__}", settings, self.state)
        trace.undo(forget)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raises ConfigError for a group's settings that are out of range."""

    def _update(self, options: Mapping[str, Any], batch: Batch) -> None:
        raise NotImplementedError

    def _slots(self, options: Mapping[str, Any]) -> Sequence[str]:
        """The state tensors that these settings need."""
        return self.slots

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or set them to zeros."""
        for parameter in self._parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else zeros_like(parameter.grad)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors that a run must save: "lr.<group>", "<parameter>.step", "<parameter>.<slot>".

        Parameters are numbered through all groups. The tensors share memory with the optimizer;
        other settings come from the constructor.
        """
        found = {}
        for i, group in enumerate(self.param_groups):
            like = (group.params or self._parameters())[0]
            found[f"lr.{i}"] = group.lr_tensor(like.device)
        for i, parameter in enumerate(self._parameters()):
            for name, tensor in self.state.get(parameter, {}).items():
                found[f"{i}.{name}"] = tensor
        return found

    def load_state_dict(self, state: Mapping[str, Stored]) -> None:
        """Continue from `state_dict()`, as tensors or NumPy arrays.

        Raises CheckpointError for names or shapes of another optimizer, and then nothing has
        changed.
        """
        self._check(state)
        rates = [_number(state[f"lr.{i}"]) for i in range(len(self.param_groups))]
        loaded = {}
        # Parameters of one group that stepped together share their count again.
        steps: dict[tuple[int, float], Tensor] = {}
        for i, parameter in enumerate(self._parameters()):
            if f"{i}.{_STEP}" not in state:
                continue
            count = _number(state[f"{i}.{_STEP}"])
            key = (id(self._options(i)), count)
            if key not in steps:
                steps[key] = from_numpy(np.array(count, np.float32), parameter.device)
            own: State = {_STEP: steps[key]}
            for name in self._slots(self._options(i)):
                own[name] = _blank_state(parameter)
                write(own[name], state[f"{i}.{name}"])
            loaded[parameter] = own
        if mode.trace is not None:
            mode.trace.refuse("an optimizer's state is loaded", "load it before the call")
        changes.note()
        self.state = loaded
        for group, rate in zip(self.param_groups, rates, strict=True):
            group.lr = rate

    def _check(self, state: Mapping[str, Stored]) -> None:
        wanted: dict[str, tuple[int, ...]] = {f"lr.{i}": () for i in range(len(self.param_groups))}
        for i, parameter in enumerate(self._parameters()):
            own = {f"{i}.{name}": parameter.shape for name in self._slots(self._options(i))}
            own[f"{i}.{_STEP}"] = ()
            if not own.keys().isdisjoint(state):  # it has stepped
                wanted |= own
        name = type(self).__name__
        for key in wanted:
            if key not in state:
                raise CheckpointError(f"{name}: the state lacks {key!r}")
        for key, value in state.items():
            if key not in wanted:
                hint = did_you_mean(key, wanted)
                raise CheckpointError(f"{name}: the state has an unknown {key!r}", hint=hint)
            if tuple(value.shape) != wanted[key]:
                raise CheckpointError(
                    f"{name}: {key!r} has shape {tuple(value.shape)}, wanted {wanted[key]}"
                )

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group.params]

    def _options(self, index: int) -> Mapping[str, Any]:
        for group in self.param_groups:
            if index < len(group.params):
                return group.options
            index -= len(group.params)
        raise IndexError(index)

    def _together(self, params: Sequence[Tensor], slots: Sequence[str]) -> list[list[Tensor]]:
        """Parameters with gradients, in lists that share one step count; new ones get their state.

        Usually that is one list. A parameter that sits out gets a count of its own.
        """
        present = [p for p in params if p.grad is not None]
        absent = [p for p in params if p.grad is None]
        with outside_trace():
            self._begin(present, slots)
        lists: dict[int, list[Tensor]] = {}
        for p in present:
            lists.setdefault(id(self.state[p][_STEP]), []).append(p)
        left: dict[int, Tensor] = {}
        for p in absent:
            if p in self.state and id(self.state[p][_STEP]) in lists:
                changes.note()
                shared = self.state[p][_STEP]
                with outside_trace():  # as it was before this step, which a trace only writes down
                    self.state[p][_STEP] = left.setdefault(id(shared), shared.clone())
        return list(lists.values())

    def _begin(self, present: Sequence[Tensor], slots: Sequence[str]) -> None:
        """State for parameters that step for the first time, or whose group got new settings."""
        new = [p for p in present if p not in self.state]
        if new:
            changes.note()
            count = zeros((), dtype=float32, device=new[0].device)
            self.state |= {p: {_STEP: count} for p in new}
        for p, name in itertools.product(present, slots):
            if name not in self.state[p]:
                self.state[p][name] = _blank_state(p)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'; '.join(map(repr, self.param_groups))})"


def _blank_state(parameter: Tensor) -> Tensor:
    """Zeros like a parameter; float32 beside 16-bit floats, where small squares would vanish."""
    narrow = parameter.dtype.bits < 32
    dtype = float32 if narrow else parameter.dtype
    return zeros(parameter.shape, dtype=dtype, device=parameter.device)


def _one(device: Device) -> Tensor:
    return dispatch.constant(1.0, float32, (), device)


def _number(value: Stored) -> float:
    return float(value.item())
