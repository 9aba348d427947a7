"""Indexing is NumPy's, except that masks are refused with a way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import groundup as gu
from groundup.errors import IndexingError

SHAPE = (4, 3, 5)
ARRAY = np.arange(60, dtype=np.int32).reshape(SHAPE)
quick = settings(max_examples=400, deadline=None, derandomize=True)


@st.composite
def slices(draw: st.DrawFn) -> slice:
    bound = st.none() | st.integers(-7, 7)
    step = draw(st.none() | st.sampled_from([1, 2, 3, -1, -2]))
    return slice(draw(bound), draw(bound), step)


@st.composite
def basic_keys(draw: st.DrawFn) -> tuple[Any, ...]:
    count = draw(st.integers(0, 3))
    items: list[Any] = []
    for axis in range(count):
        size = SHAPE[axis]
        items.append(draw(st.integers(-size, size - 1) | slices()))
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), Ellipsis)
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    return tuple(items)


def outcome(x: Any, key: Any) -> Any:
    """The values, or the fact that NumPy or we refused."""
    try:
        found = x[key]
    except (IndexError, IndexingError):
        return "refused"
    return np.asarray(found).tolist(), np.shape(found)


@quick
@given(basic_keys())
def test_basic_indexing_is_numpys(key: tuple[Any, ...]) -> None:
    x = gu.tensor(ARRAY, device="cpu")
    assert outcome(x, key) == outcome(ARRAY, key)


@quick
@given(basic_keys())
def test_basic_indexing_makes_views(key: tuple[Any, ...]) -> None:
    x = gu.tensor(ARRAY, device="cpu")
    wanted = ARRAY.copy()
    try:
        target = wanted[key]
    except IndexError:
        return
    x[key] = -1
    wanted[key] = -1
    assert x.tolist() == wanted.tolist()
    assert x[key].shape == np.shape(target)


@st.composite
def array_keys(draw: st.DrawFn) -> tuple[Any, ...]:
    """One to three integer arrays that broadcast, among ints, slices, None and an ellipsis."""
    common = draw(st.sampled_from([(), (2,), (3,), (2, 3), (0,)]))
    items: list[Any] = []
    for size in SHAPE[: draw(st.integers(1, 3))]:
        kind = draw(st.sampled_from(["array", "array", "slice"]))
        if kind == "slice":
            items.append(draw(slices()))
            continue
        shape = common if draw(st.booleans()) else (1,) * len(common)
        count = int(np.prod(shape))
        values = draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
        items.append(np.array(values, np.int32).reshape(shape))
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), Ellipsis)
    return tuple(items)


@quick
@given(array_keys())
def test_integer_arrays_are_numpys(key: tuple[Any, ...]) -> None:
    key = tuple(np.asarray(item) if isinstance(item, np.ndarray) else item for item in key)
    x = gu.tensor(ARRAY, device="cpu")
    wanted = outcome(ARRAY, key)
    if wanted == "refused":
        return
    assert outcome(x, key) == wanted
    as_tensors = tuple(
        gu.tensor(item, device="cpu") if isinstance(item, np.ndarray) else item for item in key
    )
    assert outcome(x, as_tensors) == wanted


def test_lists_and_single_tensors() -> None:
    x = gu.tensor(ARRAY, device="cpu")
    assert x[[0, 2]].tolist() == ARRAY[[0, 2]].tolist()
    assert x[[]].shape == (0, 3, 5)
    assert x[gu.tensor([1, -1], device="cpu")].tolist() == ARRAY[[1, -1]].tolist()
    assert x[gu.tensor(2, device="cpu")].tolist() == ARRAY[2].tolist()
    assert x[np.int64(1)].tolist() == ARRAY[1].tolist()
    assert x[:, [[0, 1], [2, 0]]].tolist() == ARRAY[:, [[0, 1], [2, 0]]].tolist()


def test_an_int_beside_an_array() -> None:
    x = gu.tensor(ARRAY, device="cpu")
    for key in (
        (0, [1, 2]), ([1, 2], 0), (slice(None), 1, [0, 4]), ([0, 1], slice(None), 2),
        (0, slice(None), [1, 2]), (1, ..., [1, 2]), (1, None, [1, 2]), (..., 1, [0, 4]),
    ):  # fmt: skip
        assert x[key].tolist() == ARRAY[key].tolist(), key
        assert x[key].shape == ARRAY[key].shape, key


def test_gradients_reach_through_indices() -> None:
    x = gu.tensor(np.arange(6.0), device="cpu", requires_grad=True)
    (x[[0, 0, 5]] * gu.tensor(np.array([1.0, 2.0, 3.0]), device="cpu")).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 0, 0, 0, 0, 3]
    y = gu.tensor(np.arange(6.0), device="cpu", requires_grad=True)
    y[4:0:-2].sum().backward()
    assert y.grad is not None
    assert y.grad.tolist() == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "mask", [np.array([True, False, True, False]), [True, False, True, False], True, np.True_]
)
def test_masks_are_refused_with_a_way_out(mask: Any) -> None:
    with pytest.raises(IndexingError) as caught:
        gu.tensor(ARRAY, device="cpu")[mask]
    assert "depends on its values" in str(caught.value)
    assert "groundup.where(mask, x, y)" in str(caught.value)


def test_mask_tensors_are_refused_too() -> None:
    x = gu.tensor(ARRAY, device="cpu")
    with pytest.raises(IndexingError, match=r"a boolean mask \(4, 3, 5\)"):
        x[x > 3]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (4, "4 is out of range for axis 0 of (4, 3, 5)"),
        (-5, "-5 is out of range"),
        ((0, 3), "3 is out of range for axis 1"),
        ((0, 0, 0, 0), "4 indices for a tensor of rank 3"),
        ((..., ...), "only one ellipsis"),
        (1.0, "cannot index with a float"),
        ("a", "cannot index with a str"),
        (np.array([0.5]), "arrays must hold integers, got float64"),
    ],
)
def test_errors(key: Any, text: str) -> None:
    with pytest.raises(IndexingError) as caught:
        gu.tensor(ARRAY, device="cpu")[key]
    assert text in str(caught.value)
    with pytest.raises(IndexError):
        gu.tensor(ARRAY, device="cpu")[key]


def test_float_index_tensors_are_refused() -> None:
    with pytest.raises(IndexingError, match="index tensors must hold integers"):
        gu.tensor(ARRAY, device="cpu")[gu.tensor([0.0], device="cpu")]


def test_ids_out_of_range_raise_on_the_cpu() -> None:
    with pytest.raises(gu.errors.DomainError):
        gu.tensor(ARRAY, device="cpu")[[0, 4]]
    with pytest.raises(gu.errors.DomainError):
        gu.tensor(ARRAY, device="cpu")[[-5]]
    with pytest.raises(gu.errors.DomainError):
        gu.tensor(ARRAY, device="cpu")[[0], [3]]  # not the first of the next row
    with pytest.raises(gu.errors.DomainError):
        gu.tensor(ARRAY, device="cpu")[[4], [0]]
    with pytest.raises(gu.errors.DomainError):
        gu.tensor(ARRAY, device="cpu")[[1], [-4]]


def test_narrow_index_tensors_reach_the_whole_tensor() -> None:
    """300 places do not fit uint8, nor does a joint index of two axes."""
    x = gu.arange(400)
    grid = x.reshape(20, 20)
    for dtype in ("uint8", "int8"):
        first, second = gu.tensor([15], dtype=dtype), gu.tensor([3], dtype=dtype)
        assert x[first].tolist() == [15]
        assert grid[first, second].tolist() == [303]
    assert x[gu.tensor([-1], dtype="int8")].tolist() == [399]


@pytest.mark.parametrize("index", [2**32, 2**31, -(2**31) - 1])
def test_indices_do_not_wrap_around(index: int) -> None:
    with pytest.raises(IndexingError, match="do not fit int32"):
        gu.arange(5)[np.array([index])]
