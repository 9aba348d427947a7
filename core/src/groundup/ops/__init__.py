"""Every op as a function of tensors, and the registry of op classes behind them."""

from groundup.ops.functions import *
from groundup.ops.op import REGISTRY, Cost, Ctx, Op
from groundup.ops.third_party import all_ops, find
