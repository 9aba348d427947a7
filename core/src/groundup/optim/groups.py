"""Parameter groups: tensors that share a learning rate and other settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from groundup.backends.api import Device
from groundup.creation import from_numpy
from groundup.errors import ConfigError
from groundup.graph import changes, mode, outside_trace
from groundup.suggest import did_you_mean
from groundup.tensor import Tensor

Params: TypeAlias = "Iterable[Tensor] | Iterable[Mapping[str, Any]]"


class ParamGroup:
    """Used like PyTorch's dictionaries: group["params"], group["lr"] = 1e-3, group["weight_decay"].

    The learning rate also lives on the device as a rank 0 tensor that keeps its place, so that a
    recorded program sees each change. Raises ConfigError for unknown or impossible settings.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, options: Mapping[str, Any]) -> None:
        self.params = list(params)
        self.options = dict(options)
        self._lr = _checked_lr(lr)
        self._tensor: Tensor | None = None

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        if mode.trace is not None:
            mode.trace.refuse("a learning rate is set", "set it before the call: no new trace")
        self._lr = _checked_lr(value)
        if self._tensor is not None:
            self._tensor.assign_(_scalar(self._lr, self._tensor.device))

    def lr_tensor(self, device: Device) -> Tensor:
        """The learning rate on `device`: rank 0, float32."""
        if self._tensor is None or self._tensor.device is not device:
            with outside_trace():
                self._tensor = _scalar(self._lr, device)
        return self._tensor

    def __getitem__(self, name: str) -> Any:
        if name in ("params", "lr"):
            return getattr(self, name)
        self._known(name)
        return self.options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "lr":
            self.lr = value
        else:
            self._known(name)
            if mode.trace is not None:
                mode.trace.refuse(f"an optimizer's {name} is set", "set it before the call")
            changes.note()
            self.options[name] = value

    def keys(self) -> tuple[str, ...]:
        """The names of all settings."""
        return ("params", "lr", *self.options)

    def _known(self, name: str) -> None:
        if name not in self.options:
            raise ConfigError(
                f"optimizer: a parameter group has no {name!r}",
                hint=did_you_mean(name, self.keys()) or f"it has {', '.join(self.keys())}",
            )

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{len(self.params)} tensors, lr={self.lr}, {settings}"


def make_groups(params: Params, defaults: Mapping[str, Any]) -> list[ParamGroup]:
    """Groups from tensors, or from dictionaries with "params" and their own settings.

    Raises ConfigError for no parameters, a tensor given twice, or what is not a leaf that requires
    a gradient.
    """
    items: list[Any] = [params] if isinstance(params, Tensor) else list(params)
    given = items if items and isinstance(items[0], Mapping) else [{"params": items}]
    groups = []
    for entry in given:
        settings = {name: value for name, value in entry.items() if name != "params"}
        unknown = [name for name in settings if name not in defaults]
        if unknown:
            near = did_you_mean(unknown[0], defaults)
            raise ConfigError(f"optimizer: unknown setting {unknown[0]!r}", hint=near)
        merged = {**defaults, **settings}
        chosen = entry["params"]
        tensors = [chosen] if isinstance(chosen, Tensor) else list(chosen)
        groups.append(ParamGroup(tensors, merged.pop("lr"), merged))
    _check_tensors([t for group in groups for t in group.params])
    return groups


def _check_tensors(tensors: list[Any]) -> None:
    if not tensors:
        raise ConfigError("optimizer: there are no parameters")
    seen: set[int] = set()
    for t in tensors:
        if not isinstance(t, Tensor):
            raise ConfigError(
                f"optimizer: a parameter is a {type(t).__name__}, not a tensor",
                hint="pass model.parameters()",
            )
        if not (t.requires_grad and t.is_leaf):
            raise ConfigError(f"optimizer: {t.spec} is not a leaf that requires a gradient")
        if id(t) in seen:
            raise ConfigError(f"optimizer: a parameter {t.spec} is given twice")
        seen.add(id(t))


def _checked_lr(value: float) -> float:
    if not value >= 0:
        raise ConfigError(f"optimizer: lr must not be negative, got {value}")
    return float(value)


def _scalar(value: float, device: Device) -> Tensor:
    return from_numpy(np.array(value, np.float32), device)
