"""groundup: tensors, autograd, modules and optimizers on backends that are plugins."""

from groundup._version import __version__
from groundup.autograd import detect_anomaly, enable_grad, grad, no_grad, value_and_grad
from groundup.creation import (
    arange, empty, eye, from_dlpack, from_numpy, full, full_like, ones, ones_like, tensor, zeros,
    zeros_like,
)  # fmt: skip
from groundup.tensor import Tensor
