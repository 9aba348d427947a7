"""profile: records what runs inside, and shows or writes it.

with groundup.profile() as p:
    step()
print(p.table())
p.write_trace("trace.json")
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from groundup import dispatch
from groundup.backends.api import Device, Launch
from groundup.errors import ConfigError
from groundup.graph import Intercept, mode, observers
from groundup.ops.op import Op
from groundup.profiler.counting import Counts, counting
from groundup.profiler.recording import Event, Recording
from groundup.profiler.summary import Summary
from groundup.spans import current

if TYPE_CHECKING:
    from groundup.files import StrPath
    from groundup.tensor import Tensor


class profile(Intercept):  # noqa: N801 - used like a function, as `autocast` is
    """Records every op, module, span, wait, compilation and allocation of the current thread.

    Host time is the wall time that a call took. On devices with timers of their own the device
    time of every launch is measured too; each is then waited for, so that nothing overlaps and the
    host time grows. `device_time=False` leaves the run undisturbed, `True` measures on any device,
    if need be with the host's clock.

    Keeps some 400 bytes an event: meant for tens to hundreds of training steps. Raises ConfigError
    inside another profile.
    """

    watches_only = True

    def __init__(self, *, device_time: bool | None = None) -> None:
        super().__init__(dispatch.apply)
        self._device_time = device_time
        self._recording = Recording(self._meet)
        self._counting = counting()
        self._within: Intercept | None = None

    @property
    def events(self) -> Sequence[Event]:
        """All of them, in the order in which they began."""
        return self._recording.events

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self._recording.ended

    @property
    def counts(self) -> Counts:
        """What `groundup.counting` counts, of all devices."""
        return self._counting.counts

    def summary(self) -> Summary:
        """Time, launches, flops and bytes by op, module and lane."""
        return Summary(self.events, self.seconds, self.counts, self._recording.kinds)

    def table(self, limit: int = 20) -> str:
        """The summary as text: the `limit` ops and modules that took the most time."""
        from groundup.profiler.table import render

        return render(self.summary(), limit)

    def write_trace(self, path: StrPath) -> None:
        """Write a file for chrome://tracing and ui.perfetto.dev. Raises CheckpointError."""
        from groundup.profiler.trace import write

        write(path, self.events)

    # ---- while it records ----

    def __enter__(self) -> profile:  # type: ignore[override]
        if current.recorder is not None:
            raise ConfigError("profile: one is already active in this thread")
        # Outside of all that is active, so that it sees what autocast makes of an op.
        active = observers()
        if active:
            self._within = active[-1]
            active[-1]._outer = self._run
        else:
            mode.interceptor = self._run
        self._counting = counting()
        self._counting.__enter__()
        self._recording = current.recorder = Recording(self._meet)
        return self

    def __exit__(self, *_: object) -> None:
        self._recording.finish()
        current.recorder = None
        self._counting.__exit__()
        for device in self._recording.devices:
            device.timer = None
        if self._within is None:
            mode.interceptor = None
        else:
            self._within._outer = None
            self._within = None

    def _run(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        if current.recorder is not self._recording:  # nothing runs: it is written down for later
            return self._passed_on(op, inputs, device)
        recording = self._recording
        recording.begin_op(op, inputs, device)
        try:
            results = self._passed_on(op, inputs, device)
            recording.note_results(results)
            return results
        finally:
            recording.end()

    def _passed_on(self, op: Op, inputs: tuple[Tensor, ...], device: Device | None) -> Any:
        if self._outer is None:  # stays active: the parts of a composition are ops as well
            return dispatch.run(op, inputs, device)
        return super()._run(op, inputs, device)

    def _meet(self, device: Device) -> None:
        wanted = self._device_time
        if "timer" in device.info.features if wanted is None else wanted:
            device.timer = partial(self._timed, device)

    def _timed(self, device: Device, launch: Launch) -> None:
        """Run a launch, and wait for it to learn how long it took on the device."""
        if current.recorder is not self._recording:  # another thread's
            launch()
            return
        current.waiting = True  # these waits are none of the program's
        try:
            self._recording.add_device_seconds(sum(device.timed([launch])))
        finally:
            current.waiting = False
