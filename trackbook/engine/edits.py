"""The changes of an edit session, each a small function from a content to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from trackbook.engine.content import Content
from trackbook.engine.diff import diff
from trackbook.engine.errors import Refused
from trackbook.engine.names import did_you_mean, forms, task_name_problem
from trackbook.engine.paths import drop, look, put, split
from trackbook.events import pipeline as facts
from trackbook.events.pipeline import AnyPipelineEvent

_VARIABLES = ["environment", "envs"]
_TASK_NAMES = ("task", "after", "dependency")
"""Fields of changes that name a task that is there."""


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class Edit(Struct, frozen=True, tag_field="op", tag=_snake, omit_defaults=True):
    """Base of a change; `op` is its name in snake_case.

    Paths are as in errors: `resources.mem`, `resources["cuda.shares"]`.
    """


class AddTask(Edit, frozen=True):
    """Add a task right after another one ('' = first); at the end by default."""

    task: dict[str, Any]
    after: str | None = None


class ChangeTask(Edit, frozen=True):
    """Give settings of a task a value, by path, and take others away."""

    task: str
    set: dict[str, Any] = field(default_factory=dict)
    unset: list[str] = field(default_factory=list)


class RenameTask(Edit, frozen=True):
    """Give a task another name; its dependents keep depending on it."""

    task: str
    name: str


class MoveTask(Edit, frozen=True):
    """Put a task right after another one in the list ('' = first)."""

    task: str
    after: str = ""


class RemoveTask(Edit, frozen=True):
    """Remove a task; refused while others depend on it, unless `detach` takes those dependencies away too."""

    task: str
    detach: bool = False


class AddDependency(Edit, frozen=True):
    """Let a task depend on another one, as its input number `position` (0 = first); as its last by default."""

    task: str
    dependency: str
    position: int | None = None


class RemoveDependency(Edit, frozen=True):
    """Let a task no longer depend on another one."""

    task: str
    dependency: str


class SetVariable(Edit, frozen=True):
    """Give a variable a value, for all tasks or for one."""

    variable: str
    value: str | int | float | bool
    task: str | None = None


class UnsetVariable(Edit, frozen=True):
    """Take a variable away, from all tasks or from one."""

    variable: str
    task: str | None = None


class Rename(Edit, frozen=True):
    """Give the pipeline another name."""

    name: str


class SetSetting(Edit, frozen=True):
    """Give a setting of the pipeline itself a value: `description`, `ownership.scope` …"""

    path: str
    value: Any


class UnsetSetting(Edit, frozen=True):
    """Take a setting of the pipeline itself away."""

    path: str


Change = (
    AddTask
    | ChangeTask
    | RenameTask
    | MoveTask
    | RemoveTask
    | AddDependency
    | RemoveDependency
    | SetVariable
    | UnsetVariable
    | Rename
    | SetSetting
    | UnsetSetting
)


def apply(content: Content, changes: Sequence[Change]) -> tuple[Content, list[AnyPipelineEvent]]:
    """Return the content after the changes and the events that lead to it; raises Refused, the path in `changes`.

    The difference of two contents can't tell a rename from a removal and an addition, so a rename is an event
    of its own, between the events of what comes before and after it.
    """
    events: list[AnyPipelineEvent] = []
    described = content
    as_stored: list[Change] = []
    for index, given in enumerate(changes):
        change = _as_stored(content, given)
        as_stored.append(change)
        try:
            after = _changed(content, change)
        except Refused as refused:
            refused.path = f"changes[{index}].{refused.path}" if refused.path else f"changes[{index}]"
            raise
        if isinstance(change, RenameTask) and change.name != change.task:
            events += [*diff(described, content), facts.TaskRenamed(change.task, change.name)]
            described = _renamed(content, change)
        content = after
    _refuse_missed(content, as_stored)
    return content, [*events, *diff(described, content)]


def _as_stored(content: Content, change: Change) -> Change:
    """Return the change with tasks named as they are stored: earlier versions kept decomposed accents."""
    named = {key: getattr(change, key, None) for key in _TASK_NAMES}
    otherwise = {
        key: form
        for key, name in named.items()
        if isinstance(name, str) and name not in content["tasks"]
        for form in forms(name)
        if form in content["tasks"]
    }
    return replace(change, **otherwise) if otherwise else change


def _changed(content: Content, change: Change) -> Content:  # noqa: C901, PLR0911  # one case a change
    match change:
        case AddTask():
            return _added(content, change)
        case ChangeTask():
            return _with_task(content, _task_changed(_task(content, change.task), change))
        case RenameTask():
            return _redirected(_renamed(content, change), change)
        case MoveTask():
            return _moved(content, change)
        case RemoveTask():
            return _removed(content, change)
        case AddDependency() | RemoveDependency():
            return _dependency_changed(content, change)
        case SetVariable() | UnsetVariable():
            return _variable_changed(content, change)
        case Rename():
            return {**content, "name": change.name}
        case SetSetting():
            return put(content, _keys(change.path, "path", ("name", "tasks")), change.value)
        case UnsetSetting():
            return _unset(content, _keys(change.path, "path", ("name", "tasks")), "path")


# Tasks ------------------------------------------------------------------------------------------------------


def _task(content: Content, name: str, place: str = "task") -> dict[str, Any]:
    task: dict[str, Any] | None = content["tasks"].get(name)
    if task is None:
        hint = did_you_mean(name, content["tasks"])
        raise Refused("task_not_found", f"there is no task {name!r}", place, hint=hint)
    return task


def _with_task(content: Content, task: dict[str, Any]) -> Content:
    return {**content, "tasks": {**content["tasks"], task["name"]: task}}


def _free(content: Content, name: Any, place: str, before: str = "") -> str:
    """Return a name that no task has, but for the one that was called `before`; raises Refused."""
    if not isinstance(name, str):
        raise Refused("missing_name", "the task has no name", place)
    if problem := task_name_problem(name):
        raise Refused("bad_name", problem, place)
    if any(form in content["tasks"] and form != before for form in forms(name)):
        raise Refused("duplicate_name", f"there is a task {name!r} already", place)
    return name


def _added(content: Content, change: AddTask) -> Content:
    name = _free(content, change.task.get("name"), "task.name")
    added = {**content, "tasks": {**content["tasks"], name: change.task}}
    return added if change.after is None else _moved(added, MoveTask(name, change.after))


def _task_changed(task: dict[str, Any], change: ChangeTask) -> dict[str, Any]:
    for path, value in change.set.items():
        task = put(task, _keys(path, "set", ("name",)), value)
    for path in change.unset:
        task = _unset(task, _keys(path, "unset", ("name",)), "unset")
    return task


def _renamed(content: Content, change: RenameTask) -> Content:
    if change.name == change.task:
        return content
    _task(content, change.task)
    _free(content, change.name, "name", change.task)
    tasks = content["tasks"].items()
    renamed = ({**task, "name": change.name} if name == change.task else task for name, task in tasks)
    return {**content, "tasks": {task["name"]: task for task in renamed}}


def _redirected(content: Content, change: RenameTask) -> Content:
    """Let what depended on the old name depend on the new one."""
    tasks = dict(content["tasks"])
    for name, task in tasks.items():
        dependencies = task.get("dependencies")
        if dependencies and change.task in dependencies:
            now = [change.name if dependency == change.task else dependency for dependency in dependencies]
            tasks[name] = {**task, "dependencies": now}
    return {**content, "tasks": tasks}


def _moved(content: Content, change: MoveTask) -> Content:
    _task(content, change.task)
    order = [name for name in content["tasks"] if name != change.task]
    if change.after:
        _task(content, change.after, "after")
    if change.after == change.task:
        return content
    order.insert(order.index(change.after) + 1 if change.after else 0, change.task)
    return {**content, "tasks": {name: content["tasks"][name] for name in order}}


def _removed(content: Content, change: RemoveTask) -> Content:
    _task(content, change.task)
    tasks = {name: task for name, task in content["tasks"].items() if name != change.task}
    for name, task in tasks.items() if change.detach else ():
        before = task.get("dependencies") or ()
        if change.task in before:
            tasks[name] = {**task, "dependencies": [other for other in before if other != change.task]}
    return {**content, "tasks": tasks}


def _refuse_missed(content: Content, changes: Sequence[Change]) -> None:
    """Refuse a removal after which others still depend on the task, in words about the removal."""
    removed = {change.task: index for index, change in enumerate(changes) if isinstance(change, RemoveTask)}
    missed: dict[str, list[str]] = {}
    for name, task in content["tasks"].items() if removed else ():
        for dependency in task.get("dependencies") or ():
            if dependency in removed and dependency not in content["tasks"]:
                missed.setdefault(dependency, []).append(name)
    refusals = [_needed(name, by, removed[name]) for name, by in missed.items()]
    if refusals:
        refusals[0].others = refusals[1:]
        raise refusals[0]


def _needed(task: str, by: list[str], index: int) -> Refused:
    more = f" and {len(by) - 3} more" if len(by) > 3 else ""
    message = f"{', '.join(by[:3])}{more} {'depends' if len(by) == 1 else 'depend'} on the task {task!r}"
    hint = "Remove those dependencies too: `detach` does."
    return Refused("task_needed", message, f"changes[{index}].task", hint=hint)


# Dependencies, variables, settings --------------------------------------------------------------------------


def _dependency_changed(content: Content, change: AddDependency | RemoveDependency) -> Content:
    task = _task(content, change.task)
    before = list(task.get("dependencies") or ())
    now = [name for name in before if name != change.dependency]
    if isinstance(change, AddDependency):
        _task(content, change.dependency, "dependency")
        position = before.index(change.dependency) if change.dependency in before else len(now)
        position = position if change.position is None else change.position
        now.insert(max(position, 0), change.dependency)
    elif now == before:
        message = f"the task {change.task!r} doesn't depend on {change.dependency!r}"
        raise Refused("dependency_not_found", message, "dependency", hint=did_you_mean(change.dependency, before))
    return _with_task(content, {**task, "dependencies": now})


def _variable_changed(content: Content, change: SetVariable | UnsetVariable) -> Content:
    holder = content if change.task is None else _task(content, change.task)
    if isinstance(change, SetVariable):
        changed = put(holder, [*_VARIABLES, change.variable], change.value)
    else:
        changed = _unset(holder, [*_VARIABLES, change.variable], "variable")
    return changed if change.task is None else _with_task(content, changed)


def _keys(path: str, place: str, own: tuple[str, ...]) -> list[str]:
    """Return the keys of a path; `own` are keys that have changes of their own."""
    try:
        parts = split(path)
    except ValueError as error:
        raise Refused("bad_path", str(error), place) from None
    if not parts or not all(isinstance(part, str) for part in parts):
        raise Refused("bad_path", f"{path!r} isn't a path by keys; a list is changed as a whole", place)
    keys = [str(part) for part in parts]
    if keys[0] in own:
        raise Refused("bad_path", f"{keys[0]!r} is changed by a change of its own", place)
    return keys


def _unset(mapping: dict[str, Any], keys: list[str], place: str) -> dict[str, Any]:
    holder = look(mapping, keys[:-1])
    if not isinstance(holder, dict) or keys[-1] not in holder:
        known = holder if isinstance(holder, dict) else ()
        raise Refused("setting_not_found", f"{keys[-1]!r} isn't set", place, hint=did_you_mean(keys[-1], known))
    return drop(mapping, keys)
