"""Small changes to a Python source, one at a time, by its syntax tree.

A site is a place and a change that can be made there. A tree is changed in place, so each mutant
parses the source anew and makes the change of one site; their order never varies.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import attrs

_SWAPS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_REGISTERS: Final = "native"  # the only decorator whose arguments mean something to a kernel
_DROPPED: Final = "(dropped)"


@attrs.frozen(eq=False)
class Site:
    """One possible change: `owner`'s field, or item, `key` becomes `value`.

    `shown` is the node that a reader sees before and after.
    """

    kind: str
    owner: Any
    key: Any
    value: Any
    shown: ast.AST
    where: str  # the function or class at the top of the file that holds it; empty: none does
    span: tuple[int, int]  # first and last line of the innermost statement around it

    def change(self) -> None:
        """Make the change in the tree that the site was found in."""
        if isinstance(self.owner, list):
            self.owner[self.key] = self.value
        else:
            setattr(self.owner, self.key, self.value)

    def texts(self) -> tuple[str, str]:
        """What is shown before and after; the tree stays as it is."""
        before = _text(self.shown)
        if isinstance(self.owner, list):
            return before, _DROPPED
        if self.shown is not self.owner and self.key == "test":
            return before, _text(self.value)
        kept = getattr(self.owner, self.key)
        self.change()
        after = _text(self.shown)
        setattr(self.owner, self.key, kept)
        return before, after


@attrs.frozen
class Mutant:
    """A change of a file: that of its `number`th site."""

    file: str  # its name within the package: kernels/softmax.py
    number: int
    kind: str
    where: str
    line: int
    span: tuple[int, int]
    code: str  # the line that it begins in
    before: str
    after: str

    def __str__(self) -> str:
        place = self.where or "the top"
        return f"{self.file}:{self.line} in {place}, {self.kind}: {self.before} -> {self.after}"

    @property
    def key(self) -> str:
        """What it is called where lines may move: two alike in one line are called the same."""
        return f"{self.file} | {self.code} | {self.before} -> {self.after}"


def mutants(source: str, file: str) -> list[Mutant]:
    """Every mutant of a source."""
    found, lines = [], source.splitlines()
    for number, site in enumerate(sites(ast.parse(source))):
        line = getattr(site.shown, "lineno", site.span[0])
        code = " ".join(lines[line - 1].split())
        found.append(
            Mutant(file, number, site.kind, site.where, line, site.span, code, *site.texts())
        )
    return found


def mutated(source: str, number: int) -> ast.Module:
    """The tree with the change of its `number`th site."""
    tree = ast.parse(source)
    list(sites(tree))[number].change()
    return ast.fix_missing_locations(tree)


def sites(tree: ast.Module) -> Iterator[Site]:
    """Every change that can be made to the tree, from top to bottom."""
    for statement in tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            yield from _of_statement(statement, getattr(statement, "name", ""))


def _of_statement(
    statement: ast.stmt, where: str, span: tuple[int, int] | None = None
) -> Iterator[Site]:
    span = span or (statement.lineno, _header_end(statement))
    for expression in _expressions(statement):
        for node in _walk(expression):
            for kind, owner, key, value in _of_expression(node):
                yield Site(kind, owner, key, value, node, where, span)
    here = partial(Site, shown=statement, where=where, span=span)
    if isinstance(statement, ast.AugAssign) and type(statement.op) in _SWAPS:
        yield here("operator", statement, "op", _SWAPS[type(statement.op)]())
    if isinstance(statement, ast.If | ast.While):
        test = statement.test
        yield Site("condition", statement, "test", _not(test), test, where, span)
    inner = span if isinstance(statement, ast.ClassDef) else None  # what a class says runs once
    for name in ("body", "orelse", "finalbody"):
        yield from _of_block(getattr(statement, name, []), where, inner)


def _of_block(block: list[Any], where: str, span: tuple[int, int] | None) -> Iterator[Site]:
    for place, statement in enumerate(block):
        if _can_go(statement):
            lines = span or (statement.lineno, statement.end_lineno or statement.lineno)
            yield Site("statement", block, place, ast.Pass(), statement, where, lines)
        if isinstance(statement, ast.FunctionDef):
            yield from _of_statement(statement, where)
        elif isinstance(statement, ast.stmt):
            yield from _of_statement(statement, where, span)


def _walk(expression: ast.AST) -> Iterator[ast.AST]:
    """Every node; not the number after a minus, which is changed together with that, nor what
    `strict` is: an assertion, no computation.
    """
    left_out: set[int] = set()
    for node in ast.walk(expression):
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as number):
                left_out.add(id(number))
            case ast.keyword(arg="strict", value=flag):
                left_out.add(id(flag))
        if id(node) not in left_out:
            yield node


def _of_expression(node: ast.AST) -> Iterator[tuple[str, Any, str, Any]]:
    """(kind, owner, field, new value) of the changes of one expression, its parts left out."""
    match node:
        case ast.BinOp(op=op) if type(op) in _SWAPS:
            yield "operator", node, "op", _SWAPS[type(op)]()
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            yield "comparison", node, "ops", [_COMPARISONS[type(op)]()]
        case ast.BoolOp(op=op):
            yield "and, or", node, "op", ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            kind = "axis" if value == 1 else "constant"
            yield kind, node, "operand", ast.Constant(value - 1)
        case ast.UnaryOp(op=ast.USub()):
            yield "sign", node, "op", ast.UAdd()
        case ast.IfExp():
            yield "condition", node, "test", _not(node.test)
        case ast.keyword(arg="axis", value=ast.Constant(value=0)):
            yield "axis", node, "value", ast.UnaryOp(ast.USub(), ast.Constant(1))
        case ast.Constant(value=bool() as value):
            yield "constant", node, "value", not value
        case ast.Constant(value=int() | float() as value):
            yield "constant", node, "value", value + 1


def _expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """The expressions of a statement itself; not its docstring, its types, other decorators."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield from filter(_is_registration, statement.decorator_list)
        if isinstance(statement, ast.FunctionDef):
            yield from statement.args.defaults
        return
    for name, value in ast.iter_fields(statement):
        if name in ("annotation", "body", "orelse", "finalbody", "handlers"):
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST) and not isinstance(part, ast.operator):
                yield part


def _is_registration(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(function, ast.Name) and function.id == _REGISTERS


def _can_go(statement: Any) -> bool:
    """Whether what follows can run without it, so that only a wrong result can tell."""
    match statement:
        case ast.Expr(value=ast.Constant()):
            return False
        case ast.Expr() | ast.AugAssign() | ast.Raise():
            return True
        case ast.Assign(targets=[target]):
            return isinstance(target, ast.Subscript | ast.Attribute)
    return False


def _header_end(statement: ast.stmt) -> int:
    """The last line of a statement; that of its head, unless it is a function or a class."""
    body: list[ast.stmt] | Any = getattr(statement, "body", None)
    if (
        isinstance(body, list)
        and body
        and not isinstance(statement, ast.FunctionDef | ast.ClassDef)
    ):
        return max(statement.lineno, body[0].lineno - 1)
    return statement.end_lineno or statement.lineno


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())
