"""Shape arithmetic against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import ShapeError
from groundup.shapes import (
    as_integers,
    as_shape,
    broadcast_shapes,
    is_row_major,
    normalize_axes,
    normalize_axis,
    reduced,
    reshape_strides,
    resolve_reshape,
    row_major,
)

quick = settings(max_examples=300, deadline=None, derandomize=True)
sizes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
positive = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def strides_of(array: np.ndarray) -> tuple[int, ...]:
    return tuple(step // array.itemsize for step in array.strides)


@st.composite
def views(draw: st.DrawFn) -> np.ndarray:
    """A permuted, sliced, flipped and expanded view of an array."""
    shape = draw(positive)
    x = np.zeros(shape, np.int32).transpose(draw(st.permutations(range(len(shape)))))
    for axis in range(x.ndim):
        step = draw(st.sampled_from([1, 1, 1, 2, -1]))
        start = draw(st.integers(0, 1)) if step == 1 else None
        x = x[(slice(None),) * axis + (slice(start, None, step),)]
    if draw(st.booleans()):
        at = draw(st.integers(0, x.ndim))
        x = np.expand_dims(x, at)
        repeated = list(x.shape)
        repeated[at] = draw(st.integers(1, 3))
        x = np.broadcast_to(x, repeated)
    return x


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    x = draw(views())
    left, new = x.size, []
    while left > 1:
        divisors = [d for d in range(2, left + 1) if left % d == 0]
        new.append(draw(st.sampled_from(divisors)))
        left //= new[-1]
    for _ in range(draw(st.integers(0, 2))):
        new.insert(draw(st.integers(0, len(new))), 1)
    return x, tuple(new) if x.size else (0, *new)


@quick
@given(reshapes())
def test_reshape_strides_is_numpys_reshape_without_a_copy(
    case: tuple[np.ndarray, tuple[int, ...]],
) -> None:
    x, new = case
    found = reshape_strides(x.shape, strides_of(x), new)
    try:
        viewed = np.reshape(x, new, copy=False)
    except ValueError:
        assert found is None
        return
    assert found is not None
    steps = strides_of(viewed)
    for size, ours, theirs in zip(new, found, steps, strict=True):
        assert x.size == 0 or size == 1 or ours == theirs, (found, steps)


@quick
@given(st.lists(sizes, min_size=1, max_size=3))
def test_broadcasting_is_numpys(shapes: list[tuple[int, ...]]) -> None:
    try:
        wanted = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ShapeError, match="do not broadcast"):
            broadcast_shapes(*shapes)
    else:
        assert broadcast_shapes(*shapes) == wanted


@quick
@given(sizes)
def test_row_major_strides_are_numpys(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.int32)
    assert is_row_major(shape, row_major(shape))
    if array.size:
        assert row_major(shape) == strides_of(array)


@quick
@given(views())
def test_row_major_is_what_numpy_calls_contiguous(x: np.ndarray) -> None:
    assert is_row_major(x.shape, strides_of(x)) == x.flags.c_contiguous


def test_broadcast_errors_name_the_op_the_shapes_and_the_axis() -> None:
    with pytest.raises(ShapeError) as caught:
        broadcast_shapes((2, 3), (2, 4), op="add")
    assert str(caught.value) == "add: shapes (2, 3) and (2, 4) do not broadcast (axis -1)"


def test_axes() -> None:
    assert normalize_axis(-1, 3, "sum") == 2
    assert normalize_axes(None, 3, "sum") == (0, 1, 2)
    assert normalize_axes((-1, 0), 3, "sum") == (0, 2)
    assert normalize_axes((), 3, "sum") == ()
    with pytest.raises(ShapeError, match=r"sum: axis 3 is out of range for rank 3"):
        normalize_axis(3, 3, "sum")
    with pytest.raises(ShapeError, match=r"rank 0, allowed is nothing"):
        normalize_axis(0, 0, "sum")
    with pytest.raises(ShapeError, match="names one axis twice"):
        normalize_axes((0, -3), 3, "sum")


def test_reduced() -> None:
    assert reduced((2, 3, 4), (0, 2), keepdims=False) == (3,)
    assert reduced((2, 3, 4), (0, 2), keepdims=True) == (1, 3, 1)
    assert reduced((), (), keepdims=False) == ()


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ((6, 4), (-1, 8), (3, 8)),
        ((6, 4), (24,), (24,)),
        ((), (1, 1), (1, 1)),
        ((0, 3), (3, 0), (3, 0)),
        ((0, 3), (-1, 3), (0, 3)),
    ],
)
def test_resolve_reshape(
    old: tuple[int, ...], new: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    assert resolve_reshape(old, new) == wanted


@pytest.mark.parametrize(
    ("old", "new"),
    [((6,), (4,)), ((6,), (-1, -1)), ((6,), (-1, 4)), ((6,), (-2, -3)), ((0,), (-1, 0))],
)
def test_resolve_reshape_refuses(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="reshape: cannot make shape"):
        resolve_reshape(old, new)


def test_integers_come_one_by_one_or_together_from_python_or_numpy() -> None:
    two = np.int64(2)
    for values in ((2, 3), ((2, 3),), ([two, 3],), (two, np.uint8(3))):
        assert as_integers(values, "reshape") == (2, 3)
        assert all(type(size) is int for size in as_integers(values, "reshape"))
    assert as_integers((two,), "reshape") == (2,)
    assert as_integers((-1, 2), "reshape") == (-1, 2)
    assert as_integers((), "reshape") == as_integers(((),), "reshape") == ()


@pytest.mark.parametrize("values", [(2, 3.5), ((2, None),), ("ab",), (None,), (np.zeros(2),)])
def test_what_is_no_size_is_refused_and_never_dropped(values: tuple[object, ...]) -> None:
    with pytest.raises(ShapeError, match=r"zeros: sizes and axes must be integers"):
        as_shape(values, "zeros")


def test_no_new_tensor_has_a_negative_size() -> None:
    with pytest.raises(ShapeError, match=r"empty: negative size in \(2, -1\)"):
        as_shape((2, -1), "empty")
