"""recast and foreach_cast beside the same ops with casts around them: one launch, and the same bits
where nothing is added up in another order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Unavailable
from groundup.ops.casting import ForeachCast, Recast
from groundup_cuda.backend import CudaBackend

PROBE = CudaBackend().probe()
if isinstance(PROBE, Unavailable):
    pytest.skip(f"cuda: {PROBE.reason} ({PROBE.fix})", allow_module_level=True)

DEVICE = "cuda:0"
NARROW = ("float16", "bfloat16")
RNG = np.random.default_rng(23)
# Columns: of one load, a warp's most, a block's most, more; and not of whole packs.
SHAPES = ((5, 4), (9, 384), (3, 1024), (2, 1026), (2, 8192), (2, 8203), (700, 64))
LAYER, RMS = (("eps", 1e-5),), (("eps", 1e-6),)
LOSS = (("ignore_index", -100), ("reduction", "mean"))


def normal(*shape: int, dtype: str = "float32") -> g.Tensor:
    values = RNG.normal(size=shape).astype(np.float32)
    return g.from_numpy(values, DEVICE).astype(dtype)


def many(op: Any, *inputs: g.Tensor) -> tuple[g.Tensor, ...]:
    made = g.dispatch.apply(op, inputs)
    return made if isinstance(made, tuple) else (made,)


def both(op: Recast, *inputs: g.Tensor) -> tuple[tuple[g.Tensor, ...], tuple[g.Tensor, ...]]:
    """What the kernel gives, in as many launches as the op alone takes, and the composition."""
    device = g.device_for(DEVICE)
    before = device.launches
    found = many(op, *inputs)
    assert device.launches == before + 1
    composed = op.compose(*inputs)
    return found, composed if isinstance(composed, tuple) else (composed,)


def same_bits(op: Recast, *inputs: g.Tensor) -> None:
    for got, wanted in zip(*both(op, *inputs), strict=True):
        assert got.spec is wanted.spec
        assert got.numpy().tobytes() == wanted.numpy().tobytes()


def near(op: Recast, *inputs: g.Tensor) -> None:
    for got, wanted in zip(*both(op, *inputs), strict=True):
        assert got.spec is wanted.spec
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-5)


def casts(dtype: str, *places: int) -> tuple[tuple[int, Any], ...]:
    return tuple((place, g.dtypes.as_dtype(dtype)) for place in places)


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norms(shape: tuple[int, int], narrow: str) -> None:
    x, half = normal(*shape), normal(*shape, dtype=narrow)
    w, b = normal(shape[1]), normal(shape[1])
    first, wide = casts(narrow, 0), casts("float32", 1)
    same_bits(Recast(call=("layer_norm", LAYER), made=first), x, w, b)
    same_bits(Recast(call=("rms_norm", RMS), given=casts("float32", 0)), half, w)
    same_bits(Recast(call=("add_layer_norm", LAYER), given=wide, made=first), x, half, w, b)
    same_bits(Recast(call=("add_layer_norm", LAYER), given=wide, made=first), x, half, w)
    same_bits(Recast(call=("add_rms_norm", RMS), given=wide, made=casts(narrow, 1)), x, half, w)


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_norms(shape: tuple[int, int], narrow: str) -> None:
    x, grad, total = normal(*shape), normal(*shape, dtype=narrow), normal(*shape)
    w, first, wide = normal(shape[1]), casts(narrow, 0), casts("float32", 2)
    for name, eps in (("layer_norm", LAYER), ("rms_norm", RMS)):
        call = (f"{name}_backward", eps)
        same_bits(Recast(call=call, given=wide, made=first), x, w, grad)
        same_bits(Recast(call=call, given=wide, again=first), x, w, grad)
        call = (f"add_{name}_backward", eps)
        same_bits(Recast(call=call, given=wide, again=first), x, w, grad, total)
        vectors = casts(narrow, *range(1, 3 if name == "layer_norm" else 2))
        same_bits(Recast(call=call, given=wide, made=vectors), x, w, grad, total)


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax(shape: tuple[int, int], narrow: str) -> None:
    x, half = normal(*shape), normal(*shape, dtype=narrow)
    wide, first = casts("float32", 0), casts(narrow, 0)
    for axis in (0, 1):
        for name in ("softmax", "log_softmax"):
            call = (name, (("axis", axis),))
            same_bits(Recast(call=call, given=wide), half)
            same_bits(Recast(call=call, made=first), x)
            call = (f"{name}_backward", (("axis", axis),))
            same_bits(Recast(call=call, given=casts("float32", 1), made=first), x.softmax(1), half)
    for name in ("logsumexp", "var"):
        call = (name, (("axes", (1,)), ("keepdims", False)))
        near(Recast(call=call, given=wide), half)


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("columns", [17, 512, 5000])
def test_losses(columns: int, narrow: str) -> None:
    logits = normal(6, columns, dtype=narrow)
    target = g.from_numpy(RNG.integers(0, columns, 6).astype(np.int32), DEVICE)
    sums, one, rest = normal(6) + 8.0, normal(), normal(6)
    near(Recast(call=("cross_entropy", LOSS), given=casts("float32", 0)), logits, target)
    given = casts("float32", 0)
    backward = Recast(call=("cross_entropy_backward", LOSS), given=given, made=casts(narrow, 0))
    same_bits(backward, logits, target, sums, one, rest)


@pytest.mark.parametrize("narrow", NARROW)
def test_updates_and_sums(narrow: str) -> None:
    shapes = ((3, 5), (257, 33), (4096,))
    params, m, v = ([normal(*shape) for shape in shapes] for _ in range(3))
    grads = [normal(*shape, dtype=narrow) for shape in shapes]
    rates = normal(), g.from_numpy(np.asarray(3, np.int32), DEVICE), normal()
    call = ("adamw", (("count", 3), ("weight_decay", (0.1, 0.0, 0.2))))
    given = casts("float32", 6, 7, 8)
    same_bits(Recast(call=call, given=given), *rates, *params, *grads, *m, *[abs(x) for x in v])
    near(Recast(call=("global_norm", ()), given=casts("float32", 0, 1, 2)), *grads)
    call = ("sum", (("axes", (0,)), ("keepdims", False)))
    same_bits(Recast(call=call, given=casts("float32", 0)), grads[1])


@pytest.mark.parametrize("dtype", NARROW)
def test_many_casts_are_one_launch(dtype: str) -> None:
    device = g.device_for(DEVICE)
    flat = normal(4097)
    tensors = [normal(300, 7), flat[1:], normal(1), normal(64, 64).mT.contiguous(), normal(2048)]
    before = device.launches
    found = many(ForeachCast(dtype=g.dtypes.as_dtype(dtype)), *tensors)
    assert device.launches == before + 1
    for got, x in zip(found, tensors, strict=True):
        assert got.numpy().tobytes() == x.astype(dtype).numpy().tobytes()
