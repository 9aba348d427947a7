"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from groundup.errors import ConfigError
from groundup.nn.module import Module


class ModuleList(Module):
    """A list of modules, named "0", "1", ... Indexing with a slice gives a new list."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self, module: Module) -> None:
        """Add one at the end."""
        setattr(self, str(len(self)), _checked(module, self))

    def extend(self, modules: Iterable[Module]) -> None:
        """Add several at the end."""
        for module in modules:
            self.append(module)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Module | ModuleList:
        chosen = list(self.children())[index]
        return chosen if isinstance(chosen, Module) else type(self)._of(chosen)

    @classmethod
    def _of(cls, modules: list[Module]) -> ModuleList:
        return cls(modules)

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, str(range(len(self))[index]), _checked(module, self))

    def __len__(self) -> int:
        return len(self._roles)

    def __iter__(self) -> Iterator[Module]:
        return self.children()


class Sequential(ModuleList):
    """Modules applied one after the other."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    @classmethod
    def _of(cls, modules: list[Module]) -> Sequential:
        return cls(*modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleDict(Module):
    """Modules by name, in the order in which they were added."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return dict(self.items())[name]

    def __setitem__(self, name: str, module: Module) -> None:
        if not name or "." in name or (name not in self._roles and hasattr(self, name)):
            raise ConfigError(f"ModuleDict: {name!r} cannot name a module")
        setattr(self, name, _checked(module, self))

    def __contains__(self, name: object) -> bool:
        return name in self._roles

    def __len__(self) -> int:
        return len(self._roles)

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def keys(self) -> Iterator[str]:
        """The names."""
        return iter(self)

    def values(self) -> Iterator[Module]:
        """The modules."""
        return self.children()

    def items(self) -> Iterator[tuple[str, Module]]:
        """Names with their modules."""
        return self.named_children()


def _checked(module: Module, owner: Module) -> Module:
    if not isinstance(module, Module):
        raise ConfigError(f"{type(owner).__name__} holds modules, not {type(module).__name__}")
    return module
