"""The variables that a run sets for itself: what they may be called, and whether any task uses them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from trackbook.engine.effective import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.fields import VALUE_LIMIT
from trackbook.engine.names import did_you_mean, set_by_system, variable_name_problem
from trackbook.engine.paths import join

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_LISTED = 20
"""Unused parameters that are named one by one; the rest are counted."""


def refuse_malformed(parameters: Mapping[str, str]) -> None:
    """Raise Refused, with all the others, for names and values that no process can be given."""
    refused = []
    for name, value in parameters.items():
        place = join(("parameters", name))
        if problem := variable_name_problem(name):
            refused.append(Refused("bad_parameter", f"the parameter {name[:60]!r}: {problem}", place))
        elif "\0" in value or len(f"{name}={value}".encode()) > VALUE_LIMIT:
            message = f"the parameter {name!r} has a NUL in its value, or more than 128 KiB"
            refused.append(Refused("bad_parameter", message, place))
    if refused:
        refused[0].others = refused[1:]
        raise refused[0]


def unused(parameters: Mapping[str, str], tasks: Sequence[Task]) -> list[Warned]:
    """Return a warning for each parameter that no task uses, and for each that the system sets itself.

    A parameter is used where it has the name of a variable of the pipeline or of a task, or where its name occurs
    as a word in a command or in a variable's value. Programs may read others: hence a warning only.
    """
    if not parameters:
        return []
    running = [task for task in tasks if not task.skip]
    words, known = _used(running)
    warned = [
        Warned("variable_overridden", f"{name} is set by the system, over the parameter given")
        for name in parameters
        if set_by_system(name)
    ]
    idle = [name for name in parameters if name not in words and not set_by_system(name)]
    for name in idle[:_LISTED]:
        hint = did_you_mean(name, sorted(known))
        message = f"no task mentions the parameter {name!r}; {_lower(hint) if hint else 'is it spelled right?'}"
        warned.append(Warned("unused_parameter", message))
    if len(idle) > _LISTED:
        warned.append(Warned("unused_parameter", f"{len(idle) - _LISTED} more parameters are not mentioned"))
    return warned


def _lower(hint: str) -> str:
    return hint[:1].lower() + hint[1:]


def _used(tasks: Iterable[Task]) -> tuple[set[str], set[str]]:
    """Return all the words that tasks mention, and those of them that are surely variables."""
    words: set[str] = set()
    known: set[str] = set()
    for task in tasks:
        known.update(task.variables)
        for text in (task.command, *task.variables.values()):
            words.update(_WORD.findall(text))
            known.update(_REFERENCE.findall(text))
    return words | known, known
