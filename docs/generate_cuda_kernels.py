"""Writes docs/cuda_kernels.md: `python docs/generate_cuda_kernels.py`. It takes some minutes of
NVRTC, and no GPU. A test compares the page with what the same compiler makes of the kernels.
"""

from __future__ import annotations

from pathlib import Path

from groundup_cuda.inventory import ARCHITECTURES, Kind, by_kind
from groundup_cuda.jit import nvrtc

PAGE = Path(__file__).parent / "cuda_kernels.md"
NOTE = "<!-- Written by docs/generate_cuda_kernels.py. Do not edit. -->"
INTRODUCTION = """\
What each kernel of `groundup-cuda` takes of a GPU, as the assembler reports it: registers of a
thread, bytes of shared memory of a block where the kernel always has some (what a launch asks for
comes on top), bytes of spilled registers where there are any. Of the variants that the samples of
the op registry need, by dtype and layout, the most counts.
"""


def cell(kind: Kind) -> str:
    """Registers, shared memory, spills."""
    parts = [str(kind.most.registers)]
    parts += [f"{kind.most.shared} B shared"] if kind.most.shared else []
    parts += [f"**{kind.most.spilled} B spilled**"] if kind.most.spilled else []
    return ", ".join(parts)


def page() -> str:
    """The whole page."""
    columns = {arch: by_kind(arch) for arch in ARCHITECTURES if arch in nvrtc().architectures()}
    lines = ["# The CUDA kernels", "", NOTE, "", INTRODUCTION, f"NVRTC {nvrtc().version}.", ""]
    lines += [f"| kernel | variants | {' | '.join(f'sm_{arch}' for arch in columns)} |"]
    lines += ["|---" * (2 + len(columns)) + "|"]
    for name, first in columns[min(columns)].items():
        cells = [cell(column[name]) for column in columns.values()]
        lines.append(f"| `{name}` | {first.variants} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
