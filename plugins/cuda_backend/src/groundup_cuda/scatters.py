"""Kernels by index: take, and scatter_add of floats without atomics: the same bits every time."""

from __future__ import annotations

from math import prod
from typing import Any, Final

from groundup.layout import Layout
from groundup.shapes import row_major
from groundup_cuda.expressions import STORED, computed
from groundup_cuda.plans import Layouts, Lowered
from groundup_cuda.source import OUT, SCRATCH, THREADS, Parameters, collapsed, stage, walk

_FEW: Final = 64  # indices of a line up to which every output asks them all
_BUCKETS: Final = 2048  # that a list of indices is read for at most
_OFTEN: Final = 16  # sources of an output from which a whole block adds them up


def lower_take(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """Slices of x in packs, where they are dense."""
    x, indices = inputs
    (out,) = outputs
    axis = op.axis % x.rank
    before, after = slice(0, axis), slice(axis + 1, x.rank)
    at0 = x.strides[before] + (0,) * indices.rank + x.strides[after]
    at1 = (0,) * axis + indices.strides + (0,) * (x.rank - axis - 1)
    width = 8 if x.dtype.itemsize <= 2 else 4
    shape, (steps, _) = collapsed(out.shape, at0, at1)
    dense = steps[-1] == 1 and not any(
        n % width for n in (shape[-1], *steps[:-1], x.strides[axis])
    )  # fmt: skip
    width = width if dense else 1
    parameters = Parameters(3)
    made = stage(
        "take", "take", parameters, [OUT, 0, 1], out.size // width, (out, x, indices),
        size=parameters.add(out.size), index=walk(parameters, "i", out.shape, at0=at0, at1=at1),
        bound=parameters.add(x.shape[axis]), step=parameters.add(x.strides[axis]),
        in0=STORED[indices.dtype], type=STORED[x.dtype], value_type=computed(x.dtype),
        width=str(width),
    )  # fmt: skip
    return Lowered([made])


def lower_scatter_add(op: Any, inputs: Layouts, outputs: Layouts) -> Lowered:
    """By asking all indices where they are few or lines are not of one length, else by buckets."""
    x, indices, _ = inputs
    axis, out = op.axis % x.rank, outputs[0]
    lines_fit = all(
        a == axis or n == m for a, (n, m) in enumerate(zip(x.shape, indices.shape, strict=True))
    )
    if not lines_fit or indices.shape[axis] <= _FEW:
        return _by_asking(axis, inputs, out)
    return _by_buckets(axis, inputs, out)


def _by_asking(axis: int, inputs: Layouts, out: Layout) -> Lowered:
    x, indices, source = inputs
    parameters = Parameters(4)
    lines = {"at1": indices.strides, "at2": source.strides}
    walked = {k: tuple(0 if a == axis else s for a, s in enumerate(v)) for k, v in lines.items()}
    short = [a for a in range(x.rank) if a != axis and indices.shape[a] < x.shape[a]]
    places = {f"place{a}": tuple(int(a == b) for b in range(x.rank)) for a in short}
    along = tuple(int(a == axis) for a in range(x.rank))
    index = walk(
        parameters, "i", out.shape, place=out.strides, at0=x.strides, along=along, **walked,
        **places,
    )  # fmt: skip
    inside = [f"place{a} < (Index){parameters.add(indices.shape[a])}" for a in short]
    made = stage(
        "scatter_scan", "scatter_add", parameters, [OUT, 0, 1, 2], out.size, [out, *inputs],
        size=parameters.add(out.size), index=index, inside=" && ".join(inside) or "true",
        many=parameters.add(indices.shape[axis]), index_step=parameters.add(indices.strides[axis]),
        step=parameters.add(source.strides[axis]), in0=STORED[indices.dtype],
        type=STORED[x.dtype],
    )  # fmt: skip
    return Lowered([made])


def _by_buckets(axis: int, inputs: Layouts, out: Layout) -> Lowered:
    """Axes along which indices are repeated are columns, that one list serves; over the others
    there are as many lists.
    """
    x, indices, source = inputs
    axes = [a for a in range(x.rank) if a != axis]
    columns = [a for a in axes if indices.strides[a] == 0 or x.shape[a] == 1]
    others = [a for a in axes if a not in columns]
    many, targets = indices.shape[axis], x.shape[axis]
    lists, width = prod(x.shape[a] for a in others), prod(x.shape[a] for a in columns)
    wide = 32 if targets > 4096 else 8
    while -(-targets // wide) > _BUCKETS:
        wide *= 2
    buckets = -(-targets // wide)
    own = row_major(out.shape)

    def only(axes: list[int], strides: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(strides[a] for a in axes)

    parameters = Parameters(2)
    add = parameters.add
    listed = stage(
        "buckets", "scatter_add", parameters, [SCRATCH, 1], lists * buckets * THREADS,
        [indices], buckets=add(buckets), many=add(many), lists=add(lists), wide=str(wide),
        index=walk(parameters, "i", only(others, x.shape), at0=only(others, indices.strides)),
        step=add(indices.strides[axis]), in0=STORED[indices.dtype],
    )  # fmt: skip
    shape = only(columns, x.shape)
    steps = {"place_j": only(columns, own), "x_j": only(columns, x.strides),
             "source_j": only(columns, source.strides)}  # fmt: skip
    _, ends = collapsed(shape, *steps.values())
    side = all(len(s) == 1 for s in ends) and ends[0][0] == ends[2][0] == 1
    pack = 16 // x.dtype.itemsize
    starts = [*only([axis, *others], own), *only([axis, *others], source.strides), width]
    pack = pack if side and all(n % pack == 0 for n in starts) else 1
    rows = 1 if many >= _OFTEN * targets else 8
    blocks = -(-width // (32 * pack)) * -(-targets // rows) * lists
    parameters = Parameters(4)
    add = parameters.add
    summed = stage(
        "bucket_sums", "scatter_add", parameters, [OUT, 0, 2, SCRATCH], blocks * THREADS,
        [out, x, source], columns=add(width), targets=add(targets), buckets=add(buckets),
        lists=add(lists), many=add(many), wide=str(wide), rows_each=str(rows), width=str(pack),
        index=walk(
            parameters, "i", only(others, x.shape), place_i=only(others, own),
            x_i=only(others, x.strides), source_i=only(others, source.strides),
        ),
        inner=walk(parameters, "j", shape, **steps), step=add(source.strides[axis]),
        x_row=add(x.strides[axis]), row=add(own[axis]), x_step=add(ends[1][-1]),
        type=STORED[x.dtype],
    )  # fmt: skip
    return Lowered([listed, summed], scratch=8 * lists * (buckets + many))
