"""No loop waits for an event that stays set: such a wait returns at once, and the event loop never runs again."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import trackbook

PACKAGE = Path(trackbook.__file__).parent

SET_FOR_GOOD = frozenset(
    {
        ("projections/write/inbox.py", "_arrived"),  # cleared by whoever takes the last message
        ("projections/write/inbox.py", "_hurry"),  # waited for under a timeout, and only while it is not set
        ("projections/feed.py", "_event"),  # replaced by a new event each time it is set
        ("projections/write/projector.py", "_damage"),  # ends the work that waits for it
        ("projections/database.py", "_may_read"),  # a gate, passed once for each read
        ("adapters/backendai/session/terminator.py", "_hurry"),  # set once, when the executor closes
        ("adapters/container/launch.py", "withdrawn"),  # set once, when the session is stopped
        ("http/transport/request_checks.py", "answered"),  # set once, when the answer to a HEAD request has begun
        ("http/transport/server.py", "stopping"),  # set once, when the server stops
    }
)
"""Events that are waited for outside a loop and not cleared there, and why that is right."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of the package with its path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def events(tree: ast.AST) -> set[str]:
    """Return the names to which a module assigns an asyncio.Event."""
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value
            and "asyncio.Event()" in ast.unparse(node.value)
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {last(name) for target in targets for name in ast.unparse(target).strip("()").split(", ")}
    return found


def last(name: str) -> str:
    """Return the last part of a dotted name."""
    return name.rpartition(".")[2]


def calls(tree: ast.AST, method: str) -> set[str]:
    """Return the names of what a method is called on."""
    return {
        last(ast.unparse(node.func.value))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
    }


def waits(tree: ast.AST) -> set[str]:
    """Return the names of what is waited for, by itself or with a time limit (adapters/execution/back_off.py)."""
    limited = {
        last(ast.unparse(given))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and last(ast.unparse(node.func)) in {"wait", "pause"}
        for given in node.args
    }
    return calls(tree, "wait") | limited


def unsafe_loops(tree: ast.Module) -> list[tuple[int, str]]:
    """Return each loop, by line, that waits for an event and does not clear it, with the event's name."""
    names = events(tree)
    return [
        (loop.lineno, name)
        for loop in ast.walk(tree)
        if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
        for name in sorted(waits(loop) & names - calls(loop, "clear"))
    ]


def test_each_loop_that_waits_for_an_event_clears_it() -> None:
    """A loop that waits for an asyncio.Event clears it inside the loop."""
    found = [f"{path}:{line} {name}" for path, tree in modules() for line, name in unsafe_loops(tree)]

    assert found == []


def test_an_event_waited_for_elsewhere_is_cleared_there_or_known() -> None:
    """A function that waits for an event may be called in a loop: it clears the event, or has its reason here."""
    found = set()
    for path, tree in modules():
        names = events(tree)
        for function in ast.walk(tree):
            if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
                waited = waits(function) & names - calls(function, "clear")
                found |= {(path, name) for name in waited}

    assert found == SET_FOR_GOOD


def test_the_check_finds_what_it_is_for() -> None:
    """The loop that froze the server, which cleared its event once before it began, is found."""
    tree = ast.parse(
        "class Inbox:\n"
        "    def __init__(self):\n"
        "        self._room = asyncio.Event()\n"
        "    async def put(self):\n"
        "        self._room.clear()\n"
        "        while self.full:\n"
        "            await self._room.wait()\n"
    )

    assert unsafe_loops(tree) == [(6, "_room")]


def test_the_check_finds_waits_with_a_time_limit() -> None:
    """An event that cuts a pause short counts as waited for, however the pause is written."""
    tree = ast.parse(
        "class Inbox:\n"
        "    _room = asyncio.Event()\n"
        "    async def put(self):\n"
        "        while self.full:\n"
        "            await wait(self._room, 5)\n"
        "        while self.full:\n"
        "            await self.back_off.pause(self._room)\n"
    )

    assert unsafe_loops(tree) == [(4, "_room"), (6, "_room")]
