"""Elementwise kernels by vectors: a quicker stage where all operands lie in order."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from groundup.layout import Layout
from groundup_webgpu.source import STORED, Parameters, Stage, computed, indented, spread

_ITEM = 4  # bytes of an element in scratch memory


@attrs.frozen
class Body:
    """What is computed of each element: statements, then an expression, of the named operands.

    `operands` are their numbers and layouts, `target` the number of the output.
    """

    names: Sequence[str]
    operands: Sequence[tuple[int, Layout]]
    out: Layout
    target: int

    @property
    def in_order(self) -> bool:
        """Whether vectors of all can be read and written, but for where the memory begins."""
        ordered = all(x.is_row_major or not any(x.strides) for _, x in self.operands)
        return ordered and self.out.is_row_major and self.out.size % 4 == 0

    def vectors(
        self, parameters: Parameters, value: str, steps: Sequence[str] = (), scratch: bool = False
    ) -> Stage:
        """The stage; `parameters` are those of the texts, after the places of all operands."""
        single = [not x.is_row_major for _, x in self.operands]  # one number for all
        memory = [(self.target, f"vec4<{STORED[self.out.dtype]}>")]
        loads = []
        for k, ((i, x), one) in enumerate(zip(self.operands, single, strict=True)):
            memory.append((i, STORED[x.dtype] if one else f"vec4<{STORED[x.dtype]}>"))
            at = f"param({k + 1}u)" if one else f"param({k + 1}u) / 4 + i"
            loads.append(f"let v{k} = load{k}({at});")
        values = []
        for part in "xyzw":
            given = [f"v{k}" if one else f"v{k}.{part}" for k, one in enumerate(single)]
            values.append(f"value_of({', '.join(given)})")
        kinds = [computed(x.dtype) for _, x in self.operands]
        arguments = [f"{name}: {kind}" for name, kind in zip(self.names, kinds, strict=True)]
        parts = {
            "arguments": ", ".join(arguments), "type": computed(self.out.dtype),
            "steps": indented(steps), "value": value, "loads": indented(loads),
            "values": ", ".join(values), "size": parameters.add(self.out.size // 4),
        }  # fmt: skip
        return Stage(
            "map_vectors", parts, tuple(parameters.values), tuple(memory),
            spread(self.out.size // 4, 256), _ITEM * self.out.size if scratch else 0,
        )  # fmt: skip
