"""Images larger than samples: norms of channels, pools and convolutions against the cpu."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.ops import REGISTRY
from groundup.ops.op import Op
from groundup_cuda.backend import CudaBackend

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

RELATIVE = {"float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2}  # of the largest magnitude


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def both(name: str, dtype: str, *inputs: np.ndarray, **fields: Any) -> None:
    """The op on the GPU in `dtype`, and on the cpu in float32 on the same rounded inputs."""
    op = REGISTRY[name](**fields)
    narrow = [g.from_numpy(x, "cuda:0").astype(dtype) for x in inputs]
    wide = [g.from_numpy(t.astype("float32").numpy(), "cpu") for t in narrow]
    for got, wanted in zip(results(op, narrow), results(op, wide), strict=True):
        assert got.dtype.name == dtype
        right = wanted.numpy()
        error = np.abs(got.astype("float32").numpy() - right)
        assert error.max() <= RELATIVE[dtype] * max(np.abs(right).max(), 1e-3)


def results(op: Op, inputs: list[g.Tensor]) -> tuple[g.Tensor, ...]:
    made = op(*inputs)
    return made if isinstance(made, tuple) else (made,)


DTYPES = pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
SHAPES = pytest.mark.parametrize(
    "shape", [(4, 64, 16, 20), (300, 40), (2, 6, 33, 35), (70, 48, 3), (1, 8, 90, 64)]
)


@DTYPES
@SHAPES
def test_batch_norm(dtype: str, shape: tuple[int, ...]) -> None:
    x, grad, channels = normal(*shape), normal(*shape[::-1]).T.copy(), shape[1]
    mean, var, weight, bias = (
        normal(channels),
        normal(channels + 1)[1:] ** 2 + 0.5,
        *(normal(channels + k)[k:] for k in (2, 3)),
    )
    both("batch_norm", dtype, x, mean, var, weight, bias)
    both("batch_norm_backward", dtype, x, mean, var, weight, grad)


@DTYPES
@SHAPES
@pytest.mark.parametrize("parts", [1, 2, -1])
def test_group_norm(dtype: str, shape: tuple[int, ...], parts: int) -> None:
    x, grad, channels = normal(*shape), normal(*shape[::-1]).T.copy(), shape[1]
    groups = channels // 2 if parts < 0 else parts
    weight, bias = normal(channels), normal(channels + 1)[1:]
    both("group_norm", dtype, x, weight, bias, groups=groups)
    both("group_norm_backward", dtype, x, weight, grad, groups=groups)


@DTYPES
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 5), (1, 3), (1, 2))],
)
def test_pools(
    dtype: str, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    x, fields = normal(3, 5, 30, 41), {"kernel": kernel, "stride": stride, "padding": padding}
    both("max_pool2d", dtype, x, **fields)
    both("avg_pool2d", dtype, x, **fields)
    out = REGISTRY["max_pool2d"](**fields)(g.from_numpy(x, "cpu").astype(dtype))
    grad = normal(*out.shape)
    both("max_pool2d_backward", dtype, x, out.astype("float32").numpy(), grad, **fields)
    both("avg_pool2d_backward", dtype, grad, size=(30, 41), **fields)


CONVOLUTIONS = pytest.mark.parametrize(
    ("channels", "results_", "kernel", "settings"),
    [
        (24, 70, (3, 3), {"padding": (1, 1)}),
        (24, 70, (1, 1), {}),
        (16, 80, (3, 5), {"stride": (2, 1), "dilation": (1, 2), "groups": 2}),
        (32, 32, (3, 3), {"stride": (2, 2), "padding": (1, 1), "groups": 32}),
        (3, 64, (7, 7), {"stride": (2, 2), "padding": (3, 3)}),
    ],
)


@DTYPES
@CONVOLUTIONS
def test_convolutions(
    dtype: str, channels: int, results_: int, kernel: tuple[int, int], settings: dict[str, Any]
) -> None:
    """And both gradients, whose inner axes are long enough to be cut."""
    x, groups = normal(2, channels, 21, 18), settings.get("groups", 1)
    weight, bias = normal(results_, channels // groups, *kernel), normal(results_)
    both("conv2d", dtype, x, weight, bias, **settings)
    grad = normal(*REGISTRY["conv2d"](**settings)(*map(g.from_numpy, (x, weight))).shape)
    both("conv2d_backward_weight", dtype, x, grad, kernel=kernel, **settings)
    both("conv_transpose2d", dtype, grad, weight, **settings)


@DTYPES
def test_transposed_convolution_multiplies_no_zeros(dtype: str) -> None:
    """Taps that meet nothing are no zeros: an infinite weight stays where it belongs."""
    x, weight = normal(1, 16, 5, 6), normal(16, 70, 3, 3)
    weight[3, :, 1, 0] = np.inf
    weight[5, 2, 2, 2] = np.nan
    narrow = [g.from_numpy(a, "cuda:0").astype(dtype) for a in (x, weight)]
    wide = [g.from_numpy(t.astype("float32").numpy(), "cpu") for t in narrow]
    got, wanted = (
        g.conv_transpose2d(*pair, stride=2, padding=1).astype("float32").numpy()
        for pair in (narrow, wide)
    )
    finite = np.isfinite(wanted)
    assert finite.any()
    assert not finite.all()
    np.testing.assert_array_equal(got[~finite], wanted[~finite])
    error = np.abs(got[finite] - wanted[finite]).max()
    assert error <= RELATIVE[dtype] * np.abs(wanted[finite]).max()
