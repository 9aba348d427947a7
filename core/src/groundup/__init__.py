"""groundup: tensors, autograd, modules and optimizers on backends that are plugins.

Everything that makes or takes tensors is here; `nn`, `optim`, `data`, `models`, `train` and
`generate` are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from groundup._version import __version__ as __version__

from groundup.ops.functions import *  # isort: skip  # before the modules: `random` is also one of these
from groundup import errors as errors, ops as ops, random as random  # isort: skip
from groundup.autocast import autocast as autocast
from groundup.autograd import (
    detect_anomaly as detect_anomaly,
)
from groundup.autograd import (
    enable_grad as enable_grad,
)
from groundup.autograd import (
    grad as grad,
)
from groundup.autograd import (
    no_grad as no_grad,
)
from groundup.autograd import (
    value_and_grad as value_and_grad,
)
from groundup.backends.devices import (
    default_device as default_device,
)
from groundup.backends.devices import (
    device_for as device_for,
)
from groundup.backends.devices import (
    set_default_device as set_default_device,
)
from groundup.backends.hookspecs import hookimpl as hookimpl
from groundup.checkpoint import checkpoint as checkpoint
from groundup.creation import *
from groundup.dtypes import (
    DType as DType,
)
from groundup.dtypes import (
    bfloat16 as bfloat16,
)
from groundup.dtypes import (
    bool_ as bool_,
)
from groundup.dtypes import (
    float16 as float16,
)
from groundup.dtypes import (
    float32 as float32,
)
from groundup.dtypes import (
    float64 as float64,
)
from groundup.dtypes import (
    int8 as int8,
)
from groundup.dtypes import (
    int32 as int32,
)
from groundup.dtypes import (
    int64 as int64,
)
from groundup.dtypes import (
    uint8 as uint8,
)
from groundup.errors import GroundupError as GroundupError
from groundup.gradcheck import gradcheck as gradcheck
from groundup.profiler.counting import counting as counting
from groundup.profiler.profile import profile as profile
from groundup.random import *
from groundup.spans import span as span
from groundup.tensor import Tensor as Tensor

if TYPE_CHECKING:
    from groundup import data as data
    from groundup import models as models
    from groundup import nn as nn
    from groundup import optim as optim
    from groundup.program.compile import compile as compile

_LAZY = ("data", "generate", "models", "nn", "optim", "program", "train")


def __getattr__(name: str) -> Any:
    if name == "compile":  # it stands above this module
        return importlib.import_module("groundup.program.compile").compile
    if name in _LAZY:
        return importlib.import_module(f"groundup.{name}")
    raise AttributeError(f"module 'groundup' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "compile"})
