"""Matrix products on GPUs: tiles in workgroup memory, for any strides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from groundup_webgpu.machine import Machine
from groundup_webgpu.sides import Product, Side
from groundup_webgpu.source import (
    OUT,
    SCRATCH,
    STORED,
    Parameters,
    Stage,
    fragment,
    indented,
    spread,
    walk,
)  # fmt: skip
from groundup_webgpu.tiles import Cut, Tile, best_cut

_ITEM: Final = 4  # bytes of an element in scratch memory
_HEAVY: Final = 3  # threads that have much to do between waits: so many fewer keep the device busy


def tiled(product: Product, machine: Machine) -> list[Stage]:
    """One dispatch, or two where pieces of the summed axis are added up."""
    sizes = product.x.lines, product.y.lines, product.inner
    cut = best_cut(machine.rated, machine.threads // _HEAVY, sizes, product.batch)
    kernel = _Tiled(product, cut)
    return [kernel.stage(), kernel.summed()] if cut.pieces > 1 else [kernel.stage()]


def in_one_piece(product: Product, tile: Tile) -> Stage:
    """The dispatch that takes this tile, and no other."""
    return _Tiled(product, Cut(tile, -(-product.inner // tile.depth) * tile.depth, 1)).stage()


@attrs.frozen
class _Tiled:
    product: Product
    cut: Cut

    def stage(self) -> Stage:
        """For any strides; with a quicker one, where vectors can be read or written."""
        made = self._made({"x": False, "y": False, "out": False})
        product = self.product
        whole = product.inner % 4 == 0
        vectors = {
            "x": whole and product.x.in_vectors, "y": whole and product.y.in_vectors,
            "out": product.y.lines % 4 == 0,
        }  # fmt: skip
        return attrs.evolve(made, aligned=self._made(vectors)) if any(vectors.values()) else made

    def _made(self, vectors: Mapping[str, bool]) -> Stage:
        product, cut = self.product, self.cut
        tile, x, y = cut.tile, product.x, product.y
        parameters = Parameters(3)
        add = parameters.add
        across, down = -(-y.lines // tile.columns), -(-x.lines // tile.rows)
        parts = {
            **_shape(cut),
            "sides": self._sides(parameters, vectors),
            "index": walk(parameters, "i", product.lead, at0=x.steps, at1=y.steps),
            "rows": add(x.lines), "columns": add(y.lines), "inner": add(product.inner),
            "across": add(across), "down": add(down), "batch": add(product.batch),
            "pieces": add(cut.pieces), "share": add(cut.share), **_blocks(cut.tile),
        }  # fmt: skip
        parts["put"] = fragment("matmul_put_vector" if vectors["out"] else "matmul_put", parts)
        stored = STORED[product.dtype]
        target, out = (SCRATCH, "f32") if cut.pieces > 1 else (OUT, stored)
        kinds = {"x": stored, "y": stored, "out": out}
        kinds = {name: f"vec4<{k}>" if vectors[name] else k for name, k in kinds.items()}
        memory = ((target, kinds["out"]), (1, kinds["x"]), (2, kinds["y"]))
        groups = spread(across * down * product.batch * cut.pieces, 1)
        return Stage("matmul_tiles", parts, tuple(parameters.values), memory, groups, self._scratch)

    @property
    def _scratch(self) -> int:
        pieces = self.cut.pieces
        return _ITEM * self.product.size * pieces if pieces > 1 else 0

    def _sides(self, parameters: Parameters, vectors: Mapping[str, bool]) -> str:
        """The functions that read blocks of both operands."""
        tile = self.cut.tile
        sides = (("x", self.product.x, tile.rows), ("y", self.product.y, tile.columns))
        return "".join(
            _side(parameters, n, name, side, lines // 4, tile.deep, vectors[name])
            for n, (name, side, lines) in enumerate(sides)
        )

    def summed(self) -> Stage:
        """Pieces in scratch memory to their sum."""
        made = self._summed(1)
        whole = self.product.size % 4 == 0
        return attrs.evolve(made, aligned=self._summed(4)) if whole else made

    def _summed(self, width: int) -> Stage:
        parameters = Parameters(2)
        add = parameters.add
        units = self.product.size // width
        parts = {
            "units": add(units), "width": str(width), "pieces": add(self.cut.pieces),
        }  # fmt: skip
        kinds = (STORED[self.product.dtype], "f32")
        out, given = (f"vec4<{k}>" if width == 4 else k for k in kinds)
        memory = ((OUT, out), (SCRATCH, given))
        return Stage("sum_pieces", parts, tuple(parameters.values), memory, spread(units, 256))


def _shape(cut: Cut) -> dict[str, str]:
    """The tile, as texts."""
    tile = cut.tile
    own = min(8, tile.columns // 8)  # neighbours of 32 threads in a row of the tile
    return {
        "threads": str(tile.threads), "depth": str(tile.depth), "buffers": str(tile.buffers),
        "step": str(tile.step),
        "x_quads": str(tile.rows // 4), "y_quads": str(tile.columns // 4),
        "beside": str(own), "below": str(32 // own), "sets": str(_sets(tile)),
        "deep": str(tile.deep), "blocks": str(tile.deep * tile.buffers),
        "first": f"((k / {tile.depth}) & 1) * DEEP" if tile.buffers == 2 else "0",
        "wait": "" if tile.buffers == 2 else "workgroupBarrier();",
    }  # fmt: skip


def _sets(tile: Tile) -> int:
    """Blocks of a thread."""
    return -(-tile.memory // tile.buffers // 4 // tile.threads)


def _blocks(tile: Tile) -> dict[str, str]:
    """Statements that fetch and share the blocks of a thread: those of x come first."""
    x_blocks, blocks = tile.rows // 4 * tile.deep, (tile.rows + tile.columns) // 4 * tile.deep
    fetch, share = [], []
    for j in range(_sets(tile)):
        first, last = j * tile.threads, (j + 1) * tile.threads
        which = "x" if last <= x_blocks else "any"
        which = "y" if first >= x_blocks and last <= blocks else which
        number = f"thread + {first}"
        fetch.append(f"    block{j} = fetched_{which}(here, {number}, k + DEPTH, stop);")
        share.append(f"        share_{which}(first, {number}, block{j});")
    return {"fetch_blocks": indented(fetch), "share_blocks": indented(share)}


def _side(
    parameters: Parameters, n: int, name: str, side: Side, quads: int, deep: int, vector: bool
) -> str:
    """The function that reads a block of 4 lines and 4 terms."""
    add = parameters.add
    unit = 4 if vector else 1
    parts = {
        "n": str(n), "name": name, "lines": add(side.lines), "quads": str(quads),
        "deep": str(deep), "across": add(side.across if side.across == 1 else side.across // unit),
        "along": add(side.along if side.along == 1 else side.along // unit),
    }  # fmt: skip
    turned = side.across == 1 and not (vector and side.plain)
    place = "matmul_block_across" if turned else "matmul_block_along"
    if not vector:
        return fragment(place, parts) + fragment("matmul_side", parts)
    read = "matmul_side_turned" if turned else "matmul_side_plain"
    return fragment(place, parts) + fragment(read, parts)
