"""Every kernel compiles for every architecture: needs NVRTC, but neither a GPU nor a driver."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from groundup.dtypes import as_dtype
from groundup.errors import BackendUnavailable, KernelCompileError
from groundup.layout import Layout, Spec
from groundup.ops import REGISTRY
from groundup_cuda.inventory import (
    ARCHITECTURES,
    by_kind,
    keep,
    kernels,
    kind,
    resources,
    stages_of,
)  # fmt: skip
from groundup_cuda.jit import cached, nvrtc
from groundup_cuda.source import Stage, prelude

try:
    KNOWN = nvrtc().architectures()
except BackendUnavailable as error:
    pytest.skip(str(error), allow_module_level=True)

OFTEN = (90,)  # what most kernels were measured on; half a minute each
# Bytes of registers on some architecture, see docs/cuda_kernels.md. No other kernel spills any.
SPILLED = {
    "attention_decode_cached_attention": 8, "norm_add_layer_norm": 44, "norm_layer_norm": 20,
    "norm_backward_add_layer_norm_backward": 16, "norm_backward_rms_norm_backward": 40,
}  # fmt: skip
SCRIPT = "generate_cuda_kernels.py"
PAGE = Path(__file__).parents[3] / "docs" / "cuda_kernels.md"
HUGE = (1 << 20, 1 << 12)  # elements that an int cannot count


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=[] if a in OFTEN else pytest.mark.slow) for a in ARCHITECTURES]
)
def test_every_kernel_compiles(arch: int) -> None:
    if arch not in KNOWN:
        pytest.skip(f"NVRTC {nvrtc().version} does not know sm_{arch}")
    assert len(kernels()) > 300
    used = resources(arch)
    assert used.keys() >= {stage.name for stage in kernels().values()}
    allowed = {stage.name: SPILLED.get(kind(stage), 0) for stage in kernels().values()}
    spilled = {name: used[name] for name, most in allowed.items() if used[name].spilled > most}
    assert not spilled


@pytest.mark.slow
def test_the_page_of_kernels_is_up_to_date() -> None:
    """For one architecture: the others are compiled above, and follow."""
    if f"NVRTC {nvrtc().version}." not in PAGE.read_text().splitlines():
        pytest.skip(f"the page was made with another compiler than NVRTC {nvrtc().version}")
    head, _, *rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    place = head.split(" | ").index("sm_90")
    stored = {row.split("`")[1]: row.split(" | ")[place].rstrip(" |") for row in rows}
    spec = importlib.util.spec_from_file_location("kernels_page", PAGE.parent / SCRIPT)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = {name: script.cell(kind) for name, kind in by_kind(90).items()}
    assert found == stored, f"run: python docs/{SCRIPT}"


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
