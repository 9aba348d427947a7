"""Optimizers, learning rate schedules and loss scaling, under PyTorch's names."""

from groundup.optim import schedules
from groundup.optim.adam import Adam, AdamW
from groundup.optim.groups import ParamGroup
from groundup.optim.optimizer import Optimizer
from groundup.optim.scaler import GradScaler
from groundup.optim.schedules import LRScheduler, constant, cosine, linear, sequential, warmup
from groundup.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "GradScaler", "LRScheduler", "Optimizer", "ParamGroup", "constant",
    "cosine", "linear", "schedules", "sequential", "warmup",
]  # fmt: skip
