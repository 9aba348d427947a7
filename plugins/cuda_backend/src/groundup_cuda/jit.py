"""From CUDA C++ to machine code: NVRTC by ctypes, which needs neither GPU nor driver, and a cache
on disk.

The cache is in GROUNDUP_CACHE, else XDG_CACHE_HOME/groundup, else ~/.cache/groundup. A file's name
is a digest of all that decides its content; the file begins with a digest of the rest, so that a
damaged one is compiled anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs

from groundup.errors import BackendUnavailable, CheckpointError, KernelCompileError
from groundup.files import atomic_write
from groundup_cuda.source import numbered

OPTIONS: Final = ("-std=c++17",)
_DIGEST: Final = 32  # bytes of sha256


@attrs.frozen
class Target:
    """What is compiled for: machine code ("sm_90") or, for GPUs newer than NVRTC, PTX
    ("compute_120").
    """

    arch: str

    @property
    def is_ptx(self) -> bool:
        """Whether the driver has to finish the work."""
        return self.arch.startswith("compute_")


def choose_target(capability: tuple[int, int], known: Sequence[int]) -> Target | None:
    """The best target for a GPU among the architectures that NVRTC knows (75, 80, ...).

    Machine code runs on its own major version from its minor version on; PTX on anything newer.
    None if all that NVRTC knows is newer than the GPU.
    """
    number = capability[0] * 10 + capability[1]
    older = [arch for arch in known if arch <= number]
    if not older:
        return None
    best = max(older)
    return Target(f"sm_{best}" if best // 10 == capability[0] else f"compute_{best}")


class Nvrtc:
    """NVIDIA's runtime compiler."""

    def __init__(self, library: Any) -> None:
        self._library = library
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    def architectures(self) -> list[int]:
        """The compute capabilities that it compiles for, as 75, 80, 86."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        archs = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", archs)
        return list(archs)

    def compile(self, source: str, target: Target, name: str = "kernel") -> bytes:
        """The cubin, or PTX. Raises KernelCompileError with the log and the numbered source."""
        program = ctypes.c_void_p()
        text, label = source.encode(), f"{name}.cu".encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text, label, 0, None, None)
        try:
            options = [f"-arch={target.arch}".encode(), *[o.encode() for o in OPTIONS]]
            array = (ctypes.c_char_p * len(options))(*options)
            if self._library.nvrtcCompileProgram(program, len(options), array):
                log = self._fetch("nvrtcGetProgramLog", program).rstrip(b"\0\n").decode()
                raise KernelCompileError(
                    f"{name} does not compile for {target.arch}: {log}\n{numbered(source)}"
                )
            return self._fetch("nvrtcGetPTX" if target.is_ptx else "nvrtcGetCUBIN", program)
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
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            text = self._library.nvrtcGetErrorString(status).decode()
            raise KernelCompileError(f"NVRTC: {function}: {text}")


@cache
def nvrtc() -> Nvrtc:
    """The installed NVRTC. Raises BackendUnavailable if there is none."""
    return Nvrtc(load_library("nvrtc"))


def load_library(name: str) -> Any:
    """NVIDIA's library `name`, from its Python package or the system. Raises BackendUnavailable."""
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    try:
        found = load_nvidia_dynamic_lib(name)
    except (DynamicLibNotFoundError, RuntimeError) as error:
        raise BackendUnavailable(
            f"NVIDIA's library {name} is not found", hint="pip install 'groundup-cuda[cuda13]'"
        ) from error
    assert found.abs_path is not None, "it was found somewhere"
    # NVRTC looks for this one by name, and not everywhere in its own folder.
    for part in Path(found.abs_path).parent.glob(f"lib{name}-builtins.so*"):
        ctypes.CDLL(str(part), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(found.abs_path)


def cached(source: str, target: Target, name: str) -> bytes:
    """`source` compiled, from the cache if it is there. Raises KernelCompileError."""
    compiler = nvrtc()
    decisive = "\0".join([source, *OPTIONS, target.arch, repr(compiler.version)])
    file = _folder() / f"{name[:80]}-{hashlib.sha256(decisive.encode()).hexdigest()[:32]}.bin"
    code = _read(file)
    if code is None:
        code = compiler.compile(source, target, name)
        _write(file, code)
    return code


def _folder() -> Path:
    given = os.environ.get("GROUNDUP_CACHE")
    if given:
        return Path(given) / "cuda"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "groundup" / "cuda"


def _read(file: Path) -> bytes | None:
    try:
        data = file.read_bytes()
    except OSError:
        return None
    digest, code = data[:_DIGEST], data[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    """A cache that cannot be written (a read-only home) costs time, and nothing else."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_bytes(hashlib.sha256(code).digest() + code)
    except (OSError, CheckpointError):
        return
