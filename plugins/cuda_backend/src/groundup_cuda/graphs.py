"""A program's launches as one CUDA graph, which the driver starts by one call.

Recording goes to a stream of its own, so that other threads' launches stay out of it, and which
the default stream does not wait for, so that CuPy and PyTorch can go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from groundup_cuda.launch import FAULTS, CudaLaunch

if TYPE_CHECKING:
    from groundup_cuda.device import CudaDevice


class Recorded:
    """Replays launches in order.

    The first run starts them one by one: a kernel's code is loaded when it first runs, which must
    not happen while a graph is recorded. The second run records.
    """

    def __init__(self, device: CudaDevice, launches: Sequence[CudaLaunch]) -> None:
        self._device = device
        self._launches = launches  # the graph has copied their parameters, not their memory
        self._ran = False
        self._graph: Any = None

    def __call__(self) -> None:
        """Enqueue all."""
        device = self._device
        if not self._ran:
            for launch in self._launches:
                launch()
            self._ran = True
            return
        try:
            device.use()
            if self._graph is None:
                self._graph = self._record()
            self._graph.launch(device.stream)
        except FAULTS as error:
            device.fault(error)

    def _record(self) -> Any:
        with self._device.recording() as stream:
            stream.begin_capture()
            try:
                for launch in self._launches:
                    launch.enqueue(stream.ptr)
            finally:  # a stream that stays in capture would be of no more use
                graph = stream.end_capture()
            return graph
