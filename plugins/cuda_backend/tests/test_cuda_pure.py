"""What the host computes without a GPU: places, launches, targets, products."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from groundup.backends.api import Declined
from groundup.dtypes import as_dtype
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.reduction import Sum
from groundup_cuda.jit import choose_target
from groundup_cuda.lowering import lower
from groundup_cuda.plans import Lowered
from groundup_cuda.products import Product, lower_matmul, readable
from groundup_cuda.source import Parameters, Stage, collapsed, extent

FLOAT = as_dtype("float32")
HOPPER = (9, 0)


def row_major(*shape: int) -> Layout:
    return Layout.contiguous(Spec(shape, FLOAT))


def layout_of(array: np.ndarray) -> Layout:
    return Layout(array.shape, tuple(s // array.itemsize for s in array.strides), FLOAT)


def distances(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """Of every element from the first, in row-major order."""
    places = product(*[range(n) for n in shape])
    return [sum(i * s for i, s in zip(at, strides, strict=True)) for at in places]


@pytest.mark.parametrize(
    ("shape", "strides", "wanted"),
    [
        ((2, 3, 4), (12, 4, 1), 1),
        ((2, 3, 4), (1, 2, 6), 3),
        ((5, 1, 4), (4, 99, 1), 1),
        ((3, 4), (0, 1), 2),
        ((3, 4), (0, 0), 1),
        ((3, 4), (-4, -1), 1),
        ((), (), 1),
        ((1, 1), (7, 7), 1),
    ],
)
def test_collapsed_keeps_the_places(
    shape: tuple[int, ...], strides: tuple[int, ...], wanted: int
) -> None:
    fewer, (steps,) = collapsed(shape, strides)
    assert len(fewer) == wanted
    assert distances(fewer, steps) == distances(shape, strides)


def test_collapsed_joins_only_what_is_even_in_all_operands() -> None:
    shape, (x, y) = collapsed((2, 3, 4), (12, 4, 1), (0, 4, 1))
    assert (shape, x, y) == ((2, 12), (12, 1), (0, 1))


def test_extent_counts_both_directions() -> None:
    assert extent((3, 4), (-10, 1)) == 23
    assert extent((), ()) == 0


def test_numbers_travel_as_bits() -> None:
    parameters = Parameters(1)
    assert parameters.number(1.0, "float") == "number<float>(p.v[1])"
    assert parameters.number(-3, "int") == "number<int>(p.v[2])"
    assert parameters.values == [0, 0x3FF0000000000000, -3]


@pytest.mark.parametrize(
    ("capability", "known", "wanted"),
    [
        ((9, 0), (75, 80, 86, 89, 90, 100), "sm_90"),
        ((8, 7), (75, 80, 86, 89, 90), "sm_86"),
        ((12, 0), (75, 80, 86, 89, 90), "compute_90"),
        ((7, 0), (75, 80), None),
    ],
)
def test_targets(capability: tuple[int, int], known: tuple[int, ...], wanted: str | None) -> None:
    assert choose_target(capability, known) == wanted


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        (lambda a: a, (False, 6)),
        (lambda a: a.T, (True, 6)),
        (lambda a: a[:, :3], (False, 6)),
        (lambda a: a[::2], (False, 12)),
        (lambda a: a[:, ::2], None),
        (lambda a: a[::-1], None),
        (lambda a: a[:1], (False, 6)),
        (lambda a: a[:, :1], (False, 6)),
        (lambda a: np.broadcast_to(a[:1], (4, 6)), None),
    ],
)
def test_what_cublas_reads(view, wanted: tuple[bool, int] | None) -> None:
    layout = layout_of(view(np.zeros((4, 6), np.float32)))
    assert readable(layout.shape, layout.strides) == wanted


def only_product(*inputs: Layout, out: tuple[int, ...]) -> tuple[Product, tuple[int, ...]]:
    step, copied = lower_matmul(inputs, row_major(*out), HOPPER)
    assert isinstance(step, Product)
    return step, copied


def test_one_weight_for_a_batch_is_one_product() -> None:
    step, copied = only_product(row_major(4, 16, 8), row_major(8, 5), out=(4, 16, 5))
    assert (step.sizes, step.batches, copied) == ((64, 5, 8), 1, ())


def test_a_batch_is_one_call() -> None:
    step, copied = only_product(row_major(2, 3, 4, 8), row_major(2, 3, 8, 5), out=(2, 3, 4, 5))
    assert (step.batches, step.step, step.x[2], step.y[2]) == (6, 20, 32, 40)
    assert copied == ()


def test_heads_that_lie_unevenly_are_copied_once() -> None:
    heads = layout_of(np.zeros((2, 16, 3, 8), np.float32).transpose(0, 2, 1, 3))
    turned = Layout((2, 3, 8, 16), (*heads.strides[:2], 1, heads.strides[2]), FLOAT)
    step, copied = only_product(heads, turned, out=(2, 3, 16, 16))
    assert (step.batches, copied) == (6, (0, 1))


def test_what_cublas_cannot_do_is_done_by_our_own_kernel() -> None:
    uneven, _ = lower_matmul(
        (row_major(2, 1, 4, 5), row_major(3, 5, 6)), row_major(2, 3, 4, 6), HOPPER
    )
    nothing, _ = lower_matmul((row_major(4, 0), row_major(0, 6)), row_major(4, 6), HOPPER)
    whole = Layout.contiguous(Spec((4, 4), as_dtype("int32")))
    integers, _ = lower_matmul((whole, whole), whole, HOPPER)
    assert all(isinstance(step, Stage) for step in (uneven, nothing, integers))


def test_bfloat16_before_ampere_is_multiplied_by_our_own_kernel() -> None:
    narrow = Layout.contiguous(Spec((4, 4), as_dtype("bfloat16")))
    assert isinstance(lower_matmul((narrow, narrow), narrow, (7, 5))[0], Stage)
    assert isinstance(lower_matmul((narrow, narrow), narrow, (8, 0))[0], Product)


def test_empty_outputs_launch_nothing() -> None:
    empty = row_major(0, 3)
    lowered = lower(Sum(axes=(1,)), (empty,), (row_major(0),), HOPPER)
    assert lowered.steps == []


@pytest.mark.parametrize(
    ("shape", "axes", "stages"),
    [((1 << 20,), (0,), 2), ((4096, 1024), (1,), 1), ((1 << 16, 64), (0,), 2), ((7,), (0,), 1)],
)
def test_long_reductions_are_split(
    shape: tuple[int, ...], axes: tuple[int, ...], stages: int
) -> None:
    out = row_major(*[n for a, n in enumerate(shape) if a not in axes])
    lowered = lower(Sum(axes=axes), (row_major(*shape),), (out,), HOPPER)
    assert len(lowered.steps) == stages
    assert bool(lowered.scratch) == (stages == 2)
    assert all(step.blocks >= 1 for step in lowered.steps)


def test_an_updated_slice_is_all_that_is_written_in_place() -> None:
    op = REGISTRY["dynamic_update_slice"]()
    cache, rows = row_major(2, 3, 16, 4), row_major(2, 3, 1, 4)
    starts = Layout.contiguous(Spec((4,), as_dtype("int32")))
    made = lower(op, (cache, rows, starts), (cache,), HOPPER)
    assert isinstance(made, Lowered)
    copy, written = made.steps
    assert isinstance(copy, Stage)
    assert isinstance(written, Stage)
    assert copy.copies
    assert not written.copies
    assert made.in_place == {0: 0}
    assert written.blocks == 1
    turned = Layout((16, 4), (1, 16), FLOAT)
    made = lower(op, (turned, row_major(1, 4), starts), (row_major(16, 4),), HOPPER)
    assert isinstance(made, Lowered)
    assert not made.in_place


def declined(call: tuple[str, tuple[tuple[str, object], ...]], *layouts: Layout, **casts: object):
    op = REGISTRY["recast"](call=call, **casts)
    outputs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in layouts])]
    found = lower(op, layouts, outputs, HOPPER)
    return found.reason if isinstance(found, Declined) else None


def test_what_is_cast_by_a_kernel_s_loads_and_stores_and_what_is_not() -> None:
    half, single = as_dtype("bfloat16"), as_dtype("float32")
    x, w = row_major(4, 8), row_major(8)
    narrow = Layout(x.shape, x.strides, half)
    norm, back = ("rms_norm", ()), ("layer_norm_backward", ())
    assert declined(norm, narrow, w, given=((0, single),)) is None
    assert declined(norm, narrow, w, given=((0, single),), made=((0, half),)) is None
    assert declined(back, x, w, narrow, given=((2, single),), again=((0, half),)) is None
    found = declined(("argmax", (("axis", -1),)), narrow, given=((0, single),))
    assert found == "recast: argmax loads and stores one dtype"
    found = declined(norm, x, w, given=((0, half), (1, half)))
    assert found == "recast: rms_norm is not in float32"
    found = declined(norm, x, w, again=((0, half),))
    assert found == "recast: rms_norm writes each result once"
    vector = Layout(w.shape, w.strides, half)
    found = declined(("layer_norm", ()), x, vector, w, given=((1, single),))
    assert found == "recast: weight and bias of two dtypes"
    found = declined(back, x, w, x, made=((1, half),))
    assert found == "recast: gradients of weight and bias of two dtypes"


def test_casts_of_many_tensors_are_a_launch_for_each_dtype() -> None:
    half = as_dtype("bfloat16")
    op = REGISTRY["foreach_cast"](dtype=half)
    x, narrow = row_major(70, 70), Layout((9,), (1,), as_dtype("float16"))
    inputs = [x, narrow, row_major(0, 3), x]
    outputs = [Layout.contiguous(spec) for spec in op.infer_all(*[k.spec for k in inputs])]
    found = lower(op, inputs, outputs, HOPPER)
    assert isinstance(found, Lowered)
    assert [step.operands for step in found.steps] == [(-2, -5, 0, 3), (-3, 1)]
    assert [step.blocks for step in found.steps] == [6, 1]
    many = lower(op, [x] * 300, [Layout.contiguous(Spec((70, 70), half))] * 300, (6, 1))
    assert isinstance(many, Lowered)
    assert [len(step.operands) for step in many.steps] == [248, 248, 104]
