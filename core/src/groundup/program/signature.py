"""Arguments and results as trees: the tensors in them, and a key for all the rest.

Tuples (named ones too), lists and dictionaries are looked into. A tensor's part of the key is its
shape, dtype, device, and whether it is a leaf that wants a gradient; numbers and texts are part of
it by value, other objects by identity.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from groundup.errors import TraceError
from groundup.program.guards import token
from groundup.tensor import Tensor

Key = tuple[object, ...]


@attrs.frozen(eq=False)
class Slot:
    """In a tree: the place of tensor number `index`."""

    index: int


def flatten(tree: Any, tensors: list[Tensor]) -> object:
    """The key of a tree of arguments; its tensors are appended to `tensors`."""
    kind = type(tree)
    if kind is Tensor:
        tensors.append(tree)
        return (tree._view.layout.spec, id(tree._device), type(tree._node))
    if isinstance(tree, tuple) or kind is list:
        return (kind, *[flatten(item, tensors) for item in tree])
    if kind is dict:
        return (kind, *[(key, flatten(item, tensors)) for key, item in tree.items()])
    return (kind, token(tree))


def paths(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """(name, part of the tree) for each leaf of the arguments, for messages."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    for i, value in enumerate(args):
        yield from _paths(names[i] if i < len(names) else f"argument {i}", value)
    for name, value in kwargs.items():
        yield from _paths(name, value)


def _paths(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, tuple) or type(tree) is list:
        for i, item in enumerate(tree):
            yield from _paths(f"{name}[{i}]", item)
    elif type(tree) is dict:
        for key, item in tree.items():
            yield from _paths(f"{name}[{key!r}]", item)
    else:
        yield name, tree


def describe(value: Any) -> str:
    """A leaf of the arguments in a message: 'float32[2, 3]', '3', 'a GPT'."""
    if isinstance(value, Tensor):
        return f"{value.spec!r}{' that requires a gradient' if value.requires_grad else ''}"
    plain = value is None or isinstance(value, bool | int | float | str)
    return repr(value) if plain else f"a {type(value).__name__}"


def check_argument(name: str, value: Any) -> None:
    """Raises TraceError for an array: its values would become part of the program."""
    if isinstance(value, np.ndarray):
        raise TraceError(
            f"{name} is a NumPy array {value.dtype}{list(value.shape)}",
            hint="pass groundup.from_numpy(array)",
        )


def replace(tree: Any, tensors: Iterator[Any]) -> Any:
    """The tree with its tensors replaced by `tensors`, in the order of `flatten`."""
    kind = type(tree)
    if kind is Tensor:
        return next(tensors)
    if isinstance(tree, tuple) or kind is list:
        parts = [replace(item, tensors) for item in tree]
        return kind(*parts) if hasattr(tree, "_fields") else kind(parts)
    if kind is dict:
        return {key: replace(item, tensors) for key, item in tree.items()}
    return tree


def take_apart(tree: Any, place: Callable[[Tensor], Any]) -> Any:
    """A result with each tensor replaced by `place(tensor)`.

    Raises TraceError for an object that could hide a tensor.
    """
    kind = type(tree)
    if kind is Tensor:
        return place(tree)
    if isinstance(tree, tuple):
        parts = [take_apart(item, place) for item in tree]
        return kind(*parts) if hasattr(tree, "_fields") else kind(parts)
    if kind is list:
        return [take_apart(item, place) for item in tree]
    if kind is dict:
        return {key: take_apart(item, place) for key, item in tree.items()}
    if tree is None or isinstance(tree, bool | int | float | complex | str | bytes | np.generic):
        return tree
    raise TraceError(
        f"a compiled function returns a {kind.__name__}",
        hint="return tensors, numbers, and tuples, lists and dictionaries of them",
    )


def put_together(tree: Any, place: Callable[[int], Any]) -> Any:
    """A result from `take_apart` with each Slot filled."""
    kind = type(tree)
    if kind is Slot:
        return place(tree.index)
    if isinstance(tree, tuple):
        parts = [put_together(item, place) for item in tree]
        return kind(*parts) if hasattr(tree, "_fields") else kind(parts)
    if kind is list:
        return [put_together(item, place) for item in tree]
    if kind is dict:
        return {key: put_together(item, place) for key, item in tree.items()}
    return tree
