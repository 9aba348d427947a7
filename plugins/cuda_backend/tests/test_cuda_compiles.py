"""Every kernel compiles for every architecture: needs NVRTC, but neither a GPU nor a driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from groundup.backends.api import Declined
from groundup.dtypes import as_dtype
from groundup.errors import BackendUnavailable, GroundupError, KernelCompileError
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup.ops.op import Op, has
from groundup.ops.samples import Case, cases_of
from groundup_cuda.expressions import STORED
from groundup_cuda.jit import cached, nvrtc
from groundup_cuda.lowering import lower
from groundup_cuda.source import Stage, prelude

try:
    KNOWN = nvrtc().architectures()
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
OFTEN = (75, 90)  # the oldest, and the newest that most kernels were measured on
HUGE = (1 << 20, 1 << 12)  # elements that an int cannot count


def layouts(case: Case) -> tuple[Layout, ...]:
    """The operands' layouts, as strided as the sample has them."""
    made = []
    for operand in case.inputs:
        array = operand.array
        spec = Spec(array.shape, as_dtype(array.dtype))
        strides = tuple(s // array.itemsize for s in array.strides)
        strided = Layout(spec.shape, strides, spec.dtype)
        made.append(strided if array.size else Layout.contiguous(spec))
    return tuple(made)


def stages_of(op: Op, inputs: tuple[Layout, ...]) -> Iterator[Stage]:
    """The stages of an op; none for what the core adjusts first or what is refused."""
    if op.broadcasts and len({layout.shape for layout in inputs}) > 1:
        return
    try:
        outputs = [Layout.contiguous(spec) for spec in op.infer_all(*[x.spec for x in inputs])]
    except GroundupError:
        return
    if any(layout.dtype not in STORED for layout in (*inputs, *outputs)):
        return
    # With no tensor cores for bfloat16, our own kernel multiplies it.
    lowered = lower(op, inputs, outputs, (7, 5))
    if not isinstance(lowered, Declined):
        yield from (step for step in lowered.steps if isinstance(step, Stage))


@cache
def kernels() -> dict[str, Stage]:
    """One kernel per op and dtypes, that of the most axes."""
    found: dict[str, Stage] = {}
    for name, op in REGISTRY.items():
        if "::" in name or has(op, "view"):
            continue
        for dtype in STORED:
            for case in cases_of(op, dtype) if dtype in op.dtypes else ():
                for stage in stages_of(case.op, layouts(case)):
                    keep(found, stage)
    return found


def keep(found: dict[str, Stage], stage: Stage) -> None:
    kind = stage.name.rsplit("_", 1)[0]
    types = re.findall(r"\((?:const )?([\w ]+?) \*\)p\.v", stage.source)
    flags = re.findall(r"across = \w+|typedef .*;", stage.source)
    key = " ".join([kind, *types, *flags])
    if key not in found or len(found[key].source) < len(stage.source):
        found[key] = stage


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=[] if a in OFTEN else pytest.mark.slow) for a in ARCHITECTURES]
)
def test_every_kernel_compiles(arch: int) -> None:
    if arch not in KNOWN:
        pytest.skip(f"NVRTC {nvrtc().version} does not know sm_{arch}")
    assert len(kernels()) > 300
    source = "\n".join([prelude(), *[stage.source for stage in kernels().values()]])
    code = nvrtc().compile(source, f"sm_{arch}")
    assert code.startswith(b"\x7fELF")
    for stage in kernels().values():
        assert stage.name.encode() in code


def test_kernels_of_huge_tensors_compile() -> None:
    """Indices of 64 bits, which no sample needs."""
    made: dict[str, Stage] = {}
    for name, axes in (("add", None), ("exp", None), ("sum", (0,)), ("sum", (1,)), ("max", None)):
        op = REGISTRY[name](**({"axes": axes} if axes else {}))
        huge = Layout.contiguous(Spec(HUGE, as_dtype("float32")))
        inputs = (huge, Layout(HUGE, (1, HUGE[0]), huge.dtype)) if name == "add" else (huge,)
        for stage in stages_of(op, inputs):
            keep(made, stage)
    assert sum("typedef long long Index" in stage.source for stage in made.values()) >= 4
    source = "\n".join([prelude(), *[stage.source for stage in made.values()]])
    assert nvrtc().compile(source, "sm_90")


def test_ptx_for_newer_gpus() -> None:
    stage = next(iter(kernels().values()))
    code = nvrtc().compile(f"{prelude()}\n{stage.source}", "compute_90")
    assert b".target sm_90" in code


def test_an_error_has_the_log_and_numbered_lines() -> None:
    with pytest.raises(KernelCompileError) as caught:
        nvrtc().compile("\n__global__ void f() { y = 1; }", "sm_90", "f")
    text = str(caught.value)
    assert 'f does not compile for sm_90: f.cu(2): error: identifier "y" is undefined' in text
    assert "   2 __global__ void f()" in text


def test_the_cache_is_used(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path))
    source = "__global__ void f() {}"
    code = cached(source, "sm_90", "f")
    (file,) = (tmp_path / "cuda").iterdir()
    assert file.read_bytes() == code

    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled again")

    with monkeypatch.context() as patch:
        patch.setattr(type(nvrtc()), "compile", refuse)
        assert cached(source, "sm_90", "f") == code
    cached(source, "sm_80", "f")
    assert len(list((tmp_path / "cuda").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch) -> None:
    (tmp_path / "cuda").write_text("a file where the folder should be")
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path))
    assert cached("__global__ void f() {}", "sm_90", "f").startswith(b"\x7fELF")
