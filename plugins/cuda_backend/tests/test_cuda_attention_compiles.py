"""Attention's kernels compile for every architecture, without registers spilled to memory."""

from __future__ import annotations

from typing import Any

import pytest

from groundup import dtypes as dt
from groundup.backends.api import Declined
from groundup.dtypes import DType
from groundup.errors import BackendUnavailable
from groundup.layout import Layout, Spec
from groundup.ops.attention import (
    ScaledDotProductAttention,
    ScaledDotProductAttentionBackward,
)  # fmt: skip
from groundup.ops.attention_cache import CachedAttention, RotaryEmbedding
from groundup_cuda.jit import nvrtc
from groundup_cuda.lowering import lower
from groundup_cuda.source import Stage, prelude

try:
    KNOWN = nvrtc().architectures()
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

TARGETS = ((75, 64), (80, 128), (86, 64), (89, 128), (100, 64), (120, 128))
SIZES = (32, 64, 96, 128, 256)
MOST_SHARED = 99 << 10  # bytes of a block on the smallest of these GPUs that have tensor cores


def stages(
    capability: tuple[int, int], dtype: DType, size: int, extras: tuple[Layout, ...] = (),
    **settings: Any,
) -> list[Stage]:  # fmt: skip
    """Both passes, on packed operands."""
    heads, length = 4, 300
    steps = (length * 3 * heads * size, size, 3 * heads * size, 1)
    x = Layout((2, heads, length, size), steps, dtype)
    rows = Layout.contiguous(Spec(x.shape[:3], dt.float32))
    out = Layout.contiguous(x.spec)
    first = ScaledDotProductAttention(scale=0.1, **settings)
    second = ScaledDotProductAttentionBackward(scale=0.1, **settings)
    found: list[Stage] = []
    for op, inputs in (
        (first, (x, x, x, *extras)), (second, (x, x, x, out, rows, out, rows, *extras)),
    ):  # fmt: skip
        outs = [Layout.contiguous(spec) for spec in op.infer_all(*[i.spec for i in inputs])]
        lowered = lower(op, inputs, outs, capability)
        assert not isinstance(lowered, Declined)
        assert not lowered.contiguous
        found += [step for step in lowered.steps if isinstance(step, Stage)]
    return found


def check(made: list[Stage], arch: int) -> None:
    """They compile, spill nothing and fit."""
    if arch not in KNOWN:
        pytest.skip(f"NVRTC {nvrtc().version} does not know sm_{arch}")
    for stage in made:
        assert stage.shared <= MOST_SHARED
        used = nvrtc().resources(f"{prelude()}\n{stage.source}", f"sm_{arch}", stage.name)
        assert used[stage.name].spilled == 0, f"{stage.name} for sm_{arch}: {used[stage.name]}"


@pytest.mark.parametrize("size", SIZES)
def test_all_head_sizes(size: int) -> None:
    check(stages((9, 0), dt.bfloat16, size, causal=True), 90)


@pytest.mark.parametrize(("arch", "size"), TARGETS)
def test_all_architectures(arch: int, size: int) -> None:
    check(stages((arch // 10, arch % 10), dt.float16, size, causal=True), arch)


@pytest.mark.parametrize("size", [64, 256])
def test_float32(size: int) -> None:
    check(stages((9, 0), dt.float32, size, causal=True), 90)


@pytest.mark.parametrize(
    ("mask", "dtype"),
    [(dt.bool_, dt.float32), (dt.bool_, dt.bfloat16), (dt.float32, dt.bfloat16)],
)
def test_masks_and_dropout(mask: DType, dtype: DType) -> None:
    extras = (
        Layout.contiguous(Spec((300, 300), mask)),
        Layout.contiguous(Spec((4,), dt.int32)),
    )
    made = stages((9, 0), dtype, 64, extras, dropout=0.2, masked=True)
    for stage in made:
        nvrtc().compile(f"{prelude()}\n{stage.source}", "sm_90", stage.name)


@pytest.mark.parametrize("dtype", [dt.float32, dt.bfloat16])
def test_caches_and_rotary_positions(dtype: DType) -> None:
    few, many, cache = (Layout.contiguous(Spec((2, 4, n, 64), dtype)) for n in (3, 90, 100))
    length = Layout.contiguous(Spec((), dt.int32))
    at = Layout.contiguous(Spec((3,), dt.int64))
    turned = Layout((2, 4, 3, 64), (768, 64, 256, 1), dtype)
    cached = CachedAttention(scale=0.1)
    names = []
    for op, inputs in (
        (cached, (few, cache, cache, length)), (cached, (many, cache, cache, length)),
        (RotaryEmbedding(), (turned, at)),
    ):  # fmt: skip
        lowered = lower(op, inputs, [Layout.contiguous(inputs[0].spec)], (9, 0))
        assert not isinstance(lowered, Declined)
        made = [step for step in lowered.steps if isinstance(step, Stage)]
        check(made, 90)
        names += [stage.name.split("_cached")[0] for stage in made]
    whole = "attention_tensor" if dtype is dt.bfloat16 else "attention"
    assert names[:3] == ["attention_decode", "attention_join", whole]


def test_tensor_cores_are_used_where_they_may_be() -> None:
    def families(capability: tuple[int, int], dtype: DType, size: int) -> set[str]:
        return {s.name.split("_scaled")[0] for s in stages(capability, dtype, size)}

    tensor = {"attention_tensor", "attention_tensor_keys", "attention_tensor_queries"}
    plain = {"attention", "attention_keys", "attention_queries"}
    assert families((9, 0), dt.bfloat16, 64) == tensor | {"attention_rows"}
    assert families((9, 0), dt.float16, 128) == tensor | {"attention_rows"}
    assert families((9, 0), dt.float32, 64) == plain | {"attention_rows"}
    assert families((7, 5), dt.bfloat16, 64) == plain | {"attention_rows"}
    assert families((9, 0), dt.bfloat16, 8) == plain | {"attention_rows"}
