"""Every error that groundup raises on purpose, in one tree.

An error's text names the op, the argument, shapes, dtypes and the device, and where there is one, a
way out. Context that is known only further up (the device, the module) is added on the way by
`note_device` and `note_module`, so the function that finds a mistake states just what it knows.
"""

from __future__ import annotations

from typing import Self


class GroundupError(Exception):
    """Base class. `str(error)` is one line: message, [dtype, device], module path, hint."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where: str | None = None
        self.module: str | None = None
        self.origin: object | None = None  # the innermost nn.Module that was running

    def note_device(self, where: str) -> Self:
        """Add '[float32, cpu]' once; the innermost op's context wins."""
        if self.where is None:
            self.where = where
        return self

    def note_module(self, path: str) -> Self:
        """Set the path of the module that was running; outer modules know longer paths."""
        self.module = path
        return self

    def __str__(self) -> str:
        text = self.message
        if self.where:
            text += f" [{self.where}]"
        if self.module:
            text += f" in {self.module}"
        if self.hint:
            text += f" ({self.hint})"
        return text


class ShapeError(GroundupError, ValueError):
    """Shapes, axes or sizes that an op does not accept."""


class DTypeError(GroundupError, TypeError):
    """A dtype that an op does not accept."""


class IndexingError(GroundupError, IndexError):
    """An index that is out of range or of a kind that indexing does not support."""


class DomainError(GroundupError, ArithmeticError):
    """Values that an op refuses: an integer division by zero, an id outside its table."""


class DeviceMismatch(GroundupError, ValueError):
    """Tensors of one op live on different devices."""


class UnsupportedOp(GroundupError, NotImplementedError):
    """The device has neither a kernel nor a composition for this op."""


class UnsupportedDtype(GroundupError, NotImplementedError):
    """The device cannot store or compute this dtype."""


class OutOfMemory(GroundupError, MemoryError):
    """The device has no room for a buffer, even after the core emptied its cache."""


class DeviceLost(GroundupError, RuntimeError):
    """The device went away; it must be opened again."""


class KernelCompileError(GroundupError, RuntimeError):
    """A kernel's source did not compile; the text carries numbered source lines."""


class BackendUnavailable(GroundupError, RuntimeError):
    """A backend that was asked for is not installed, not working, or not for this core."""


class PluginError(GroundupError, RuntimeError):
    """A plugin breaks the rules: two kernels of one priority, a duplicate op, a bad hook."""


class OpDefinitionError(GroundupError, TypeError):
    """An op class lacks a part that its kind requires."""


class AutogradError(GroundupError, RuntimeError):
    """A gradient that cannot be computed: no graph, a freed graph, or an overwritten saved
    tensor.
    """


class GradientMismatch(GroundupError, AssertionError):
    """A gradient that disagrees with central differences."""


class NonFiniteError(GroundupError, ArithmeticError):
    """Anomaly mode saw the first NaN (or infinity) of a run."""


class CheckpointError(GroundupError, ValueError):
    """A file of weights or state that is damaged, foreign or of another model."""


class DataError(GroundupError, ValueError):
    """A corpus or token file that cannot be used."""


class ConfigError(GroundupError, ValueError):
    """A setting that is unknown or out of range."""


class TraceError(GroundupError, RuntimeError):
    """Something that a traced program cannot contain."""


class ProgramError(GroundupError, RuntimeError):
    """A program that is not in order: a pass broke it, or its file is damaged."""


class RandomStateError(GroundupError, ValueError):
    """A generator state that does not fit."""
