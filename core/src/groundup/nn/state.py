"""Loading a state dict: everything that does not fit is found first, and told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np

from groundup.creation import from_numpy
from groundup.dtypes import as_dtype
from groundup.errors import CheckpointError, DTypeError
from groundup.graph import Setting
from groundup.suggest import did_you_mean
from groundup.tensor import Tensor

Stored: TypeAlias = "Tensor | np.ndarray[Any, np.dtype[Any]]"
_LISTED = 8  # names per kind of trouble; the rest is counted


@attrs.frozen
class Loaded:
    """What `load_state_dict` skipped, in PyTorch's words."""

    missing_keys: tuple[str, ...]
    unexpected_keys: tuple[str, ...]


def load_into(
    targets: Mapping[str, Tensor], state: Mapping[str, Stored], strict: bool, owner: str
) -> Loaded:
    """Copy `state` into `targets` by name, cast to their dtypes.

    Raises CheckpointError for shapes or kinds of dtype that differ and, if `strict`, for missing
    and unexpected names; nothing is written then.
    """
    missing = tuple(name for name in targets if name not in state)
    unexpected = tuple(name for name in state if name not in targets)
    shared = [name for name in targets if name in state]
    misfits = [text for name in shared if (text := _misfit(name, targets[name], state[name]))]
    troubles = [_listing("do not fit", misfits)]
    if strict:
        near = [_with_near_names(name, missing or tuple(targets)) for name in unexpected]
        troubles = [_listing("missing", missing), _listing("unexpected", near), *troubles]
    if any(troubles):
        raise CheckpointError(
            f"{owner}: the state does not match: {'; '.join(filter(None, troubles))}"
        )
    for name in shared:
        write(targets[name], state[name])
    return Loaded(missing, unexpected)


def write(target: Tensor, value: Stored) -> None:
    """Overwrite `target` with a value of its shape, from any device, in any dtype of its kind."""
    if isinstance(value, Tensor):
        moved = value.detach().astype(target.dtype).to(target.device)
    else:
        moved = from_numpy(np.asarray(value).astype(target.dtype.numpy), target.device)
    with Setting(grad=False):
        target.assign_(moved)


def _misfit(name: str, target: Tensor, value: Stored) -> str | None:
    if tuple(value.shape) != target.shape:
        return f"{name} is {tuple(value.shape)}, wanted {target.shape}"
    kind: str
    try:
        kind = value.dtype.kind if isinstance(value, Tensor) else as_dtype(value.dtype).kind
    except DTypeError:
        kind = "unknown"
    return None if kind == target.dtype.kind else f"{name} is {value.dtype}, wanted {target.dtype}"


def _with_near_names(name: str, known: Sequence[str]) -> str:
    near = did_you_mean(name, known)
    return f"{name} ({near})" if near else name


def _listing(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return f"{len(items)} {title}: {', '.join(items[:_LISTED])}{more}"
