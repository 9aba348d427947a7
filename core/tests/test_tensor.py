"""Tensors: made, printed, converted, written to, moved."""

from __future__ import annotations

import copy
import math
import pickle
import textwrap

import numpy as np
import pytest

import groundup as gu
from groundup import dtypes
from groundup.backends.devices import device_for
from groundup.errors import (
    AutogradError,
    ConfigError,
    DTypeError,
    IndexingError,
    ShapeError,
)


@pytest.fixture(autouse=True)
def _on_the_cpu() -> None:
    gu.set_default_device("cpu")


# ---- creation ----


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (3, "int32"),
        (True, "bool"),
        ([1, 2.5], "float32"),
        ([[1, 2], [3, 4]], "int32"),
        ([True, False], "bool"),
        ([], "float32"),
        (np.zeros(2), "float64"),
        (np.zeros(2, np.int64), "int64"),
        (np.float16(1), "float16"),
    ],
)
def test_dtypes_follow_the_data(data: object, dtype: str) -> None:
    x = gu.tensor(data)
    assert x.dtype.name == dtype
    assert x.shape == np.shape(data)
    assert x.tolist() == np.asarray(data).tolist()


def test_a_tensor_owns_its_values() -> None:
    array = np.ones(3, np.float32)
    x = gu.tensor(array)
    y = gu.tensor(x)
    array[0] = 5
    x[1] = 7
    assert x.tolist() == [1, 7, 1]
    assert y.tolist() == [1, 1, 1]


def test_tensors_in_lists() -> None:
    assert gu.tensor([gu.tensor(1.0), 2.0]).tolist() == [1.0, 2.0]
    assert gu.tensor([[gu.tensor(1)], [gu.tensor(2)]]).shape == (2, 1)


def test_what_cannot_become_a_tensor() -> None:
    with pytest.raises(ShapeError, match="nested lists must have equal lengths"):
        gu.tensor([[1, 2], [3]])
    with pytest.raises(DTypeError, match="cannot make a tensor of str"):
        gu.tensor("text")
    with pytest.raises(DTypeError, match="cannot make a tensor of complex"):
        gu.tensor(1j)
    with pytest.raises(DTypeError, match="values do not fit int32"):
        gu.tensor([2**40])
    with pytest.raises(DTypeError, match="values do not fit uint8"):
        gu.tensor([-1], dtype="uint8")
    with pytest.raises(DTypeError, match="unknown dtype 'float33'"):
        gu.tensor([1], dtype="float33")
    with pytest.raises(ConfigError, match="is not a device"):
        gu.tensor([1], device="CPU!")


def test_from_nothing() -> None:
    assert gu.zeros(2, 3).tolist() == [[0.0] * 3] * 2
    assert gu.zeros((2, 3)).shape == gu.zeros([2, 3]).shape == (2, 3)
    assert gu.ones(2, dtype="int32").tolist() == [1, 1]
    assert gu.full((2,), 7).dtype is dtypes.int32
    assert gu.full(3, 2.5).tolist() == [2.5] * 3
    assert gu.full((), True).dtype is dtypes.bool_
    assert gu.empty(2, 0).shape == (2, 0)
    assert gu.eye(2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    x = gu.tensor([1, 2], dtype="uint8")
    for like, value in ((gu.zeros_like(x), 0), (gu.ones_like(x), 1), (gu.full_like(x, 9), 9)):
        assert like.spec is x.spec
        assert like.tolist() == [value, value]
    with pytest.raises(ShapeError, match="negative size"):
        gu.zeros(2, -1)


@pytest.mark.parametrize(
    "arguments",
    [(5,), (2, 5), (0, 10, 3), (5, 0, -2), (3, 3), (5, 2), (0.0, 1.0, 0.25), (1, 2, 0.5)],
)
def test_arange_is_numpys(arguments: tuple[float, ...]) -> None:
    x = gu.arange(*arguments)
    wanted = np.arange(*arguments)
    assert x.tolist() == wanted.tolist()
    assert x.dtype is (dtypes.int32 if wanted.dtype.kind == "i" else dtypes.float32)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 5, 0), "step must not be 0"),
        ((0, 5, math.inf), "step must not be inf"),
        ((math.nan,), "cannot count from 0 to nan by 1"),
        ((math.inf,), "cannot count from 0 to inf by 1"),
        ((0, 1, math.nan), "cannot count from 0 to 1 by nan"),
    ],
)
def test_arange_refuses_what_has_no_end(arguments: tuple[float, ...], text: str) -> None:
    with pytest.raises(ShapeError, match=f"arange: {text}"):
        gu.arange(*arguments)


def test_creation_refuses_what_is_no_number_or_does_not_fit() -> None:
    for bad in ("a", None, gu.tensor(3)):
        with pytest.raises(DTypeError, match="arange: cannot use a"):
            gu.arange(bad)  # type: ignore[arg-type]
        with pytest.raises(DTypeError, match="full: cannot use a"):
            gu.full(2, bad, dtype="float32")  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="arange: values do not fit int8"):
        gu.arange(0, 300, dtype="int8")
    with pytest.raises(DTypeError, match="arange: values do not fit int32"):
        gu.arange(2**31 - 2, 2**31 + 1)
    with pytest.raises(DTypeError, match="arange: values do not fit int64"):
        gu.arange(2**70, 2**70 + 2, dtype="float32")
    for size in (-1, 2.5):
        with pytest.raises(ShapeError, match="eye: "):
            gu.eye(size)  # type: ignore[arg-type]


def test_numbers_may_be_numpys() -> None:
    assert gu.arange(np.float32(3)).dtype is dtypes.float32
    assert gu.arange(np.int64(3)).dtype is dtypes.int32
    assert gu.full(2, np.float32(3)).tolist() == [3.0, 3.0]
    assert gu.full(2, np.int64(3)).dtype is dtypes.int64


def test_sizes_may_be_numpys() -> None:
    two = np.int64(2)
    assert gu.zeros(two, 3).shape == gu.rand(two, 3).shape == gu.empty(two, 3).shape == (2, 3)
    assert gu.zeros(two).reshape(two, 1).permute(np.int64(1), 0).expand(two, 2).shape == (2, 2)
    with pytest.raises(ShapeError, match="must be integers"):
        gu.zeros(2, 3.5)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="negative size"):
        gu.empty(-1)


@pytest.mark.parametrize("values", [[300.0], [math.nan], [-1], [math.inf]])
def test_an_integer_tensor_never_holds_other_numbers_than_asked(values: list[float]) -> None:
    for data in (values, np.array(values)):
        with pytest.raises(DTypeError, match="tensor: values do not fit uint8"):
            gu.tensor(data, dtype="uint8")
    with pytest.raises(DTypeError, match="full: values do not fit uint8"):
        gu.full(2, values[0], dtype="uint8")


def test_large_numbers_are_infinite_in_narrow_floats() -> None:
    assert gu.tensor([1e6, -1e6], dtype="float16").tolist() == [math.inf, -math.inf]
    assert (gu.zeros(1, dtype="float16") + 100_000).tolist() == [math.inf]
    assert (gu.zeros(1) + 10**30).item() == pytest.approx(1e30)
    with pytest.raises(DTypeError, match="401 digits"):
        gu.zeros(1) + 10**400


# ---- what it is ----


def test_attributes() -> None:
    x = gu.zeros(2, 3, dtype="float16")
    assert (x.shape, x.ndim, x.size, x.nbytes, len(x)) == ((2, 3), 2, 6, 12, 2)
    assert x.dtype is dtypes.float16
    assert x.device is device_for("cpu")
    assert x.T.shape == (3, 2)
    assert gu.zeros(2, 3, 4).T.shape == (4, 3, 2)
    assert gu.zeros(2, 3, 4).mT.shape == (2, 4, 3)


def test_views_share_memory() -> None:
    x = gu.zeros(2, 3)
    for view in (x.mT, x[0], x.reshape(6), x[:, ::2], x[::-1], x.detach(), x[None]):
        before = x.tolist()
        view.assign_(view + 1)
        assert x.tolist() != before
    assert x.clone()._view.buffer is not x._view.buffer


# ---- printing ----


@pytest.mark.parametrize(
    "array",
    [
        np.array(1.5, np.float32),
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
        np.linspace(0, 1, 5000, dtype=np.float64),
        np.array([np.nan, np.inf, -0.0, 1e-9], np.float32),
        np.ones((2, 2, 2), np.float16),
    ],
)
def test_printing_is_numpys_with_dtype_and_device(array: np.ndarray) -> None:
    text = repr(gu.tensor(array))
    body = np.array2string(array, prefix="tensor(", separator=", ")
    assert text == f"tensor({body}, dtype={gu.tensor(array).dtype}, device=cpu)"


def test_printing_of_others() -> None:
    x = gu.tensor([1.0, 2.5], dtype="bfloat16")
    assert repr(x) == "tensor([1. , 2.5], dtype=bfloat16, device=cpu)"
    y = gu.tensor([1.0], requires_grad=True)
    assert repr(y) == "tensor([1.], dtype=float32, device=cpu, requires_grad=True)"
    assert repr(y * 2) == "tensor([2.], dtype=float32, device=cpu, requires_grad=True)"


def test_printing_aligns_rows() -> None:
    text = repr(gu.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert text == textwrap.dedent("""\
        tensor([[1., 2.],
                [3., 4.]], dtype=float32, device=cpu)""")


# ---- to Python ----


def test_items() -> None:
    assert gu.tensor(2.5).item() == 2.5
    assert gu.tensor([[3]]).item() == 3
    assert isinstance(gu.tensor(3).item(), int)
    assert float(gu.tensor(2.5)) == 2.5
    assert int(gu.tensor([7])) == 7
    assert [10, 20, 30][gu.tensor(1)] == 20
    assert gu.tensor(1.5, dtype="bfloat16").item() == 1.5
    with pytest.raises(ShapeError, match=r"item: a float32\[2\] has 2 values, not one"):
        gu.zeros(2).item()
    with pytest.raises(TypeError, match="is no index"):
        [10, 20][gu.tensor(1.0)]


def test_truth() -> None:
    assert gu.tensor(1.0)
    assert not gu.tensor([0])
    with pytest.raises(ShapeError, match=r"ambiguous.*x.any\(\) or x.all\(\)"):
        bool(gu.zeros(2))


def test_length_and_iteration() -> None:
    x = gu.tensor([[1, 2], [3, 4], [5, 6]])
    assert [row.tolist() for row in x] == x.tolist()
    first, *_ = x
    first[0] = 9
    assert x.tolist()[0] == [9, 2], "rows are views"
    assert list(gu.zeros(0, 2)) == []
    with pytest.raises(TypeError):
        len(gu.tensor(1))
    with pytest.raises(TypeError):
        iter(gu.tensor(1))


def test_comparison_is_elementwise_and_hash_is_identity() -> None:
    x, y = gu.tensor([1.0, 2.0]), gu.tensor([1.0, 3.0])
    assert (x == y).tolist() == [True, False]
    assert (x != y).tolist() == [False, True]
    assert (1.0 == x).tolist() == [True, False]  # noqa: SIM300
    assert hash(x) != hash(gu.tensor([1.0, 2.0]))
    assert len({x: 1, y: 2}) == 2


def test_reflected_operators() -> None:
    x = gu.tensor([1.0, 2.0])
    assert (3 + x).tolist() == [4.0, 5.0]
    assert (3 - x).tolist() == [2.0, 1.0]
    assert (3 * x).tolist() == [3.0, 6.0]
    assert (3 / x).tolist() == [3.0, 1.5]
    assert (3**x).tolist() == [3.0, 9.0]
    assert (3 // x).tolist() == [3.0, 1.0]
    assert (3 % x).tolist() == [0.0, 1.0]
    assert (5 & gu.tensor([4, 3])).tolist() == [4, 1]
    assert (1 << gu.tensor([2, 3])).tolist() == [4, 8]
    assert (~gu.tensor([True, False])).tolist() == [False, True]
    assert abs(gu.tensor([-1])).tolist() == [1]


def test_copies() -> None:
    x = gu.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert y.grad is not None
    assert y.grad.tolist() == [2.0, 4.0]
    with gu.no_grad():
        y.assign_(0.0)
    assert x.tolist() == [1.0, 2.0]
    with pytest.raises(AutogradError, match="part of a graph"):
        copy.deepcopy(x * 2)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(x)


# ---- NumPy, DLPack ----


def test_numpy_gets_a_copy() -> None:
    x = gu.tensor([1.0, 2.0])
    array = x.numpy()
    array[0] = 9
    assert x.tolist() == [1.0, 2.0]
    assert np.asarray(x).tolist() == [1.0, 2.0]
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert x.mT.numpy().flags.c_contiguous if x.ndim > 1 else True
    with pytest.raises(ValueError, match="only by a copy"):
        np.asarray(x, copy=False)


def test_a_graph_is_not_left_silently() -> None:
    x = gu.tensor([1.0], requires_grad=True)
    with pytest.raises(AutogradError, match=r"use x.detach\(\).numpy\(\)"):
        x.numpy()
    with gu.no_grad():
        assert x.numpy().tolist() == [1.0]
    assert np.asarray(x).tolist() == [1.0]


def test_numpy_arrays_do_not_swallow_tensors() -> None:
    x = gu.tensor([1.0, 2.0])
    with pytest.raises(DTypeError, match="cannot use a ndarray here"):
        np.ones(2) + x
    with pytest.raises(DTypeError, match="cannot use a ndarray here"):
        x + np.ones(2)


def test_dlpack_shares_memory_with_numpy() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for source in (array, array.T, array[::2, 1:], array[::-1]):
        x = gu.from_dlpack(source, device="cpu")
        assert x.tolist() == source.tolist()
        x[0, 0] = 50.0
        assert source[0, 0] == 50.0
        assert (x + 1).tolist() == (source + 1).tolist()
        assert x[1:, ::2].mT.tolist() == source[1:, ::2].T.tolist()
    x = gu.zeros(2, 3)
    np.from_dlpack(x)
    assert np.from_dlpack(x.mT).shape == (3, 2)


def test_dlpack_copies_what_it_cannot_write() -> None:
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    x = gu.from_dlpack(array, device="cpu")
    x[0] = 1.0
    assert array.tolist() == [0, 0, 0]


def test_dlpack_refuses_a_graph() -> None:
    with pytest.raises(BufferError, match=r"export x.detach\(\)"):
        gu.tensor([1.0], requires_grad=True).__dlpack__()


def test_dlpack_with_torch() -> None:
    torch = pytest.importorskip("torch")
    source = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    x = gu.from_dlpack(source, device="cpu")
    x[0, 0] = 9.0
    assert source[0, 0].item() == 9.0
    back = torch.from_dlpack(x.mT)
    assert back.shape == (3, 2)
    back[0, 1] = -1.0
    assert x[1, 0].item() == -1.0


# ---- writing ----


def test_assign_writes_into_the_memory() -> None:
    x = gu.zeros(2, 3)
    buffer = x._view.buffer
    assert x.assign_(gu.tensor([1.0, 2.0, 3.0])) is x
    assert x.tolist() == [[1.0, 2.0, 3.0]] * 2
    x.assign_(5)
    assert x.tolist() == [[5.0] * 3] * 2
    assert x._view.buffer is buffer


def test_assign_refuses() -> None:
    x = gu.zeros(2, 3)
    with pytest.raises(DTypeError, match=r"assign: target is float32\[2, 3\], value is int32"):
        x.assign_(gu.ones(2, 3, dtype="int32"))
    with pytest.raises(ShapeError, match="expand"):
        x.assign_(gu.zeros(4))
    with pytest.raises(DTypeError):
        gu.zeros(2, dtype="int32").assign_(1.5)
    with pytest.raises(ShapeError, match="share memory"):
        gu.zeros(1).expand(3).assign_(1.0)
    with pytest.raises(AutogradError, match=r"use it under no_grad\(\)"):
        gu.tensor([1.0], requires_grad=True).assign_(2.0)
    with pytest.raises(AutogradError, match="not recorded"):
        gu.zeros(1).assign_(gu.tensor([1.0], requires_grad=True))
    assert x.tolist() == [[0.0] * 3] * 2


def test_setitem() -> None:
    x = gu.zeros(3, 4)
    x[0] = 1.0
    x[1:, ::2] = gu.tensor([[2.0, 3.0], [4.0, 5.0]])
    x[-1, 1] = 7
    x[..., 3] = gu.tensor(9.0)
    assert x.tolist() == [[1, 1, 1, 9], [2, 0, 3, 9], [4, 7, 5, 9]]
    with pytest.raises(IndexingError, match="out of range"):
        x[3] = 1.0
    with pytest.raises(IndexingError, match="writing through integer arrays is not supported"):
        x[[0, 1]] = 1.0
    with pytest.raises(DTypeError, match="setitem"):
        x[0] = gu.ones(4, dtype="int32")
    with pytest.raises(AutogradError):
        gu.tensor([1.0, 2.0], requires_grad=True)[0] = 3.0


def test_setitem_of_overlapping_views_copies_first() -> None:
    x = gu.arange(6)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4]
    y = gu.arange(6)
    y[:] = y[::-1]
    assert y.tolist() == [5, 4, 3, 2, 1, 0]


def test_writing_what_is_no_tensor_nor_number() -> None:
    x = gu.zeros(3)
    for value in ([1.0, 2.0, 3.0], np.ones(3, np.float32), None, "a"):
        with pytest.raises(DTypeError, match="cannot use a"):
            x[:] = value
    x[0] = np.float32(2.5)
    assert x.tolist() == [2.5, 0.0, 0.0]
    whole = gu.zeros(2, dtype="int32")
    for number in (2.5, np.float32(2.5)):
        with pytest.raises(DTypeError, match="target is int32"):
            whole[0] = number
    assert whole.tolist() == [0, 0]


# ---- moving ----


def test_to_a_dtype() -> None:
    x = gu.tensor([1.5, -2.5])
    assert x.to("int32").tolist() == [1, -2]
    assert x.to(dtypes.float16).dtype is dtypes.float16
    assert x.to(float) is x
    assert x.astype("float32") is x
    assert x.to(np.dtype(np.float64)).dtype is dtypes.float64


def test_to_a_device() -> None:
    x = gu.tensor([1.0, 2.0])
    assert x.to("cpu") is x
    away = x.to("null")
    assert away.device.info.name == "null"
    assert away.spec is x.spec
    assert away.to("cpu").tolist() == [0.0, 0.0], "null forgets"
    with pytest.raises(AutogradError, match="not recorded"):
        (gu.tensor([1.0], requires_grad=True) * 2).to("null")
    assert gu.tensor([1.0], requires_grad=True).to("null").requires_grad


def test_special_values_survive() -> None:
    values = [math.inf, -math.inf, math.nan, -0.0]
    back = gu.tensor(values).numpy()
    np.testing.assert_array_equal(back, np.array(values, np.float32))
    assert np.signbit(back).tolist()[3]
