"""Every op as a function of tensors, and the registry of op classes behind them."""

from groundup.ops.functions import *
from groundup.ops.op import REGISTRY as REGISTRY
from groundup.ops.op import Cost as Cost
from groundup.ops.op import Ctx as Ctx
from groundup.ops.op import Op as Op
from groundup.ops.third_party import all_ops as all_ops
from groundup.ops.third_party import find as find
