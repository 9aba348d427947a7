"""What the kernels of attention share: tiles, the operands of both ops, texts that read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

import attrs

from groundup import dtypes
from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup.ops.random_ops import threshold
from groundup_webgpu.machine import Machine
from groundup_webgpu.source import Parameters, Stage, fragment, indented

Layouts = Sequence[Layout]
_WIDEST: Final = 128  # numbers of a head
VECTOR: Final = 16  # bytes
_EVER: Final = 1 << 30  # how far behind itself a query sees if attention is not causal
_SOFTWARE_TURNS: Final = 50_000  # of all loops of a thread; see rows.TURNS
_FLOAT: Final = dtypes.float32


@attrs.frozen
class Tile:
    """A workgroup's share: 4 * `groups` lines of its own, `columns` threads for four of them, each
    with `each` of the lines that are gone over at a time.
    """

    groups: int
    columns: int
    each: int

    @property
    def lines(self) -> int:
        """Own lines."""
        return 4 * self.groups

    @property
    def wide(self) -> int:
        """Lines that are gone over at a time."""
        return self.columns * self.each

    @property
    def threads(self) -> int:
        """Of the workgroup."""
        return self.groups * self.columns


# The first that fits into workgroup memory is taken.
FORWARD: Final = [
    Tile(16, 8, 4), Tile(8, 8, 4), Tile(8, 4, 4), Tile(4, 8, 2), Tile(4, 8, 1), Tile(2, 4, 1),
]  # fmt: skip
BACKWARD: Final = [
    Tile(8, 8, 4), Tile(8, 8, 2), Tile(4, 4, 4), Tile(4, 8, 1), Tile(2, 8, 1), Tile(1, 4, 1),
]  # fmt: skip
# Mesa's driver for the processor takes seconds to compile larger ones.
_SOFTWARE: Final = (Tile(4, 4, 2), Tile(2, 4, 2))


@attrs.frozen
class Plain:
    """The parameters of attention that has neither mask nor dropout."""

    scale: float
    causal: bool = False
    masked: bool = False
    dropout: float = 0.0


@attrs.frozen
class Problem:
    """The operands that both ops have."""

    op: Any
    q: Layout
    k: Layout
    v: Layout
    extras: Layouts
    machine: Machine

    @property
    def quads(self) -> tuple[int, int]:
        """Vectors of a line of q and k, and of v."""
        return -(-self.q.shape[3] // 4), -(-self.v.shape[3] // 4)

    @property
    def pitches(self) -> tuple[int, int]:
        """Odd, so that lines begin in different banks of workgroup memory."""
        d, e = self.quads
        return d | 1, e | 1

    def refused(self) -> Declined | None:
        """Why there is no kernel, if so."""
        D, E = self.q.shape[3], self.v.shape[3]
        if max(D, E) > _WIDEST:
            return Declined(f"heads of more than {_WIDEST} numbers")
        places = prod(self.q.shape[:3]) * self.k.shape[2]
        if self.op.dropout and places >= 1 << 32:
            return Declined("too many probabilities to draw random bits for")
        if self.machine.software and self._turns() > _SOFTWARE_TURNS:
            return Declined("longer loops than Mesa's software driver allows")
        return None

    def _turns(self) -> int:
        """Of all loops of a thread of a software driver, which takes small tiles: about."""
        d, e = self.quads
        wide = _SOFTWARE[0].wide
        longest = max(self.k.shape[2], self.q.shape[2] * self.q.shape[1] // self.k.shape[1])
        fills = 3 * -(-wide * max(self.pitches) // _SOFTWARE[1].threads)
        return -(-longest // wide) * (2 * (d + e) + 2 * wide + fills)

    def tile(self, choices: Sequence[Tile], memory: Callable[[Tile], int]) -> Tile:
        """The first whose vectors of workgroup memory, `memory(tile)`, there are."""
        choices = _SOFTWARE if self.machine.software else choices
        fitting = [t for t in choices if memory(t) * VECTOR <= self.machine.memory]
        return fitting[0]

    def best(self, make: Callable[[bool], Stage], *others: Layout) -> Stage:
        """The stage for numbers, with one for vectors where only offsets can forbid it."""
        made = make(False)
        layouts = [self.q, self.k, self.v, *others]
        whole = all(x.shape[3] % 4 == 0 and in_vectors(x) for x in layouts)
        return attrs.evolve(made, aligned=make(True)) if whole else made

    def sizes(self, parameters: Parameters) -> dict[str, str]:
        """Shared by all templates, as texts."""
        (B, H, T, _), (_, G, S, _) = self.q.shape, self.k.shape
        d_quads, e_quads = self.quads
        return {
            "batches": parameters.add(B), "heads": parameters.add(H),
            "share": parameters.add(H // G),
            "queries": parameters.add(T), "keys": parameters.add(S),
            "last": parameters.add(0 if self.op.causal else _EVER),
            "scale": parameters.number(self.op.scale, _FLOAT),
            "d_quads": str(d_quads), "e_quads": str(e_quads),
        }  # fmt: skip

    def seen(self, parameters: Parameters, mask: int, written: int) -> dict[str, str]:
        """What a score becomes; `mask` is the number of its load."""
        if not self.op.masked:
            return {"score": "score"}
        layout = self.extras[0]
        steps = [0] * (4 - layout.rank) + [
            0 if n == 1 else s for n, s in zip(layout.shape, layout.strides, strict=True)
        ]
        names = ("head.batch", "head.head", "query", "key")
        place = " + ".join(f"{n} * {parameters.add(s)}" for n, s in zip(names, steps, strict=True))
        found = f"load{mask}(param({written + mask}u) + {place})"
        if layout.dtype is dtypes.bool_:
            return {"score": f"select(NEVER, score, {found} != 0u)"}
        return {"score": f"score + {found}"}

    def kept(self, parameters: Parameters, words: Sequence[str]) -> str:
        """The body of `kept`; `words` read the random state."""
        p = self.op.dropout
        if not p:
            return "    return 1.0;"
        s = self.k.shape[2], self.q.shape[2]
        keys, queries = (f"u32({parameters.add(n)})" for n in s)
        lines = (
            f"let place = (u32(head.number) * {queries} + u32(query)) * {keys} + u32(key);",
            f"let seed = vec2<u32>({words[0]}, {words[1]});",
            f"let draw = vec2<u32>({words[2]}, {words[3]});",
            "let bits = philox(place / 4u, seed, draw)[place % 4u] >> 8u;",
            f"let scale = {parameters.number(1 / (1 - p), _FLOAT)};",
            f"return select(scale, 0.0, bits < u32({parameters.add(threshold(p))}));",
        )
        return indented(lines)

    def dropped(self, places: str) -> str:
        """Times dropout's factors of four `places`, query and key with {i} for the line."""
        if not self.op.dropout:
            return ""
        factors = ", ".join(f"kept({places.replace('@', str(i))}, head)" for i in range(4))
        return f" * vec4<f32>({factors})"

    def includes(self) -> tuple[str, ...]:
        """The templates of what `kept` calls."""
        return ("philox",) if self.op.dropout else ()


def in_vectors(x: Layout) -> bool:
    """Whether the lines of x are whole vectors, but for where the memory begins."""
    return x.strides[3] == 1 and not any(s % 4 for s in x.strides[:3])


@attrs.frozen
class Reader:
    """Makes texts that read operands, by numbers or by vectors."""

    parameters: Parameters
    written: int
    vector: bool

    def tile_of(self, n: int, x: Layout, quads: int, space: Space) -> str:
        """The functions `fill{n}`, which fills a space, and what it calls."""
        unit = 4 if self.vector else 1
        add = self.parameters.add
        parts = {
            "n": str(n), "quads": str(quads), "target": space.row, "size": add(x.shape[3]),
            "line": add(x.strides[2] // unit), "step": add(x.strides[3]),
        }  # fmt: skip
        quad = fragment("quad_vector" if self.vector else "quad_numbers", parts)
        return quad + fragment("tile_of", parts)

    def beginning(self, n: int, x: Layout, batch: str, head: str) -> str:
        """The place of one head of operand n."""
        unit = 4 if self.vector else 1
        first = f"param({self.written + n}u){' / 4' if self.vector else ''}"
        steps = [self.parameters.add(s // unit) for s in x.strides[:2]]
        return f"let at{n} = {first} + {batch} * {steps[0]} + {head} * {steps[1]};"

    def put(self, place: int, x: Layout, quads: int) -> str:
        """The function that writes a vector of a line of output `place`."""
        parts = {
            "n": str(place or ""), "place": str(place), "quads": str(quads),
            "size": self.parameters.add(x.shape[3]),
        }  # fmt: skip
        return fragment("put_vector" if self.vector else "put_numbers", parts)


@attrs.frozen
class Space:
    """An array in workgroup memory: lines of `pitch` vectors, in stacks if they are gone over."""

    name: str
    lines: int
    pitch: int
    stack: int = 0

    @property
    def vectors(self) -> int:
        """How many it has room for."""
        return self.lines * self.pitch

    @property
    def declared(self) -> str:
        """In WGSL."""
        kind = f"array<vec4<f32>, {self.pitch}>"
        if not self.stack:
            return f"var<workgroup> {self.name}: array<{kind}, {self.lines}>;"
        stacks = self.lines // self.stack
        return f"var<workgroup> {self.name}: array<array<{kind}, {self.stack}>, {stacks}>;"

    @property
    def row(self) -> str:
        """Its line `row`."""
        return f"{self.name}[row / STACK][row % STACK]" if self.stack else f"{self.name}[row]"


def stack_of(machine: Machine) -> int:
    """Lines of a stack. Mesa's driver for the processor takes long to compile more of them."""
    return 1 if machine.software else 4


def tile_parts(tile: Tile, spaces: Sequence[Space], stack: int) -> dict[str, str]:
    """A tile, and the arrays of workgroup memory, as texts."""
    return {
        "groups": str(tile.groups), "columns": str(tile.columns), "each": str(tile.each),
        "lines": str(tile.lines), "wide": str(tile.wide), "threads": str(tile.threads),
        "stack": str(stack), "spaces": "\n".join(space.declared for space in spaces),
    }  # fmt: skip
