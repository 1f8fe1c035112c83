"""Small changes of a function's source, such as a learner's slip would make.

Each change of each place is one mutant: a constant, a sign, an operator, a comparison, a slice, an
order, a function with a sibling (min and max, sum and mean). Loops and functions count their turns,
so a mutant that does not end is cut off.
"""

import ast
import copy
import inspect
import random
import textwrap
from collections.abc import Callable, Iterator

TURNS = 50_000  # of all loops and calls of one call of a mutant

SIBLINGS = {
    "min": "max",
    "minimum": "maximum",
    "amin": "amax",
    "argmin": "argmax",
    "nanmin": "nanmax",
    "sum": "mean",
    "prod": "sum",
    "std": "var",
    "median": "mean",
    "any": "all",
    "floor": "ceil",
    "sin": "cos",
    "sinh": "cosh",
    "log": "log2",
    "zeros": "ones",
    "zeros_like": "ones_like",
}
SIBLINGS |= {b: a for a, b in SIBLINGS.items() if b not in SIBLINGS}
LEFT_OUT = {"abs", "sqrt", "square", "exp", "reversed", "sorted", "round", "norm", "cumsum"}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OWN_LINES = (ast.Assign, ast.AugAssign, ast.Expr)


class Endless(BaseException):
    """A mutant took too many turns."""


def mutants(function: Callable, most: int, seed: int = 0) -> list[tuple[str, Callable]]:
    """At most so many changed copies of a function, each with its change in words."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    tree.body[0].decorator_list = []
    changes = list(_changes(tree.body[0]))
    random.Random(f"{seed} {function.__name__}").shuffle(changes)
    made = []
    for number, build in changes[:most]:
        changed = copy.deepcopy(tree)
        node = list(ast.walk(changed.body[0]))[number]
        said = f"line {node.lineno}: {_short(node)}" if hasattr(node, "lineno") else "?"
        new = build(node)
        if new is not node:
            changed = _Replace(node, new).visit(changed)
        said += f" → {_short(new)}" if new is not None else " left out"
        made.append((said, _compiled(changed, function)))
    return made


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) < 60 else text[:57] + "…"


def _compiled(tree: ast.Module, function: Callable) -> Callable:
    """The function of a tree, in the namespace of the original, with its turns counted."""
    tree = ast.fix_missing_locations(_Count().visit(tree))
    left = [TURNS]

    def turn() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Endless

    names = dict(function.__globals__) | {"_turn": turn}
    exec(compile(tree, "<mutant>", "exec"), names)
    changed = names[function.__name__]

    def bounded(*inputs):
        left[0] = TURNS
        return changed(*inputs)

    return bounded


class _Count(ast.NodeTransformer):
    """Puts a call of `_turn` at the head of each loop and function."""

    def _counted(self, node):
        self.generic_visit(node)
        node.body.insert(0, ast.parse("_turn()").body[0])
        return node

    visit_For = visit_While = visit_FunctionDef = _counted


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST | None) -> None:
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def _changes(function: ast.FunctionDef) -> Iterator[tuple[int, Callable]]:
    """Number of a node in `ast.walk`, and what makes the new node of it (None: left out)."""
    skipped = _not_code(function)
    for number, node in enumerate(ast.walk(function)):
        if id(node) in skipped:
            continue
        for build in _of(node):
            yield number, build


def _not_code(function: ast.FunctionDef) -> set[int]:
    """Docstrings, annotations, and the argument lists."""
    nodes: list[ast.AST] = [function.args]
    if ast.get_docstring(function) is not None:
        nodes.append(function.body[0])
    return {id(part) for node in nodes for part in ast.walk(node)}


def _of(node: ast.AST) -> Iterator[Callable]:
    """The changes of one node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield lambda n, v=value: ast.copy_location(ast.Constant(not v), n)
        case ast.Constant(value=int() | float() as value):
            for other in {value + 1, value - 1, 2 * value} - {value}:
                yield lambda n, v=other: ast.copy_location(ast.Constant(v), n)
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield lambda n: n.operand
        case ast.BinOp(op=ast.MatMult()):
            yield _swapped
        case ast.BinOp(op=op):
            if type(op) in OPERATORS:
                yield lambda n: _set(n, op=OPERATORS[type(n.op)]())
            if isinstance(op, ast.Sub | ast.Div | ast.Pow):
                yield _swapped
            yield lambda n: n.left
        case ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield lambda n: _set(n, op=OPERATORS[type(n.op)]())
            yield lambda n: ast.copy_location(ast.Pass(), n)
        case ast.Compare(ops=[op]):
            for other in COMPARISONS[type(op)]:
                yield lambda n, o=other: _set(n, ops=[o()])
        case ast.BoolOp(op=op):
            other = ast.Or if isinstance(op, ast.And) else ast.And
            yield lambda n, o=other: _set(n, op=o())
        case ast.Slice():
            for part in ("lower", "upper", "step"):
                if getattr(node, part) is not None:
                    yield lambda n, p=part: _set(n, **{p: None})
        case ast.Attribute(attr="T" | "mT"):
            yield lambda n: n.value
        case ast.Tuple(elts=[_, _, *_], ctx=ast.Load()):
            yield lambda n: _set(n, elts=[n.elts[1], n.elts[0], *n.elts[2:]])
        case ast.IfExp() | ast.If():
            yield lambda n: _set(n, test=ast.UnaryOp(ast.Not(), n.test))
        case ast.Call():
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[Callable]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in SIBLINGS:
        yield lambda n, s=SIBLINGS[name]: _renamed(n, s)
    if name in LEFT_OUT:
        if node.args:
            yield lambda n: n.args[0]
        elif isinstance(node.func, ast.Attribute):
            yield lambda n: n.func.value
    if len(node.args) == 2:
        yield lambda n: _set(n, args=n.args[::-1])
    for number in range(len(node.keywords)):
        if node.keywords[number].arg is not None:
            yield lambda n, i=number: _set(n, keywords=n.keywords[:i] + n.keywords[i + 1 :])


def _renamed(node: ast.Call, name: str) -> ast.Call:
    attribute = "attr" if isinstance(node.func, ast.Attribute) else "id"
    return _set(node, func=_set(node.func, **{attribute: name}))


def _swapped(node: ast.BinOp) -> ast.BinOp:
    return _set(node, left=node.right, right=node.left)


def _set(node, **fields):
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
