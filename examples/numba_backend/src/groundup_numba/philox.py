"""Random bits: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), four words per counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from groundup.backends.api import View
from groundup.layout import Layout
from groundup_numba.native import COMPILED, Plan, dense, native, strided
from groundup_numba.threads import parallel

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_FIRST, _SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_FIRST, _WEYL_SECOND = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@njit(**COMPILED)
def _philox(key, draw, out, first, last):
    """Counters `first` to `last`, each with its four words; the last may be cut short."""
    for counter in range(first, last):
        a, b = np.uint64(counter) & _LOW, np.uint64(counter) >> _HALF
        c, d = draw[0], draw[1]
        left, right = key[0], key[1]
        for _ in range(10):
            one, two = a * _FIRST, c * _SECOND
            a, b = (two >> _HALF) ^ b ^ left, two & _LOW
            c, d = (one >> _HALF) ^ d ^ right, one & _LOW
            left, right = (left + _WEYL_FIRST) & _LOW, (right + _WEYL_SECOND) & _LOW
        at = 4 * counter
        if at + 4 <= out.size:
            out[at], out[at + 1], out[at + 2], out[at + 3] = a, b, c, d
        else:
            words = (a, b, c, d)
            for i in range(out.size - at):
                out[at + i] = words[i]


@native("random_bits", "shape")
def _random_bits(op: Any, inputs: Sequence[Layout], outputs: Sequence[Layout]) -> Plan:
    counters = -(-outputs[0].size // 4)

    def run(state: View, out: View) -> None:
        words = strided(state).astype(np.uint32).astype(np.uint64)
        bits = dense(out).view(np.uint32)
        parallel(lambda a, b: _philox(words[:2], words[2:], bits, a, b), counters, 16)

    return Plan(run)
