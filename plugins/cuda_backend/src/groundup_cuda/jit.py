"""From CUDA C++ to machine code: NVRTC by ctypes, which needs neither GPU nor driver, and a cache
on disk, in GROUNDUP_CACHE, else XDG_CACHE_HOME/groundup, else ~/.cache/groundup.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs

from groundup.errors import BackendUnavailable, CheckpointError, KernelCompileError
from groundup.files import atomic_write

OPTIONS: Final = ("-std=c++17",)  # and no fast math: results are IEEE 754's


# The assembler's lines about one kernel.
_USED: Final = re.compile(
    r"Function properties for (\w+)\n.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?\n"
    r".*?Used (\d+) registers(?:.*?(\d+) bytes smem)?"
)


@attrs.frozen
class Resources:
    """Of one kernel: bytes of local memory and those that registers were spilled to, registers of a
    thread, bytes of shared memory that it always has.
    """

    stack: int
    spilled: int
    registers: int
    shared: int = 0


def choose_target(capability: tuple[int, int], known: Sequence[int]) -> str | None:
    """The architecture to compile for among those that NVRTC knows (75, 80, ...).

    Machine code ("sm_86") runs on its own major version from its minor version on. A GPU that is
    newer gets PTX ("compute_90"), of which its driver makes machine code; None if it is older.
    """
    older = [arch for arch in known if arch <= capability[0] * 10 + capability[1]]
    if not older:
        return None
    best = max(older)
    return f"sm_{best}" if best // 10 == capability[0] else f"compute_{best}"


class Nvrtc:
    """NVIDIA's runtime compiler."""

    def __init__(self, library: Any) -> None:
        self._library = library
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def architectures(self) -> list[int]:
        """The compute capabilities that it compiles for, as 75, 80, 86."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", known)
        return list(known)

    def compile(self, source: str, target: str, name: str = "kernel") -> bytes:
        """The cubin, or PTX. Raises KernelCompileError with the log and the numbered source."""
        with self._compiled(source, target, name, OPTIONS) as program:
            what = "nvrtcGetPTX" if target.startswith("compute") else "nvrtcGetCUBIN"
            return self._fetch(what, program)

    def resources(self, source: str, target: str, name: str = "kernel") -> dict[str, Resources]:
        """What each kernel of `source` takes up, as the assembler reports it for an "sm_" target.

        Raises KernelCompileError.
        """
        with self._compiled(source, target, name, (*OPTIONS, "--ptxas-options=-v")) as program:
            log = self._fetch("nvrtcGetProgramLog", program).decode()
        return {
            found[1]: Resources(*map(int, found.groups("0")[1:])) for found in _USED.finditer(log)
        }

    @contextmanager
    def _compiled(
        self, source: str, target: str, name: str, options: Sequence[str]
    ) -> Iterator[ctypes.c_void_p]:
        program = ctypes.c_void_p()
        label = f"{name}.cu".encode()
        self._call(
            "nvrtcCreateProgram", ctypes.byref(program), source.encode(), label, 0, None, None
        )
        try:
            encoded = [option.encode() for option in (f"-arch={target}", *options)]
            given = (ctypes.c_char_p * len(encoded))(*encoded)
            if self._library.nvrtcCompileProgram(program, len(encoded), given):
                log = self._fetch("nvrtcGetProgramLog", program).rstrip(b"\0\n").decode()
                lines = "\n".join(f"{i:4} {s}" for i, s in enumerate(source.splitlines(), 1))
                raise KernelCompileError(f"{name} does not compile for {target}: {log}\n{lines}")
            yield program
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _fetch(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"{what}Size", program, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        self._call(what, program, data)
        return data.raw

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise KernelCompileError(f"NVRTC: {function} failed with status {status}")


@cache
def nvrtc() -> Nvrtc:
    """The installed NVRTC. Raises BackendUnavailable if there is none."""
    return Nvrtc(load_library("nvrtc"))


def load_library(name: str) -> Any:
    """NVIDIA's library `name`, from its Python package or the system. Raises BackendUnavailable."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        path = load_nvidia_dynamic_lib(name).abs_path or ""
    except (ImportError, RuntimeError) as error:
        reason = f"NVIDIA's library {name} is not found"
        raise BackendUnavailable(reason, hint="pip install 'groundup-cuda[cuda13]'") from error
    # NVRTC looks for this part by name, and not everywhere in its own folder.
    for part in Path(path).parent.glob(f"lib{name}-builtins.so*"):
        ctypes.CDLL(str(part), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(path)


def cached(source: str, target: str, name: str) -> bytes:
    """`source` compiled, from the cache if it is there. Raises KernelCompileError."""
    decisive = "\0".join([source, *OPTIONS, target, nvrtc().version])
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:32]
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("GROUNDUP_CACHE") or Path(base).expanduser() / "groundup") / "cuda"
    file = folder / f"{name}-{digest}.bin"
    try:
        return file.read_bytes()
    except OSError:
        code = nvrtc().compile(source, target, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_bytes(code)
    except (OSError, CheckpointError):
        pass  # a cache that cannot be written, as in a read-only home, costs time and no more
    return code
