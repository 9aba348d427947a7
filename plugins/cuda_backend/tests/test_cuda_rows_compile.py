"""The kernels of rows, updates and packs that samples are too small for: they compile, and keep all
that they should in registers. Needs NVRTC, but neither a GPU nor a driver.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from functools import cache

import pytest

from groundup.dtypes import as_dtype
from groundup.errors import BackendUnavailable
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup_cuda.jit import OPTIONS, nvrtc
from groundup_cuda.lowering import lower
from groundup_cuda.plans import Lowered
from groundup_cuda.source import Stage, prelude

try:
    KNOWN = nvrtc().architectures()
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

ROWS, CLASSES, TENSORS = 4096, 50304, 148
# ptxas puts a number or two of these on the stack to stay below 64 registers, or 128.
SPILLS = {
    "norm_layer_norm": 8,
    "norm_add_layer_norm": 8,
    "norm_backward_add_layer_norm_backward": 16,
}


def of(shape: tuple[int, ...], dtype: str) -> Layout:
    return Layout.contiguous(Spec(shape, as_dtype(dtype)))


def stages(name: str, *inputs: Layout, **parameters: object) -> list[Stage]:
    op = REGISTRY[name](**parameters)
    outputs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in inputs])]
    lowered = lower(op, inputs, outputs, (9, 0))
    assert isinstance(lowered, Lowered)
    return [step for step in lowered.steps if isinstance(step, Stage)]


def of_rows(dtype: str) -> Iterator[Stage]:
    for columns in (384, 768, 1024, 4096, 20_000):
        x, w = of((ROWS, columns), dtype), of((columns,), dtype)
        yield from stages("layer_norm", x, w, w)
        yield from stages("layer_norm_backward", x, w, x)
        yield from stages("add_layer_norm_backward", x, w, x, x)
        yield from stages("add_layer_norm", x, x, w, w)
        yield from stages("softmax", x)
        yield from stages("softmax_backward", x, x)


def of_losses_and_updates(dtype: str) -> Iterator[Stage]:
    logits, ids, sums = of((ROWS, CLASSES), dtype), of((ROWS,), "int32"), of((ROWS,), "float32")
    yield from stages("cross_entropy", logits, ids)
    yield from stages("cross_entropy_backward", logits, ids, sums, of((), dtype), sums)
    params, states = ([of((768, 768), d)] * TENSORS for d in (dtype, "float32"))
    rates = (of((), "float32"), of((), "int32"), of((), "float32"))
    decay = (0.1,) * TENSORS
    many = {"count": TENSORS, "weight_decay": decay}
    yield from stages("adamw", *rates, *params, *params, *states, *states, **many)
    yield from stages("sgd", *rates, *params, *params, **many)
    yield from stages("global_norm", *params)
    table = Layout((CLASSES, 768), (0, 0), as_dtype(dtype))
    index = Layout((ROWS, 768), (1, 0), as_dtype("int32"))
    yield from stages("scatter_add", table, index, of((ROWS, 768), dtype), axis=0)


def of_mixed_precision(dtype: str) -> Iterator[Stage]:
    """What a step in bfloat16 runs in float32, with its casts inside."""
    if dtype != "bfloat16":
        return
    half, wide = as_dtype("bfloat16"), as_dtype("float32")
    for columns in (384, 768, 1024, 4096, 20_000):
        x, narrow = of((ROWS, columns), "float32"), of((ROWS, columns), "bfloat16")
        w, out, again = of((columns,), "float32"), {"made": ((0, half),)}, {"again": ((0, half),)}
        norm = {"call": ("add_layer_norm", (("eps", 1e-5),)), "given": ((1, wide),), **out}
        yield from stages("recast", x, narrow, w, w, **norm)
        back = {"call": ("add_layer_norm_backward", (("eps", 1e-5),)), "given": ((2, wide),)}
        yield from stages("recast", x, w, narrow, x, **back, **again)
    logits, ids = of((ROWS, CLASSES), "bfloat16"), of((ROWS,), "int32")
    sums, one = of((ROWS,), "float32"), of((), "float32")
    loss = {"call": ("cross_entropy_backward", ()), "given": ((0, wide),), "made": ((0, half),)}
    yield from stages("recast", logits, ids, sums, one, sums, **loss)
    weights = [of((768, 768), "float32")] * TENSORS
    yield from stages("foreach_cast", *weights, dtype=half)
    grads = [of((768, 768), "bfloat16")] * TENSORS
    parameters = (("count", TENSORS), ("weight_decay", (0.1,) * TENSORS))
    given = tuple((3 + TENSORS + i, wide) for i in range(TENSORS))
    call = {"call": ("adamw", parameters), "given": given}
    rates = one, of((), "int32"), one
    yield from stages("recast", *rates, *weights, *grads, *weights, *weights, **call)


def of_packs(dtype: str) -> Iterator[Stage]:
    x, row = of((ROWS, 768), dtype), Layout((ROWS, 768), (0, 1), as_dtype(dtype))
    for name in ("add", "mul", "maximum", "less"):
        yield from stages(name, x, row)
    yield from stages("gelu", x)
    yield from stages("gelu_backward", x, x)
    yield from stages("cast", x, dtype=as_dtype("float16"))
    yield from stages("sum", x, axes=(0,), keepdims=False)


@cache
def kernels() -> dict[str, Stage]:
    made = [
        stage
        for dtype in ("float32", "bfloat16")
        for some in (of_rows, of_losses_and_updates, of_packs, of_mixed_precision)
        for stage in some(dtype)
    ]
    return {stage.name: stage for stage in made}


def report(target: str) -> dict[str, tuple[int, int]]:
    """Bytes of the stack and registers of every kernel, as the compiler tells them."""
    compiler, program = nvrtc(), ctypes.c_void_p()
    source = "\n".join([prelude(), *[stage.source for stage in kernels().values()]])
    options = [s.encode() for s in (f"-arch={target}", *OPTIONS, "--ptxas-options=-v")]
    given = (ctypes.c_char_p * len(options))(*options)
    name = ctypes.byref(program)
    compiler._call("nvrtcCreateProgram", name, source.encode(), b"rows.cu", 0, None, None)
    try:
        compiler._call("nvrtcCompileProgram", program, len(options), given)
        log = compiler._fetch("nvrtcGetProgramLog", program).decode()
    finally:
        compiler._library.nvrtcDestroyProgram(name)
    pattern = r"entry function '(\w+)'.*?(\d+) bytes stack frame.*?Used (\d+) registers"
    found = re.findall(pattern, log, re.DOTALL)
    return {kernel: (int(stack), int(registers)) for kernel, stack, registers in found}


@pytest.mark.parametrize("arch", [75, 90, 120])
def test_large_kernels_stay_in_registers(arch: int) -> None:
    if arch not in KNOWN:
        pytest.skip(f"NVRTC {nvrtc().version} does not know sm_{arch}")
    found = report(f"sm_{arch}")
    assert found.keys() == kernels().keys()
    allowed = {name: SPILLS.get(name.rsplit("_", 1)[0], 0) for name in found}
    spilled = {name: stack for name, (stack, _) in found.items() if stack > allowed[name]}
    assert not spilled
    # A gradient of a norm keeps 32 columns of four things; two blocks of the others fit.
    hungry = {name: n for name, (_, n) in found.items() if n > 128 and "backward" not in name}
    assert not hungry


def test_the_models_rows_are_read_in_packs() -> None:
    kept = [stage for stage in of_rows("bfloat16") if stage.name.startswith(("norm_", "softmax_"))]
    assert len(kept) == 30
    assert sum("_long_" in stage.name for stage in kept) == 6
    assert sum("aligned<" in stage.source for stage in kept) == 24


def test_a_mixed_step_has_kernels_that_cast_as_they_load_and_store() -> None:
    names = [stage.name.rsplit("_", 1)[0] for stage in of_mixed_precision("bfloat16")]
    assert names.count("norm_add_layer_norm") == 4
    assert names.count("norm_backward_add_layer_norm_backward") == 4
    assert names.count("casts_foreach_cast") == names.count("optimizer_adamw") == 1
    (loss,) = [s for s in of_mixed_precision("bfloat16") if s.name.startswith("cross_entropy")]
    assert "typedef bfloat_t Type" in loss.source
    assert "bfloat_t *out" in loss.source


def test_a_bias_s_gradient_is_read_in_packs() -> None:
    for dtype in ("float32", "bfloat16"):
        names = [stage.name for stage in of_packs(dtype) if "_sum_" in stage.name]
        assert [name.rsplit("_", 2)[0] for name in names] == ["reduction_down", "reduction_down"]


def test_updates_are_single_launches() -> None:
    for dtype in ("float32", "bfloat16"):
        names = [stage.name for stage in of_losses_and_updates(dtype)]
        assert sum(name.startswith("optimizer_adamw") for name in names) == 1
        assert sum(name.startswith("norm_of_all") for name in names) == 1
