"""Flash attention against the cpu backend: sizes, masks, shared heads, strides, dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Declined, Kernel
from groundup.layout import Layout
from groundup.ops import REGISTRY
from groundup.ops.attention import scaled_dot_product_attention

RANDOM = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def both(device: Any, arrays: list[Any], mask: Any = None, **options: Any) -> None:
    """Outputs and gradients on the device against those on the cpu."""
    grad = normal(*arrays[0].shape[:3], arrays[2].shape[3])
    results = []
    for where in ("cpu", device):
        q, k, v = (g.from_numpy(a, where).requires_grad_() for a in arrays)
        given = {} if mask is None else {"mask": g.from_numpy(mask, where)}
        if options.get("dropout"):
            given["state"] = g.from_numpy(np.array([1, 2, 3, 4], np.int32), where)
        out = scaled_dot_product_attention(q, k, v, **given, **options)
        (out * g.from_numpy(grad, where)).sum().backward()
        results.append([out.detach(), q.grad, k.grad, v.grad])
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=5e-5)


def test_shared_heads_of_uneven_lengths(machine_device: Any) -> None:
    arrays = [normal(2, 4, 45, 32), normal(2, 2, 45, 32), normal(2, 2, 45, 32)]
    both(machine_device, arrays, causal=True)


def test_keys_of_other_sizes_and_a_mask_of_numbers(portable_device: Any) -> None:
    arrays = [normal(1, 2, 19, 5), normal(1, 2, 70, 5), normal(1, 2, 70, 9)]
    both(portable_device, arrays, mask=normal(2, 1, 70))


def test_dropout_with_a_mask_of_bools(portable_device: Any) -> None:
    """All that a launch can be given at once: eight buffers."""
    arrays = [normal(2, 2, 21, 8) for _ in range(3)]
    mask = RANDOM.random((2, 1, 21, 21)) < 0.7
    mask[0, 0, 3] = False  # a query that sees nothing
    both(portable_device, arrays, mask=mask, causal=True, dropout=0.25)


def test_wide_heads_fit_into_portable_memory(portable_device: Any) -> None:
    both(portable_device, [normal(1, 1, 20, 128) for _ in range(3)])


def test_packed_heads_need_no_copy(machine_device: Any) -> None:
    """q, k and v as views of one tensor, as models make them."""
    packed = normal(2, 33, 3 * 2 * 8)
    results = []
    for where in ("cpu", machine_device):
        x = g.from_numpy(packed, where).requires_grad_()
        heads = x.reshape(2, 33, 3, 2, 8).permute(2, 0, 3, 1, 4)
        q, k, v = (heads[i] for i in range(3))
        scaled_dot_product_attention(q, k, v, causal=True).sum().backward()
        assert x.grad is not None
        results.append(x.grad.numpy())
    np.testing.assert_allclose(results[1], results[0], atol=2e-5)


def test_dispatches_and_buffers(portable_device: Any) -> None:
    q, row = g.zeros(1, 2, 8, 16, device=portable_device), g.zeros(1, 2, 8, device=portable_device)
    mask = g.zeros(8, 8, device=portable_device)
    state = g.zeros(4, dtype="int32", device=portable_device)
    params = {"scale": 1.0, "masked": True, "dropout": 0.5}
    for name, tensors, count in (
        ("", [q, q, q, mask, state], 1), ("_backward", [q, q, q, q, row, q, row, mask, state], 3),
    ):  # fmt: skip
        op = REGISTRY[f"scaled_dot_product_attention{name}"](**params)
        outs = [Layout.contiguous(spec) for spec in op.infer_all(*[t.spec for t in tensors])]
        kernel = portable_device.kernel(op, [t._view.layout for t in tensors], outs)
        assert isinstance(kernel, Kernel)
        stages = kernel._stages  # type: ignore[attr-defined]
        assert len(stages) == count
        assert max(len(stage.operands) for stage in stages) <= 8


def test_what_is_too_wide_is_composed(portable_device: Any) -> None:
    layout = Layout.contiguous(g.zeros(1, 1, 4, 132).spec)
    op = REGISTRY["scaled_dot_product_attention"](scale=1.0)
    outs = [Layout.contiguous(spec) for spec in op.infer_all(*[layout.spec] * 3)]
    declined = portable_device.kernel(op, [layout] * 3, outs)
    assert isinstance(declined, Declined)
    assert "128" in declined.reason


@pytest.mark.parametrize("causal", [False, True])
def test_the_same_bits_twice(portable_device: Any, causal: bool) -> None:
    arrays = [normal(1, 2, 40, 16) for _ in range(3)]
    runs = []
    for _ in range(2):
        q, k, v = (g.from_numpy(a, portable_device).requires_grad_() for a in arrays)
        scaled_dot_product_attention(q, k, v, causal=causal).sum().backward()
        runs.append([t.grad.numpy() for t in (q, k, v) if t.grad is not None])
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_cache_that_is_partly_filled(machine_device: Any) -> None:
    q, k, v = normal(2, 4, 3, 16), normal(2, 2, 50, 16), normal(2, 2, 50, 16)
    k[:, :, 37:] = v[:, :, 37:] = np.nan  # memory that nothing was written to
    op = REGISTRY["cached_attention"](scale=0.25)
    for length in (37, 3, 0):
        found, wanted = (
            op(*[g.from_numpy(a, where) for a in (q, k, v, np.int32(length).reshape(()))])
            for where in (machine_device, "cpu")
        )
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=2e-5)
