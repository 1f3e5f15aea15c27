"""Wrong versions of the core: every small change to its code, made one at a time to the parsed source."""

from __future__ import annotations
import __future__

import ast
import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from msgspec import Struct

from simulation.core import Core
from trackbook.engine import decider, job, job_state
from trackbook.engine.job_state import JobStatus, TaskStatus

STATUSES = TaskStatus.__args__ + JobStatus.__args__ + job.Outcome.__args__  # type: ignore[attr-defined]
MODULES = (job_state, job, decider)
STATES = ("TaskState", "JobState", "LIVE", "ENDED")
"""What is mutated beside functions; commands stay the engine's own, so that stories can name them."""
_MOST_CALLS = 50_000
"""From one step to the next, refolding after a crash included."""
_FUTURE = __future__.annotations.compiler_flag
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip


class Runaway(BaseException):
    """The core reacts without end; not an Exception, so that nothing on the way looks into it any further."""


class Mutant(Struct, frozen=True):
    """A wrong core and what is wrong with it."""

    name: str
    core: Core


def by_hand(name: str, old: str, new: str) -> Mutant:
    """Return the core with `new` in place of `old`, which stands in its source once."""
    source = {module: inspect.getsource(module) for module in MODULES}
    changed = [module for module, text in source.items() if text.count(old) == 1]
    if len(changed) != 1:
        raise LookupError(f"{name}: {old!r} does not stand exactly once in the core")
    return Mutant(name, _core([_code(ast.parse(text.replace(old, new))) for text in source.values()]))


def systematic() -> Iterator[Mutant]:
    """Yield the core with each single change that a careless hand might make."""
    trees = [ast.parse(inspect.getsource(module)) for module in MODULES]
    codes = [_code(tree) for tree in trees]
    seen: set[str] = set()
    for place, tree in enumerate(trees):
        for name in changes(ast.Module(_kept(tree), [])):
            unique = name
            while unique in seen:
                unique += "'"
            seen.add(unique)
            yield Mutant(unique, _core([*codes[:place], _code(tree), *codes[place + 1 :]]))


def _kept(tree: ast.Module) -> list[ast.stmt]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) or _named(node) in STATES]


def _named(node: ast.stmt) -> str:
    if isinstance(node, ast.ClassDef):
        return node.name
    return node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else ""


def _code(tree: ast.Module) -> CodeType:
    kept = ast.fix_missing_locations(ast.Module(_kept(tree), []))
    code: CodeType = compile(kept, "<mutant>", "exec", _FUTURE, dont_inherit=True)
    return code


def _core(codes: list[CodeType]) -> Core:
    names, stepping = vars(job_state) | vars(job), dict(vars(decider))
    for code, where in zip(codes, (names, names, stepping), strict=True):
        exec(code, where)
    left = [_MOST_CALLS]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*about: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                raise Runaway
            return function(*about)

        return call

    def fresh(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*about: Any) -> Any:
            left[0] = _MOST_CALLS
            return function(*about)

        return call

    counts = (counted(names[name]) for name in ("evolve", "react", "due"))
    mutant = decider.Decider[Any, Any, Any](names["JobState"], names["decide"], *counts)
    answer, take_due, step = (fresh(stepping[name]) for name in ("answer", "take_due", "step"))
    return Core(mutant, answer, take_due, step, stepping["fold"], names)


# Changes, each made in place while it is yielded --------------------------------------------------------------


def changes(tree: ast.Module) -> Iterator[str]:
    """Make each change in turn and yield its name; the tree is as before when the next is asked for."""
    for top in tree.body:
        where = getattr(top, "name", "") or _named(top)
        for parent in ast.walk(top):
            for field, value in ast.iter_fields(parent):
                if isinstance(value, list):
                    yield from _in_list(where, parent, field, value)
                elif isinstance(value, ast.AST):
                    yield from _in_field(where, parent, field, value)


def _in_field(where: str, parent: ast.AST, field: str, child: ast.AST) -> Iterator[str]:
    condition = field in ("test", "guard")
    for new in _instead(child, condition=condition):
        setattr(parent, field, new)
        yield f"{where}: {_shown(child)} -> {_shown(new)}"
    setattr(parent, field, child)


def _in_list(where: str, parent: ast.AST, field: str, children: list[Any]) -> Iterator[str]:
    before = list(children)
    for index, child in enumerate(before):
        if not isinstance(child, ast.AST):
            continue
        for new in _instead(child, condition=field == "ifs"):
            children[index] = new
            yield f"{where}: {_shown(child)} -> {_shown(new)}"
        children[index] = child
        if len(before) > 1 and _droppable(parent, field):
            del children[index]
            yield f"{where}: without {_shown(child)}"
            children[:] = before
    if isinstance(parent, ast.List) and len(before) > 1:
        children.reverse()
        yield f"{where}: {_shown(parent)} reversed"
        children[:] = before


def _droppable(parent: ast.AST, field: str) -> bool:
    return (type(parent), field) in ((ast.List, "elts"), (ast.Match, "cases"))


def _instead(node: ast.AST, *, condition: bool) -> Iterator[ast.AST]:
    """Yield what may stand wrongly in the place of a node."""
    if condition:
        yield ast.UnaryOp(ast.Not(), node)  # type: ignore[arg-type]
    for kind, variants in _VARIANTS:
        if isinstance(node, kind):
            yield from variants(node)


def _compared(node: ast.Compare) -> Iterator[ast.AST]:
    opposite = _OPPOSITE[type(node.ops[0])]
    yield ast.Compare(node.left, [opposite()], node.comparators)


def _joined(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for rest in _without_one(node.values):
        yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _alternatives(node: ast.MatchOr) -> Iterator[ast.AST]:
    for rest in _without_one(node.patterns):
        yield rest[0] if len(rest) == 1 else ast.MatchOr(rest)


def _without_one(nodes: list[Any]) -> list[list[Any]]:
    return [nodes[:index] + nodes[index + 1 :] for index in range(len(nodes))]


def _valued(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    elif node.value in STATUSES:
        others = [status for status in dict.fromkeys(STATUSES) if status != node.value]
        start = list(dict.fromkeys(STATUSES)).index(node.value)
        yield from (ast.Constant((others * 2)[start + shift]) for shift in (0, 4))


def _removed(node: ast.stmt) -> Iterator[ast.AST]:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if not docstring:
        yield ast.Pass()


def _counted(node: ast.AugAssign) -> Iterator[ast.AST]:
    yield ast.AugAssign(node.target, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.value)
    yield ast.If(ast.Constant(value=True), [node, node], [])


def _returned(node: ast.Return) -> Iterator[ast.AST]:
    if node.value is not None and ast.unparse(node.value) != "[]":
        yield ast.Return(ast.List([], ast.Load()))


def _inverted(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


def _shifted(node: ast.BinOp) -> Iterator[ast.AST]:
    if isinstance(node.op, (ast.Add, ast.Sub)):
        yield ast.BinOp(node.left, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.right)


_VARIANTS: list[tuple[Any, Callable[[Any], Iterator[ast.AST]]]] = [
    (ast.Compare, _compared),
    (ast.BoolOp, _joined),
    (ast.MatchOr, _alternatives),
    (ast.Constant, _valued),
    ((ast.Expr, ast.Assign, ast.AugAssign, ast.Raise), _removed),
    (ast.AugAssign, _counted),
    (ast.Return, _returned),
    (ast.UnaryOp, _inverted),
    (ast.BinOp, _shifted),
]


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(node)).split())
    return text if len(text) <= 70 else text[:67] + "…"
