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
_OLDEST: Final = (7, 0)  # compute capability: the first whose atomics and shuffles we rely on


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
        if len(packages) > 1:
            names = " ".join(packages)
            return Unavailable(
                f"two CuPy packages are installed and break each other: {names}",
                f"pip uninstall -y {names}, then {_INSTALL}",
            )
        return _probe_cupy(next(iter(packages)))

    def open(self, index: int) -> Device:
        """The GPU of that number."""
        from groundup_cuda.device import CudaDevice

        return CudaDevice(index)


def _cupy_packages() -> Mapping[str, str]:
    """The installed CuPy packages and their versions."""
    found = {}
    for name in _CUPY:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _probe_cupy(package: str) -> Available | Unavailable:
    try:
        from cupy.cuda import runtime
    except Exception as error:  # a broken installation fails in many ways
        reason = f"CuPy does not load: {type(error).__name__}: {error}".splitlines()[0]
        return Unavailable(reason, f"pip install --force-reinstall {package}")
    problem = _driver_problem(runtime) or _library_problem()
    return problem or _devices(runtime)


def _driver_problem(runtime: Any) -> Unavailable | None:
    """No driver, or one that is too old for the CUDA that CuPy was built for."""
    try:
        driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError as error:
        return Unavailable(f"the NVIDIA driver does not answer: {error}", "reinstall the driver")
    if not driver:
        return Unavailable("no NVIDIA driver", "install it: https://www.nvidia.com/drivers")
    if driver // 1000 < built // 1000:
        major = driver // 1000
        wanted = "update the driver"
        if major >= 12:
            wanted += f", or pip uninstall CuPy and pip install 'groundup-cuda[cuda{major}]'"
        return Unavailable(
            f"CuPy is built for CUDA {built // 1000}, but the driver is for CUDA {_dotted(driver)}",
            wanted,
        )
    return None


def _library_problem() -> Unavailable | None:
    """NVRTC or cuBLAS missing."""
    from groundup_cuda.jit import load_library

    for name in ("nvrtc", "cublas"):
        try:
            load_library(name)
        except BackendUnavailable as error:
            return Unavailable(error.message, error.hint or "")
    return None


def _devices(runtime: Any) -> Available | Unavailable:
    try:
        found = [runtime.getDeviceProperties(i) for i in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError as error:
        if error.status != _NO_DEVICE:
            return Unavailable(
                f"CUDA does not start: {error}", "see whether nvidia-smi works; restart the machine"
            )
        found = []
    if not found:
        return Unavailable(
            "the driver finds no GPU", "see nvidia-smi, and whether CUDA_VISIBLE_DEVICES hides it"
        )
    old = [p for p in found if (p["major"], p["minor"]) < _OLDEST]
    if old:
        name = old[0]["name"].decode()
        return Unavailable(
            f"{name} is too old: compute capability {old[0]['major']}.{old[0]['minor']}, not 7.0",
            "hide it by CUDA_VISIBLE_DEVICES",
        )
    return Available([describe(properties) for properties in found])


def describe(properties: Mapping[str, Any]) -> str:
    """A GPU in words."""
    name, memory = properties["name"].decode(), properties["totalGlobalMem"] / 2**30
    return f"{name}, {properties['multiProcessorCount']} SMs, {memory:.0f} GiB"


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
