"""Other places to which a run's metrics go, by the hook `groundup_trackers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groundup.backends.plugins import log, one_line, plugins
from groundup.errors import ConfigError
from groundup.suggest import did_you_mean
from groundup.train.config import TrainConfig


class Tracking:
    """The tracker of a run, guarded: one that raises is dropped with a warning."""

    def __init__(self, tracker: Any, name: str) -> None:
        self._tracker = tracker
        self._name = name

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Pass on one line of metrics.jsonl."""
        self._call("log", metrics["step"], metrics)

    def finish(self) -> None:
        """Tell the tracker that the run is over, or interrupted."""
        self._call("finish")

    def _call(self, method: str, *arguments: object) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, method)(*arguments)
        except Exception as error:
            self._tracker = None
            log.warning("tracker %s dropped: %s", self._name, one_line(error))


def open_tracking(config: TrainConfig) -> Tracking:
    """The tracker that `config` names. Raises ConfigError if no plugin brings one of that name."""
    name = config.tracker
    if name is None:
        return Tracking(None, "none")
    factories: dict[str, Callable[..., Any]] = {}
    for answer in plugins().call("groundup_trackers"):
        factories |= answer.value
    if name not in factories:
        hint = did_you_mean(name, factories) or "install the package that brings it"
        raise ConfigError(f"no plugin brings a tracker named {name!r}", hint=hint)
    try:
        return Tracking(factories[name](config), name)
    except Exception as error:
        raise ConfigError(f"tracker {name}: {one_line(error)}") from error
