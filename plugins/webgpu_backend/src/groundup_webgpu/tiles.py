"""The tiles that matrix products are cut into, and which of them a product takes.

A workgroup computes a tile of the result; its threads have 8 x 8 elements each. How quick a kind of
tile is where there are enough of them depends on the device, and is measured (`tuning.py`). The
rest is counted: what a tile computes beyond the edge, and how many there are for the device to do
at once. Where they are few, the summed axis is cut too, into pieces that are added up afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

_VECTOR: Final = 16  # bytes
_EACH: Final = 8  # rows and columns of a thread
_PIECES: Final = 64  # of the summed axis at most, but for very long ones
# Terms of a piece at most: turns of both loops over it stay below 65,535, after which Mesa's
# software driver leaves them.
_LONGEST: Final = 1 << 17
# What adding up costs, in operations of a product: for each element of a piece (written and read:
# about 8 bytes, at 15 operations in the time of a byte), and for one more dispatch.
_PER_ELEMENT: Final = 120.0
_PER_DISPATCH: Final = 3e8


@attrs.frozen
class Tile:
    """Rows and columns of the result; how many terms are in workgroup memory at once (`depth`),
    and how often (`buffers`): with two, one is filled while the other is read; and how many quads
    of terms are written out in a turn of the loop over them (`step`).
    """

    rows: int
    columns: int
    depth: int = 16
    buffers: int = 1
    step: int = 1

    @property
    def threads(self) -> int:
        """Of the workgroup."""
        return self.rows * self.columns // _EACH**2

    @property
    def deep(self) -> int:
        """Quads of terms."""
        return self.depth // 4

    @property
    def memory(self) -> int:
        """Vectors of workgroup memory."""
        return (self.rows + self.columns) // 4 * self.depth * self.buffers

    def __str__(self) -> str:
        """As in tables and variables: 128x128x16x1, or 128x128x16x1x4 with a step of four."""
        sizes = (self.rows, self.columns, self.depth, self.buffers, self.step)
        return "x".join(map(str, sizes if self.step > 1 else sizes[:-1]))


@attrs.frozen
class Rated:
    """A tile, and how quick it is: operations per second, or only in comparison with others."""

    tile: Tile
    rate: float


# Guesses from what their threads load for a multiplication, for a device that was not measured.
GUESSED: Final = (
    Rated(Tile(128, 128), 1.0), Rated(Tile(128, 128, depth=8, buffers=2), 0.99),
    Rated(Tile(128, 128, step=4), 0.98), Rated(Tile(128, 128, depth=8, buffers=2, step=2), 0.97),
    Rated(Tile(128, 128, buffers=2), 0.96), Rated(Tile(128, 64), 0.85),
    Rated(Tile(64, 64, buffers=2), 0.7), Rated(Tile(64, 64), 0.69),
    Rated(Tile(128, 32), 0.5), Rated(Tile(32, 128), 0.5),
)  # fmt: skip


def fitting(rated: Sequence[Rated], memory: int) -> tuple[Rated, ...]:
    """Those that so many bytes of workgroup memory suffice for."""
    return tuple(each for each in rated if each.tile.memory * _VECTOR <= memory)


@attrs.frozen
class Cut:
    """How a product is computed: tiles, and pieces of `share` terms of the summed axis."""

    tile: Tile
    share: int
    pieces: int


def best_cut(rated: Sequence[Rated], threads: int, sizes: tuple[int, int, int], batch: int) -> Cut:
    """The quickest for `batch` products of `sizes` rows, columns and terms; the device works on
    `threads` at once.
    """
    rows, columns, _ = sizes
    choices = [(each, cut) for each in rated for cut in _cuts(each.tile, sizes[2])]

    def seconds(choice: tuple[Rated, Cut]) -> float:
        each, cut = choice
        tile = cut.tile
        tiles = -(-rows // tile.rows) * -(-columns // tile.columns) * batch
        work = 2.0 * tiles * tile.rows * tile.columns * cut.share * cut.pieces
        # Pieces are for whole turns of all workgroups: two, so that the last one's rest costs less.
        turns = 2 if cut.pieces > 1 else 1
        busy = min(1.0, tiles * cut.pieces * tile.threads / (turns * threads))
        adding = 0.0
        if cut.pieces > 1:
            adding = _PER_DISPATCH + _PER_ELEMENT * rows * columns * batch * cut.pieces
        return work / (each.rate * busy) + adding / max(r.rate for r in rated)

    return min(choices, key=seconds)[1]


def _cuts(tile: Tile, terms: int) -> Iterator[Cut]:
    """One piece, two, four, ..., each of whole depths of the tile."""
    pieces = -(-terms // _LONGEST)
    while True:
        share = -(-terms // (pieces * tile.depth)) * tile.depth
        yield Cut(tile, share, -(-terms // share))
        pieces *= 2
        if pieces > _PIECES or share == tile.depth:
            return
