"""The failpoints that the code has, found in its source, and the processes that pass them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import trackbook
from kill.world import Topology, World

_CALL = re.compile(r"\bfailpoint\(\"([a-z_.]+)\"\)")
_LAUNCHERS_CALL = re.compile(r"self\._point\(\"([a-z_]+)\"\)")
_FOUR = {
    "engine": "engine", "append": "engine", "blob": "engine", "exec": "engine", "projection": "web",
    "broker": "broker",
    "executor": "executor", "worker": "executor", "launcher": "executor",
}  # fmt: skip
"""The process that passes a point, by the first word of its name, where each role has its own."""
_APART = ("exec", "worker")
"""Points of what lies between an engine and an executor in different processes."""


ONCE = ("broker.",)
"""Points that a process passes once, at its start."""


def in_code() -> set[str]:
    """Return the name of every failpoint."""
    found: set[str] = set()
    for path in Path(trackbook.__file__).parent.rglob("*.py"):
        text = path.read_text()
        found.update(_CALL.findall(text))
        found.update(f"launcher.{name}" for name in _LAUNCHERS_CALL.findall(text))
    return found


def by_process(topology: Topology) -> dict[str, str]:
    """Return the points that a topology passes, each with the process that does."""
    points = {name: name.partition(".")[0] for name in sorted(in_code())}
    if topology == "one":
        return {name: "up" for name, first in points.items() if first not in _APART}
    return {name: _FOUR[first] for name, first in points.items()}


def passed(world: World) -> Counter[str]:
    """Return how often each point was passed in a world."""
    return Counter(world.hits.read_text().split()) if world.hits.exists() else Counter()
