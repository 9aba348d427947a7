"""The backend's front door: whether CuPy and the driver work together, and which GPUs there are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from groundup.backends.api import Available, Backend, Unavailable
from groundup.errors import BackendUnavailable

if TYPE_CHECKING:
    from groundup.backends.api import Device

_CUPY: Final = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy-cuda14x")
_INSTALL: Final = "pip install 'groundup-cuda[cuda13]', or [cuda12] for a driver before 580"
_NO_DEVICE: Final = 100  # cudaErrorNoDevice


class CudaBackend(Backend):
    """CUDA C++ kernels on NVIDIA GPUs."""

    name = "cuda"
    api_version = (1, 0)
    priority = 300

    def probe(self) -> Available | Unavailable:
        """Available if CuPy, the driver and NVIDIA's libraries are there and fit."""
        packages = _cupy_packages()
        if not packages:
            return Unavailable("CuPy is not installed", _INSTALL)
        names = " ".join(packages)
        if len(packages) > 1:
            reason = f"two CuPy packages are installed and break each other: {names}"
            return Unavailable(reason, f"pip uninstall -y {names}, then {_INSTALL}")
        try:
            from cupy.cuda import runtime
        except Exception as error:  # a broken installation fails in many ways
            reason = f"CuPy does not load: {type(error).__name__}: {error}".splitlines()[0]
            return Unavailable(reason, f"pip install --force-reinstall {names}")
        return _driver_problem(runtime) or _library_problem() or _devices(runtime)

    def open(self, index: int) -> Device:
        """The GPU of that number."""
        from groundup_cuda.device import CudaDevice

        return CudaDevice(index)


def describe(properties: Mapping[str, Any]) -> str:
    """A GPU in words."""
    name, memory = properties["name"].decode(), properties["totalGlobalMem"] / 2**30
    return f"{name}, {properties['multiProcessorCount']} SMs, {memory:.0f} GiB"


def _cupy_packages() -> list[str]:
    """The CuPy packages that are installed; there is one per major version of CUDA."""
    found = []
    for name in _CUPY:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def _driver_problem(runtime: Any) -> Unavailable | None:
    """No driver, or one that is too old for the CUDA that CuPy was built for."""
    driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if not driver:
        return Unavailable("no NVIDIA driver", "install it: https://www.nvidia.com/drivers")
    major = driver // 1000
    if major >= built // 1000:
        return None
    reason = f"CuPy is built for CUDA {built // 1000}, but the driver is for CUDA {major}"
    switch = f", or uninstall CuPy and pip install 'groundup-cuda[cuda{major}]'"
    return Unavailable(reason, "update the driver" + (switch if major >= 12 else ""))


def _library_problem() -> Unavailable | None:
    """NVRTC or cuBLAS missing."""
    from groundup_cuda.jit import load_library

    try:
        load_library("nvrtc")
        load_library("cublas")
    except BackendUnavailable as error:
        return Unavailable(error.message, error.hint or _INSTALL)
    return None


def _devices(runtime: Any) -> Available | Unavailable:
    found = []
    try:
        found = [runtime.getDeviceProperties(i) for i in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError as error:
        if error.status != _NO_DEVICE:
            return Unavailable(f"CUDA does not start: {error}", "see whether nvidia-smi works")
    if not found:
        return Unavailable("the driver finds no GPU", "see nvidia-smi, and CUDA_VISIBLE_DEVICES")
    return Available([describe(properties) for properties in found])
