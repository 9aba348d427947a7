"""Arrays in safetensors files and records in JSON files, written whole or not at all.

Format: https://github.com/huggingface/safetensors (a JSON header, then the arrays' bytes; nothing
in it can run code). What cannot be written, or turns out damaged or foreign when read, is a
CheckpointError of one line that names the file and what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from groundup.errors import CheckpointError
from groundup.files import StrPath, atomic_write, reason

Array = npt.NDArray[Any]

# safetensors' names of the dtypes that we read and write
_DTYPES: Final[Mapping[str, npt.DTypeLike]] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}
_WRITABLE: Final = frozenset(np.dtype(dtype).name for dtype in _DTYPES.values())


def save_arrays(
    path: StrPath, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write `arrays` as safetensors.

    Any shapes and strides; bool, integers, float16, bfloat16, float32, float64. `metadata` is
    free text that `load_arrays` gives back.

    Raises CheckpointError for another dtype, for the reserved name "__metadata__", and when the
    file cannot be written; an older file at `path` then stays as it was.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # The library copies raw memory, so a transposed view would be written in the wrong order.
    dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in dense.items():
        _check_writable(path, name, array)
    with atomic_write(path) as temporary:
        try:
            save_file(dense, temporary, None if metadata is None else dict(metadata))
        except SafetensorError as error:
            raise CheckpointError(f"cannot write {path}: {_cause(error)}") from error


def load_arrays(path: StrPath) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata of the safetensors file at `path`.

    The arrays are copies in memory: the file may be replaced while they are in use.

    Raises CheckpointError when the file is missing, unreadable, damaged, cut short, of another
    format, or holds a dtype that NumPy and ml_dtypes as used here do not know (8-bit floats).
    """
    from safetensors import SafetensorError, safe_open

    try:
        Path(path).open("rb").close()  # the library's words for a folder or a missing file are poor
        with safe_open(path, framework="np") as file:
            arrays = {}
            for name in file.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                stored = file.get_slice(name).get_dtype()
                if stored not in _DTYPES:
                    raise CheckpointError(f"{path}: cannot read {name!r}, its dtype is {stored}")
                arrays[name] = file.get_tensor(name)
            return arrays, dict(file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file: {_cause(error)}"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {reason(error)}") from error


def write_json(path: StrPath, record: Mapping[str, Any]) -> None:
    """Write `record` as an indented JSON object, keys in their order.

    Raises CheckpointError when a value has no JSON form (NaN and infinity have none) or the file
    cannot be written; an older file at `path` then stays as it was.
    """
    try:
        text = json.dumps(dict(record), indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"cannot write {path} as JSON: {error}") from error
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_json(path: StrPath) -> dict[str, Any]:
    """The JSON object in the file at `path`.

    Raises CheckpointError when the file is missing, unreadable, not UTF-8, not JSON, or not an
    object.
    """
    try:
        record = json.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} is damaged or not JSON: byte {error.start} is not UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or not JSON: {error}") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} holds a JSON {type(record).__name__}, not an object")
    return record


def _check_writable(path: StrPath, name: str, array: Array) -> None:
    if name == "__metadata__":
        raise CheckpointError(f"cannot write {path}: the name {name!r} is reserved by the format")
    if array.dtype.name not in _WRITABLE:
        raise CheckpointError(f"cannot write {path}: {name!r} has dtype {array.dtype}")


def _cause(error: Exception) -> str:
    """What safetensors says after its 'Error while serializing: ' or 'deserializing header: '."""
    return str(error).split(": ", 1)[-1]
