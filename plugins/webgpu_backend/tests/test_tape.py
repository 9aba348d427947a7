"""What a device without an adapter writes down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as g
from groundup.backends.api import Kernel, View
from groundup.errors import OutOfMemory, UnsupportedOp
from groundup.layout import Layout, Spec
from groundup.ops.op import Op
from groundup.ops.rounding import Cast
from groundup_webgpu.machine import Machine
from groundup_webgpu.tape import TapeDevice


@pytest.fixture
def device() -> TapeDevice:
    return TapeDevice(Machine(software=False), half=True)


def test_steps_in_order(device: TapeDevice) -> None:
    x = g.from_numpy(np.arange(6, dtype=np.float32), device)
    assert (x + x).tolist() == [0] * 6
    written, ran, read = device.tape.steps
    assert written["write"] == ran["memory"][1][0]
    assert read["read"] == ran["memory"][0][0]
    assert read["nbytes"] == 24
    ((code, kinds),) = device.tape.kernels
    assert kinds == ("storage", "read-only-storage", "read-only-storage", "uniform")
    assert "array<f32>" in code
    (result,) = device.tape.results
    assert result.array(x.numpy().tobytes()).shape == (6,)


def test_results_are_what_another_reads(device: TapeDevice) -> None:
    g.tensor([[True, False, True]], device=device).mT.numpy()
    g.tensor([1.0, 2.0, 3.0], dtype="float16", device=device)[1:].numpy()
    flags, halves = device.tape.results
    assert flags.array(np.array([1, 0, 1], np.uint32).tobytes()).tolist() == [
        [True],
        [False],
        [True],
    ]
    assert halves.array(np.array([1, 2, 3, 0], np.float16).tobytes()).tolist() == [2, 3]


def test_kernels_are_written_once(device: TapeDevice) -> None:
    x = g.ones(5, device=device)
    before = len(device.tape.kernels)
    for _ in range(3):
        x = x * 2.0
    assert len(device.tape.kernels) == before + 1


def test_more_than_every_adapter_binds_is_refused(device: TapeDevice) -> None:
    with pytest.raises(OutOfMemory, match="134,217,728 are allowed"):
        g.zeros(1 << 25, 2, device=device)


def test_words_that_others_share_are_not_written(device: TapeDevice) -> None:
    x = g.zeros(7, dtype="float16", device=device)
    with pytest.raises(UnsupportedOp, match="words that also hold other elements"):
        device.write(x[1:4]._view, np.ones(3, np.float16))


def memory_of(device: TapeDevice, op: Op, inputs: list[View], out: View) -> list[Any]:
    kernel = device.kernel(op, [view.layout for view in inputs], [out.layout])
    assert isinstance(kernel, Kernel)
    kernel.launch(inputs, [out])
    return [device.tape.steps[-1][name] for name in ("memory", "parameters")]


def parts_of(device: TapeDevice, *parts: tuple[int, Layout]) -> list[View]:
    """Views of one buffer at these bytes."""
    whole = device.empty(Layout.contiguous(Spec((4096,), g.float32)))
    return [View(whole.buffer, offset, layout, root=whole) for offset, layout in parts]


def test_elements_of_two_widths_in_one_buffer_are_bound_apart(device: TapeDevice) -> None:
    wide, narrow = (Layout.contiguous(Spec((6,), dtype)) for dtype in (g.float32, g.float16))
    x, y = parts_of(device, (1024, wide), (256 + 6, narrow))
    (out, given), parameters = memory_of(device, Cast(dtype=g.float16), [x], y)
    assert out[1:] == (256, 32)  # from where a binding can begin, in whole vectors
    assert given[1:] == (1024, 32)
    assert parameters[:2] == (3, 0)


def test_reversed_elements_are_bound_from_the_last(device: TapeDevice) -> None:
    flipped = Layout((6,), (-1,), g.float32)
    x, y = parts_of(
        device, (1024 + 20, flipped), (256, Layout.contiguous(Spec((6,), g.float16)))
    )  # fmt: skip
    (_, given), parameters = memory_of(device, Cast(dtype=g.float16), [x], y)
    assert given[1:] == (1024, 32)
    assert parameters[1] == 5


def test_elements_of_one_width_share_a_binding(device: TapeDevice) -> None:
    layout = Layout.contiguous(Spec((6,), g.float32))
    x, y = parts_of(device, (1024, layout), (256, layout))
    kernel_inputs, _ = memory_of(device, Cast(dtype=g.float32), [x], y)
    assert [tuple(span) for _, *span in kernel_inputs] == [(0, x.buffer.nbytes)]
