"""remainder is exact for quotients of every size."""

from __future__ import annotations

from typing import Any

import numpy as np

import groundup as g


def test_far_quotients(portable_device: Any) -> None:
    rng = np.random.default_rng(4)
    sign = rng.choice([-1.0, 1.0], (2, 4000))
    a, b = (sign * 2.0 ** rng.uniform(-60, 60, (2, 4000))).astype(np.float32)
    a[:6], b[:6] = [-0.0, 4, -4, 1e38, 3, -3], [2, -2, 2, 1e-30, np.inf, np.inf]
    found = g.from_numpy(a, portable_device).remainder(g.from_numpy(b, portable_device)).numpy()
    wanted = np.fmod(a.astype(np.float64), b)
    wanted = np.where((wanted != 0) & ((wanted < 0) != (b < 0)), wanted + b, wanted)
    np.testing.assert_array_equal(found, wanted.astype(np.float32))


def test_what_has_no_remainder(portable_device: Any) -> None:
    a = np.array([np.inf, -np.inf, 1, np.nan, 1, 0], np.float32)
    b = np.array([2, 3, 0, 1, np.nan, 0], np.float32)
    found = g.from_numpy(a, portable_device).remainder(g.from_numpy(b, portable_device)).numpy()
    assert np.isnan(found).all()
