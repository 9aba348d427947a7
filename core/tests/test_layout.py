"""Specs and layouts are interned, so that a plan is found by identity."""

from __future__ import annotations

import copy
import pickle
import threading

from groundup import dtypes
from groundup.layout import Layout, Spec


def test_specs_are_interned() -> None:
    one = Spec((2, 3), dtypes.float32)
    assert Spec((2, 3), dtypes.float32) is one
    assert Spec((2, 3), dtypes.float16) is not one
    assert Spec((3, 2), dtypes.float32) is not one
    assert (one.rank, one.size, one.nbytes) == (2, 6, 24)
    assert repr(one) == "float32[2, 3]"
    assert repr(Spec((), dtypes.bool_)) == "bool[]"


def test_layouts_are_interned() -> None:
    one = Layout((2, 3), (3, 1), dtypes.float32)
    assert Layout((2, 3), (3, 1), dtypes.float32) is one
    assert Layout.contiguous(Spec((2, 3), dtypes.float32)) is one
    assert Layout((2, 3), (1, 2), dtypes.float32) is not one
    assert one.spec is Spec((2, 3), dtypes.float32)
    assert repr(one) == "float32[2, 3]"
    assert repr(Layout((3, 2), (1, 3), dtypes.float32)) == "float32[3, 2] strides (1, 3)"


def test_row_major() -> None:
    assert Layout((2, 3), (3, 1), dtypes.int32).is_row_major
    assert Layout((1, 3), (99, 1), dtypes.int32).is_row_major, "axes of size 1 do not matter"
    assert Layout((0, 3), (7, 7), dtypes.int32).is_row_major, "nothing is anything"
    assert Layout((), (), dtypes.int32).is_row_major
    assert not Layout((2, 3), (0, 1), dtypes.int32).is_row_major
    assert not Layout((3,), (-1,), dtypes.int32).is_row_major
    assert not Layout((2, 2), (3, 1), dtypes.int32).is_row_major, "gaps"


def test_expanded() -> None:
    assert Layout((2, 3), (0, 1), dtypes.int32).is_expanded
    assert not Layout((1, 3), (0, 1), dtypes.int32).is_expanded
    assert not Layout((2, 3), (3, 1), dtypes.int32).is_expanded


def test_copies_and_pickles_are_the_same_object() -> None:
    spec = Spec((4,), dtypes.bfloat16)
    assert pickle.loads(pickle.dumps(spec)) is spec
    assert copy.deepcopy(spec) is spec
    assert pickle.loads(pickle.dumps(dtypes.bfloat16)) is dtypes.bfloat16


def test_threads_agree_on_one_object() -> None:
    found: list[Layout] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        for size in range(100):
            found.append(Layout((size, 77), (77, 1), dtypes.uint8))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(layout) for layout in found}) == 100
