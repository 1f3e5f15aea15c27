"""What leads from one content to another, in the fewest granular events; and each event in words.

Where the content before the event is given, the words say the old values as well, and long texts get hunks.
"""

from __future__ import annotations

import difflib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trackbook.engine.content import Content, same
from trackbook.engine.names import printable
from trackbook.events import pipeline as facts
from trackbook.events.pipeline import AnyPipelineEvent

Leaf = tuple[list[str], Any]
"""A path by keys, and the value that it leads to."""

_ABSENT = object()
_VARIABLES = ["environment", "envs"]
_MOST_LINES = 2_000
"""Longer texts get no hunks: to compare them takes more than linear time."""


def diff(old: Content, new: Content) -> list[AnyPipelineEvent]:
    """Return the events that lead from `old` to `new`, none where they are the same.

    A rename of a task looks like a removal and an addition here. Dependencies go before their tasks do.
    """
    old_tasks, new_tasks = old.get("tasks", {}), new.get("tasks", {})
    kept = [(task, new_tasks[name]) for name, task in old_tasks.items() if name in new_tasks]
    changed = [pair for pair in kept if pair[0] is not pair[1]]
    events = _settings(old, new)
    events += [event for pair in changed for event in _dependencies_removed(*pair)]
    events += [facts.TaskRemoved(name) for name in old_tasks if name not in new_tasks]
    events += _order(list(old_tasks), new_tasks)
    events += [event for pair in changed for event in _task_changed(*pair)]
    events += [event for pair in changed for event in _dependencies_added(*pair)]
    return events


# The pipeline's own settings --------------------------------------------------------------------------------


def _settings(old: Content, new: Content) -> list[AnyPipelineEvent]:
    changed, removed = _leaves(_own(old), _own(new), [])
    events: list[AnyPipelineEvent] = []
    if old.get("name") != new.get("name"):
        events.append(facts.PipelineRenamed(new.get("name", "")))
    for path in removed:
        variable = _variable(path)
        events.append(facts.VariableRemoved(variable) if variable else facts.SettingRemoved(path))
    for path, value in changed:
        variable = _variable(path)
        events.append(facts.VariableSet(variable, value) if variable else facts.SettingChanged(path, value))
    return events


def _own(content: Content) -> Content:
    return {key: value for key, value in content.items() if key not in ("name", "tasks")}


def _variable(path: list[str]) -> str | None:
    return path[2] if len(path) == 3 and path[:2] == _VARIABLES else None


def _leaves(old: dict[str, Any], new: dict[str, Any], at: list[str]) -> tuple[list[Leaf], list[list[str]]]:
    """Return what got a value and what is gone; a mapping where none was arises key by key unless it is empty."""
    changed: list[Leaf] = []
    removed = [[*at, key] for key in old if key not in new]
    for key, value in new.items():
        before = old.get(key)
        if key in old and same(before, value):
            continue
        if isinstance(value, dict) and (isinstance(before, dict) or (key not in old and value)):
            inner = _leaves(before if isinstance(before, dict) else {}, value, [*at, key])
            changed += inner[0]
            removed += inner[1]
        else:
            changed.append(([*at, key], value))
    return changed, removed


# Tasks ------------------------------------------------------------------------------------------------------


def _order(old: list[str], new: dict[str, Any]) -> Iterator[AnyPipelineEvent]:
    """Yield additions and moves, first to last: each goes right after the one before it in the new order."""
    rank = {name: index for index, name in enumerate(name for name in old if name in new)}
    resting = _longest_rising([name for name in new if name in rank], rank)
    before = ""
    for name, task in new.items():
        if name not in rank:
            yield facts.TaskAdded(task, before)
        elif name not in resting:
            yield facts.TaskMoved(name, before)
        before = name


def _longest_rising(names: Sequence[str], rank: dict[str, int]) -> set[str]:
    """Return the most names that can rest where they are, by patience sorting: a longest rising run of ranks."""
    tops: list[int] = []
    piles: list[str] = []
    below: dict[str, str | None] = {}
    for name in names:
        pile = bisect_left(tops, rank[name])
        below[name] = piles[pile - 1] if pile else None
        tops[pile : pile + 1] = [rank[name]]
        piles[pile : pile + 1] = [name]
    resting: set[str] = set()
    last = piles[-1] if piles else None
    while last is not None:
        resting.add(last)
        last = below[last]
    return resting


def _task_changed(old: dict[str, Any], new: dict[str, Any]) -> list[AnyPipelineEvent]:
    before, after = _both(old, new)
    if _are_names(before) and not _are_names(after):
        old = {**old, "dependencies": []}  # each was removed by an event of its own
    elif _by_events(before, after):
        old, new = _but_dependencies(old), _but_dependencies(new)
    changed, removed = _leaves(old, new, [])
    return [facts.TaskChanged(new["name"], changed, removed)] if changed or removed else []


def _both(old: dict[str, Any], new: dict[str, Any]) -> tuple[Any, Any]:
    return old.get("dependencies"), new.get("dependencies")


def _but_dependencies(task: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key != "dependencies"}


def _are_names(dependencies: Any) -> bool:
    return (
        isinstance(dependencies, list)
        and all(isinstance(name, str) for name in dependencies)
        and len(set(dependencies)) == len(dependencies)
    )


def _by_events(before: Any, after: Any) -> bool:
    """Whether events about single dependencies lead from one list to the other."""
    return _are_names(after) and (_are_names(before) or (before is None and bool(after)))


def _dependencies_removed(old: dict[str, Any], new: dict[str, Any]) -> list[AnyPipelineEvent]:
    before, after = _both(old, new)
    if not _are_names(before) or before == after:
        return []
    resting = _resting(before, after) if _are_names(after) else set()
    return [facts.DependencyRemoved(new["name"], name) for name in before if name not in resting]


def _dependencies_added(old: dict[str, Any], new: dict[str, Any]) -> list[AnyPipelineEvent]:
    before, after = _both(old, new)
    if before == after or not _by_events(before, after):
        return []
    resting = _resting(before or [], after)
    added = ((position, name) for position, name in enumerate(after) if name not in resting)
    return [facts.DependencyAdded(new["name"], name, position) for position, name in added]


def _resting(before: list[str], after: list[str]) -> set[str]:
    rank = {name: index for index, name in enumerate(before)}
    return _longest_rising([name for name in after if name in rank], rank)


# In words ---------------------------------------------------------------------------------------------------


def describe(event: AnyPipelineEvent, old: Content | None = None) -> str:
    """Return the event in one line; with the content before it, `1 → 2` instead of `2`."""
    return printable(_described(event, old))


def hunks(event: AnyPipelineEvent, old: Content) -> list[str]:
    """Return what changed in texts of several lines, such as commands, as lines of a unified diff."""
    lines: list[str] = []
    for path, after in _set(event):
        before = _value(old, path)
        if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
            one, other, name = before.splitlines(), after.splitlines(), _dotted(path)
            if max(len(one), len(other)) <= _MOST_LINES:
                found = difflib.unified_diff(one, other, name, name, n=2, lineterm="")
                lines += [printable(line) for line in found]
    return lines


def _described(event: AnyPipelineEvent, old: Content | None) -> str:
    match event:
        case facts.TaskAdded():
            return f"task {event.task['name']} added{_depending(event.task.get('dependencies'))}"
        case facts.TaskChanged():
            at = ["tasks", event.task]
            changes = [f"{_dotted(path)} {_change(old, [*at, *path], value)}" for path, value in event.set]
            changes += [f"{_dotted(path)} removed{_was(old, [*at, *path])}" for path in event.removed]
            return f"task {event.task}: {', '.join(changes)}"
        case facts.SettingChanged(["code_sha256"], str() as sha256):
            before = _value(old, event.path)
            return f"code: {f'{before[:12]} → ' if isinstance(before, str) else ''}{sha256[:12]}"
        case facts.VariableSet() | facts.SettingChanged():
            ((path, value),) = _set(event)
            return f"{_name(event)} {_change(old, path, value)}"
        case facts.VariableRemoved() | facts.SettingRemoved():
            path = event.path if isinstance(event, facts.SettingRemoved) else [*_VARIABLES, event.variable]
            return f"{_name(event)} removed{_was(old, path)}"
        case _:
            return _IN_WORDS[type(event)](event)


def _name(event: facts.VariableSet | facts.VariableRemoved | facts.SettingChanged | facts.SettingRemoved) -> str:
    if isinstance(event, facts.VariableSet | facts.VariableRemoved):
        return f"variable {event.variable}"
    return _dotted(event.path)


def _set(event: AnyPipelineEvent) -> list[Leaf]:
    """Return the values that the event sets, with their paths in the content."""
    match event:
        case facts.TaskChanged():
            return [(["tasks", event.task, *path], value) for path, value in event.set]
        case facts.VariableSet():
            return [([*_VARIABLES, event.variable], event.value)]
        case facts.SettingChanged():
            return [(event.path, event.value)]
        case _:
            return []


def _value(content: Content | None, path: list[str]) -> Any:
    """Return what a path leads to, `_ABSENT` where it leads nowhere."""
    found: Any = content
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return _ABSENT
        found = found[key]
    return found


def _change(old: Content | None, path: list[str], value: Any) -> str:
    before = _value(old, path)
    return _shorten(value) if before is _ABSENT else f"{_shorten(before)} → {_shorten(value)}"


def _was(old: Content | None, path: list[str]) -> str:
    before = _value(old, path)
    return "" if before is _ABSENT else f" (was {_shorten(before)})"


_IN_WORDS: dict[type[AnyPipelineEvent], Callable[[Any], str]] = {
    facts.PipelineCreated: lambda event: f"pipeline {event.name} created",
    facts.PipelineRenamed: lambda event: f"pipeline renamed to {event.name}",
    facts.PipelineRestored: lambda event: f"back to version {event.version}",
    facts.PipelineDeleted: lambda event: "pipeline deleted",  # noqa: ARG005
    facts.TaskRenamed: lambda event: f"task {event.task} renamed to {event.name}",
    facts.TaskMoved: lambda event: f"task {event.task} moved {_where(event.after)}",
    facts.TaskRemoved: lambda event: f"task {event.task} removed",
    facts.DependencyAdded: lambda event: (
        f"task {event.task} depends on {event.dependency} (input {event.position + 1})"
    ),
    facts.DependencyRemoved: lambda event: f"task {event.task} no longer depends on {event.dependency}",
}


def _depending(dependencies: Any) -> str:
    if not dependencies or not isinstance(dependencies, list):
        return ""
    more = f" and {len(dependencies) - 5} more" if len(dependencies) > 5 else ""
    return f", depends on {', '.join(map(str, dependencies[:5]))}{more}"


def _where(after: str) -> str:
    return f"after {after}" if after else "to the front"


def _dotted(path: list[str]) -> str:
    return ".".join(path)


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    first, *more = text.strip().split("\n")
    first = first if len(first) <= 60 else f"{first[:59]}…"
    return f"{first} … ({len(more) + 1} lines)" if more else first
