"""How the CPU computes it: in place in the output, where the composition makes copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from groundup.backends.api import Device, Kernel
from groundup.layout import Layout
from groundup.ops import Op
from groundup_cpu_ref.native import Array, Native, specialise
from groundup_softcap.op import Softcap


def softcap(op: Softcap, x: Array, out: Array) -> None:
    """Fill `out`. float16 and bfloat16 arrive as float32 and are rounded back once."""
    np.multiply(x, 1 / op.cap, out=out)
    np.tanh(out, out=out)
    np.multiply(out, op.cap, out=out)


SOFTCAP = Native(softcap, params=frozenset({"cap"}), in_place=False, exact=False)


def factory(device: Device, op: Op, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Kernel:
    """The kernel for these layouts. It takes all of them; else it would return a `Declined`."""
    return specialise(op, SOFTCAP, inputs, outputs)
