"""Token ids as arrays and as files.

A `.bin` file is nanoGPT's: the ids as little-endian uint16, nothing else. It is read by memory
map, so a corpus may be larger than memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from groundup.errors import ConfigError, DataError
from groundup.files import StrPath, atomic_write, reason

IntArray = npt.NDArray[np.integer[Any]]

_ON_DISK: Final = np.dtype("<u2")
_LARGEST: Final = int(np.iinfo(_ON_DISK).max)


def split_by_position(tokens: IntArray, val_fraction: float) -> tuple[IntArray, IntArray]:
    """`tokens` (N,) as (train, val), val being the last `val_fraction` of them. Views, no copies.

    A split by position, not by chance: neighbouring text is alike, and a random split would let
    the model see the validation text's surroundings.

    Raises ConfigError unless 0 <= val_fraction < 1.
    """
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction must be at least 0 and below 1, got {val_fraction}")
    cut = int(len(tokens) * (1 - val_fraction))
    return tokens[:cut], tokens[cut:]


def check_ids(tokens: IntArray, vocab_size: int) -> None:
    """Check once that every id in `tokens`, of any shape, is in [0, vocab_size).

    Raises DataError naming the first id that is not and its position, or a dtype that is no
    integer.
    """
    if tokens.dtype.kind not in "iu":
        raise DataError(f"token ids must be integers, got {tokens.dtype}")
    if tokens.size == 0 or (tokens.min() >= 0 and tokens.max() < vocab_size):
        return
    flat = tokens.reshape(-1)
    position = int(np.argmax((flat < 0) | (flat >= vocab_size)))
    raise DataError(
        f"token id {flat[position]} at position {position} is outside the vocabulary"
        f" of {vocab_size}",
        hint="the ids were made by another tokenizer, or the file holds something else",
    )


def write_tokens(path: StrPath, tokens: IntArray) -> None:
    """Write `tokens` (N,), ids from 0 to 65535, to a `.bin` file.

    Raises DataError when there are none or one does not fit 16 bits, CheckpointError when the
    file cannot be written; an older file at `path` then stays as it was.
    """
    if tokens.ndim != 1 or tokens.size == 0:
        raise DataError(f"tokens to write must be a non-empty row, got shape {tokens.shape}")
    check_ids(tokens, _LARGEST + 1)
    with atomic_write(path) as temporary:
        temporary.write_bytes(np.ascontiguousarray(tokens, _ON_DISK).data)


def open_tokens(path: StrPath) -> npt.NDArray[np.uint16]:
    """The ids (N,), uint16, of the `.bin` file at `path`: a read-only memory map.

    The file says nothing about its tokenizer; `check_ids` finds ids that cannot be of yours.

    Raises DataError when the file is missing, unreadable, empty, or of an odd number of bytes.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
        if size == 0:
            raise DataError(f"{path} is empty")
        if size % _ON_DISK.itemsize:
            raise DataError(
                f"{path} has {size} bytes, an odd number; tokens take 2 each",
                hint="the file was cut short, or holds something else",
            )
        return np.memmap(path, dtype=_ON_DISK, mode="r")
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
