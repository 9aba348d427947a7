"""Sums of products by an equation, as matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Final

from groundup import dtypes as dt
from groundup.errors import DTypeError, ShapeError
from groundup.layout import Spec
from groundup.ops.accuracy import CONTRACTION
from groundup.ops.op import Cost, Op
from groundup.ops.samples import BadCase, Case, Make
from groundup.shapes import Shape

if TYPE_CHECKING:
    from groundup.tensor import Tensor

__all__ = ["einsum"]

Labels = tuple[str, ...]


class Einsum(Op, name="einsum", family="contraction"):
    """The sum over all labels that the result lacks of the product of the operands.

    `equation` is NumPy's: "bij,bjk->bik", without "->" the labels that occur once, in order.
    "..." stands for axes that broadcast. Operands are taken from left to right, each step one
    matrix product. A label may not occur twice in one operand.
    """

    equation: str
    accuracy = CONTRACTION
    saves = ("operands",)
    dtypes = (*dt.FLOATS, dt.int32)

    def infer(self, *operands: Spec) -> Spec:
        terms, result = parse(self.equation, [spec.rank for spec in operands])
        for spec in operands[1:]:
            if spec.dtype is not operands[0].dtype:
                raise DTypeError(
                    f"einsum: dtypes differ: {operands[0]} and {spec}", hint="cast them first"
                )
        if operands[0].dtype is dt.bool_:
            raise DTypeError(f"einsum: operands are {operands[0].dtype}", hint="cast to int32")
        found = _label_sizes(self.equation, terms, [spec.shape for spec in operands])
        return Spec(tuple(found[label] for label in result), operands[0].dtype)

    def compose(self, *operands: Tensor) -> Tensor:
        terms, result = parse(self.equation, [t.ndim for t in operands])
        pairs = [_without_ones(t, labels) for t, labels in zip(operands, terms, strict=True)]
        total, labels = pairs[0]
        for step, (other, theirs) in enumerate(pairs[1:], 1):
            wanted = {*result}.union(*[later for _, later in pairs[step + 1 :]])
            total, labels = _contract((total, labels), (other, theirs), wanted)
        total, labels = _summed(total, labels, {*result})
        total = total.permute(*[labels.index(label) for label in result if label in labels])
        return total.reshape(self.infer(*[t.spec for t in operands]).shape)

    def cost(self, *operands: Spec) -> Cost:
        out = self.infer(*operands)
        terms, _ = parse(self.equation, [spec.rank for spec in operands])
        every = _label_sizes(self.equation, terms, [spec.shape for spec in operands])
        flops = len(operands) * prod(every.values())
        return Cost(flops, out.nbytes + sum(spec.nbytes for spec in operands))

    @classmethod
    def samples(cls, make: Make) -> Iterator[Case]:
        for equation, *shapes in _CASES:
            operands = tuple(make.normal(*shape) for shape in shapes)
            tags = frozenset({"empty"} if any(0 in shape for shape in shapes) else ())
            yield Case(cls(equation=equation), operands, equation, tags)
        views = (
            make.normal(4, 3, view=lambda x: x.mT),
            make.normal(4, 10, view=lambda x: x[:, ::2]),
        )
        yield Case(cls(equation="ij,jk->ik"), views, "view", frozenset({"view"}))

    @classmethod
    def errors(cls, make: Make) -> Iterator[BadCase]:
        square, row = make.normal(3, 3), make.normal(3)
        for equation, operands, text in (
            ("ii->i", (square,), "occurs twice"), ("ij->ik", (square,), "no operand has"),
            ("ij,j", (square,), "1 given"), ("ijk->i", (square,), "has rank 2"),
            ("ij,j->i", (square, make.normal(4)), "sizes 3 and 4"), ("i->ii", (row,), "twice"),
            ("i1->i", (square,), "is no letter"), ("i...j...->i", (square,), "one '...'"),
        ):  # fmt: skip
            yield BadCase(cls(equation=equation), operands, ShapeError, text)
        mixed = (square, make.of(dt.uint8, 3))
        yield BadCase(cls(equation="ij,j->i"), mixed, DTypeError, "dtypes differ")


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """One label per axis, of every operand and of the result. Raises ShapeError.

    The axes of "..." are labelled from the right, "0" is the last.
    """
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise ShapeError(f"einsum: {equation!r} has {len(parts)} operands, {len(ranks)} given")
    terms = []
    for part, rank in zip(parts, ranks, strict=True):
        free = rank - len(part.replace("...", ""))
        if free < 0 or ("..." not in part and free):
            raise ShapeError(
                f"einsum: {part!r} of {equation!r} labels an operand that has rank {rank}"
            )
        terms.append(_labels(part, free, equation))
    dots = max((sum(label.isdecimal() for label in term) for term in terms), default=0)
    if arrow:
        result = _labels(right, dots, equation)
    else:
        count = Counter(label for term in terms for label in term if not label.isdecimal())
        once = sorted(label for label, times in count.items() if times == 1)
        result = (*_labels("...", dots, equation), *once)
    unknown = set(result).difference(*terms)
    if unknown:
        raise ShapeError(f"einsum: {equation!r}: no operand has {sorted(unknown)[0]!r}")
    return terms, result


def _labels(part: str, free: int, equation: str) -> Labels:
    before, dots, after = part.partition("...")
    middle = [str(i) for i in reversed(range(free))] if dots else []
    labels = (*before, *middle, *after)
    for label in before + after:
        if label == ".":
            raise ShapeError(f"einsum: {equation!r}: a term may have one '...'")
        if not (label.isascii() and label.isalpha()):
            raise ShapeError(f"einsum: {equation!r}: {label!r} is no letter")
    twice = [label for label, times in Counter(labels).items() if times > 1]
    if twice:
        raise ShapeError(f"einsum: {equation!r}: {twice[0]!r} occurs twice in {part!r}")
    return labels


def _label_sizes(equation: str, terms: Sequence[Labels], shapes: Sequence[Shape]) -> dict[str, int]:
    found: dict[str, int] = {}
    for labels, shape in zip(terms, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            known = found.setdefault(label, size)
            if known != size and label.isdecimal() and 1 in (known, size):
                found[label] = size if known == 1 else known
            elif known != size:
                which = "'...'" if label.isdecimal() else repr(label)
                raise ShapeError(f"einsum: {equation!r}: {which} has sizes {known} and {size}")
    return found


def _without_ones(t: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """Broadcast axes of size 1 dropped: a factor that does not depend on them."""
    kept = [i for i, label in enumerate(labels) if not (label.isdecimal() and t.shape[i] == 1)]
    return t.reshape([t.shape[i] for i in kept]), tuple(labels[i] for i in kept)


def _summed(t: Tensor, labels: Labels, wanted: set[str]) -> tuple[Tensor, Labels]:
    axes = tuple(i for i, label in enumerate(labels) if label not in wanted)
    return (t.sum(axes) if axes else t), tuple(label for label in labels if label in wanted)


def _contract(
    left: tuple[Tensor, Labels], right: tuple[Tensor, Labels], wanted: set[str]
) -> tuple[Tensor, Labels]:
    """One matrix product: shared wanted labels are its batch, shared unwanted ones are summed."""
    x, ours = _summed(*left, wanted.union(right[1]))
    y, theirs = _summed(*right, wanted.union(left[1]))
    batch = [label for label in ours if label in theirs and label in wanted]
    inner = [label for label in ours if label in theirs and label not in wanted]
    rows = [label for label in ours if label not in theirs]
    columns = [label for label in theirs if label not in ours]
    size = {**dict(zip(ours, x.shape, strict=True)), **dict(zip(theirs, y.shape, strict=True))}

    def arranged(t: Tensor, labels: Labels, groups: Sequence[list[str]]) -> Tensor:
        order = [labels.index(label) for group in groups for label in group]
        lead = [size[label] for label in batch]
        return t.permute(order).reshape(
            [*lead, *[prod(size[label] for label in group) for group in groups[1:]]]
        )

    product = arranged(x, ours, (batch, rows, inner)) @ arranged(y, theirs, (batch, inner, columns))
    labels = (*batch, *rows, *columns)
    return product.reshape([size[label] for label in labels]), labels


_CASES: Final[tuple[tuple[str, *tuple[Shape, ...]], ...]] = (
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,kj->ki", (3, 4), (5, 4)), ("ij,jk", (3, 4), (4, 5)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("bhtd,bhsd->bhts", (2, 2, 3, 4), (2, 2, 5, 4)),
    ("ij->ji", (3, 4)), ("ij->", (3, 4)), ("ij->j", (3, 4)), ("ba", (2, 3)),
    ("i,i->", (5,), (5,)), ("i,j->ij", (3,), (4,)), ("i,i->i", (3,), (3,)), (",i->i", (), (3,)),
    ("ij,kl->i", (2, 3), (4, 5)), ("ijk,k->ij", (2, 3, 4), (4,)), ("a,b,c->cab", (2,), (3,), (2,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("...i->...", (2, 3, 4)), ("...->...", (1, 1)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)), ("...,i->i...", (2, 1), (3,)),
    ("ij,jl->il", (0, 4), (4, 5)), ("ij,jm->im", (2, 0), (0, 3)),
)  # fmt: skip


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """The sum of products that `equation` says, as in "bij,bjk->bik"; see NumPy's einsum.

    Raises ShapeError, DTypeError.
    """
    return Einsum(equation=equation)(*operands)
