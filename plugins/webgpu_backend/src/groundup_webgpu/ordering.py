"""sort, topk and cumsum along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from groundup.backends.api import Declined
from groundup.layout import Layout
from groundup_webgpu.machine import Machine
from groundup_webgpu.rows import WORKERS, Rows, begins, rows_of
from groundup_webgpu.source import SCRATCH, STORED, Parameters, Stage, computed, spread

Layouts = Sequence[Layout]
_SLOTS: Final = 1024  # elements that a workgroup sorts
_ALONE: Final = 1 << 14  # elements that one thread adds up
_WIDEST: Final = 1 << 22  # elements that one workgroup adds up
_ITEM: Final = 4  # bytes of a key, and of a place


def cumsum(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage] | Declined:
    """One dispatch: a thread for each row where they keep the device busy, else a workgroup."""
    (x,), (out,) = inputs, outputs
    if not out.size:
        return []
    rows, goal = rows_of(x, op.axis), rows_of(out, op.axis)
    if rows.width > _WIDEST:
        return Declined("rows are too wide")
    busy = machine.software or rows.count * WORKERS >= machine.threads
    alone = busy and rows.width <= _ALONE
    parameters = Parameters(2)
    parts = {
        "rows": parameters.add(rows.count), "width": parameters.add(rows.width),
        "step": parameters.add(goal.step), "step0": parameters.add(rows.step),
        "type": computed(out.dtype),
        "index": begins(parameters, 1, rows.lead, (), place=goal.steps, at0=rows.steps),
    }  # fmt: skip
    memory = ((0, STORED[out.dtype]), (1, STORED[x.dtype]))
    groups = spread(rows.count, WORKERS if alone else 1)
    family = "cumsum_alone" if alone else "cumsum"
    return [Stage(family, parts, tuple(parameters.values), memory, groups)]


def ordered(op: Any, inputs: Layouts, outputs: Layouts, machine: Machine) -> list[Stage]:
    """sort and topk: blocks in workgroup memory, then the sorted runs are merged two by two."""
    (x,), values = inputs, outputs[0]
    if not values.size:
        return []
    falling = op.name == "topk" or op.descending
    return _Sorting(x, values, rows_of(x, op.axis), rows_of(values, op.axis), falling).stages()


@attrs.frozen
class _Sorting:
    """Rows of x, of which the first elements in order go to rows of the outputs.

    Between the dispatches keys and places are in scratch memory, twice.
    """

    x: Layout
    values: Layout
    rows: Rows
    goal: Rows
    falling: bool

    @property
    def block(self) -> int:
        """How many neighbours a workgroup sorts: a power of two."""
        return min(_SLOTS, max(2, 1 << (self.rows.width - 1).bit_length()))

    @property
    def padded(self) -> int:
        """The width of a row in whole blocks."""
        return -(-self.rows.width // self.block) * self.block

    @property
    def slots(self) -> int:
        """All rows, so padded."""
        return self.rows.count * self.padded

    def stages(self) -> list[Stage]:
        made = [self._blocks(last=self.padded == self.block)]
        run, turn = self.block, 0
        while run < self.padded:
            made.append(self._merge(run, turn, last=2 * run >= self.padded))
            run, turn = 2 * run, 1 - turn
        return made

    def _blocks(self, last: bool) -> Stage:
        written = 2 if last else 1
        parameters = Parameters(written + 1)
        add = parameters.add
        parts = {
            "block": str(self.block), "padded": add(self.padded), "rows": add(self.rows.count),
            "width": add(self.rows.width), "turn": "~" if self.falling else "",
            "type": computed(self.x.dtype), "step0": add(self.rows.step),
            "functions": self._functions(parameters, 0, last),
            "write": self._write(parameters, last, 0, "keys[s]", "places[s]", 0),
        }  # fmt: skip
        x = (2, STORED[self.x.dtype])
        memory = (*self._outputs, x) if last else ((SCRATCH, "u32"), x)
        return Stage(
            "sort_block", parts, tuple(parameters.values), memory, spread(self.slots, _SLOTS),
            self._scratch, written=written, includes=("sort_keys",),
        )  # fmt: skip

    def _merge(self, run: int, turn: int, last: bool) -> Stage:
        """Runs of so many elements, from one half of scratch memory to the other or the outputs."""
        written = 2 if last else 1
        parameters = Parameters(written + (2 if last else 1))
        add = parameters.add
        parts = {
            "padded": add(self.padded), "slots": add(self.slots), "run": add(run),
            "source": f"param({written}u) + {add(turn * 2 * self.slots)}",
            "functions": self._functions(parameters, 1, last),
            "write": self._write(parameters, last, 1, "key", "chosen", 1 - turn),
        }  # fmt: skip
        memory: tuple[tuple[int, str], ...] = ((SCRATCH, "u32"), (SCRATCH, "u32"))
        if last:
            memory = (*self._outputs, memory[0], (2, STORED[self.x.dtype]))
        return Stage(
            "sort_merge", parts, tuple(parameters.values), memory, spread(self.slots, WORKERS),
            self._scratch, written=written,
        )  # fmt: skip

    @property
    def _outputs(self) -> tuple[tuple[int, str], tuple[int, str]]:
        return (0, STORED[self.values.dtype]), (1, "i32")

    @property
    def _scratch(self) -> int:
        return 0 if self.padded == self.block else 4 * _ITEM * self.slots

    def _functions(self, parameters: Parameters, source: int, last: bool) -> str:
        """Where rows of x, which is input `source`, and of the outputs begin."""
        texts = []
        if last or source == 0:
            own: Any = {f"at{source}": self.rows.steps}
            index = begins(parameters, 2 if last else 1, self.rows.lead, (), **own)
            texts.append(f"fn row_of(i: i32) -> i32 {{\n{index}\n    return at{source};\n}}\n")
        if last:
            index = begins(parameters, 2, self.rows.lead, (), place=self.goal.steps)
            texts.append(f"fn goal_of(i: i32) -> i32 {{\n{index}\n    return place;\n}}\n")
        return "\n".join(texts)

    def _write(
        self, parameters: Parameters, last: bool, source: int, key: str, place: str, half: int
    ) -> str:
        """Statements that put what belongs at place `c` of row `i` there."""
        add = parameters.add
        if not last:
            at = f"param(0u) + {add(half * 2 * self.slots)} + i * {add(self.padded)} + c"
            return f"save({at}, {key});\nsave({at} + {add(self.slots)}, {place});"
        found = f"load{source}(row_of(i) + i32({place}) * {add(self.rows.step)})"
        return "\n".join(
            [
                f"if (c < {add(self.goal.width)}) {{",
                f"    let goal = goal_of(i) + c * {add(self.goal.step)};",
                f"    save(goal, {found});",
                f"    save1(goal - param(0u) + param(1u), i32({place}));",
                "}",
            ]
        )
