"""The content of a pipeline: a plain mapping spelled as it came, its tasks by name in their order.

As a *document* (YAML, JSON from outside) the tasks are a list; as *content* a mapping from name to task, the name
kept inside. Contents are shared and never changed in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from trackbook.engine import rules
from trackbook.engine.names import normal

Content = dict[str, Any]

_encode = msgspec.json.encode


def from_mapping(document: Mapping[str, Any]) -> Content:
    """Return a document as content; raises Refused with every problem where its tasks can't be distinguished.

    Tasks are taken as a list, or as a mapping by name, as content itself has them. `check` says whether the
    content will do.
    """
    listed = document.get("tasks")
    if isinstance(listed, dict):
        listed = [_named(name, task) for name, task in listed.items()]
    document = normalised({**document, "tasks": [] if listed is None else listed})
    tasks = document["tasks"]
    if not isinstance(tasks, list) or len(_names(tasks)) != len(tasks):
        rules.examine({**document, "tasks": tasks}).refuse()
        raise AssertionError("the rules refuse tasks that can't be distinguished")
    return {**document, "tasks": {task["name"]: task for task in tasks}}


def normalised(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document whose names of the pipeline, its tasks and their dependencies are in normal form."""
    named = _normal_name(document)
    tasks = named.get("tasks")
    if isinstance(tasks, list):
        named["tasks"] = [normal_task(task) for task in tasks]
    return named


def normal_task(task: Any) -> Any:
    """Return a task with its name and those of its dependencies in normal form."""
    if not isinstance(task, dict):
        return task
    named = _normal_name(task)
    if isinstance(dependencies := named.get("dependencies"), list):
        named["dependencies"] = [normal(name) if isinstance(name, str) else name for name in dependencies]
    return named


def _normal_name(document: Mapping[str, Any]) -> dict[str, Any]:
    name = document.get("name")
    return {**document, "name": normal(name)} if isinstance(name, str) else {**document}


def _named(name: str, task: Any) -> Any:
    return {"name": name, **task} if isinstance(task, dict) else task


def _names(tasks: list[Any]) -> set[str]:
    names = (task.get("name") if isinstance(task, dict) else None for task in tasks)
    return {name for name in names if isinstance(name, str)}


def to_document(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return content as a document, its tasks a list."""
    return {**content, "tasks": list(content.get("tasks", {}).values())}


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return the content as JSON, keys sorted, tasks in their order: equal bytes mean equal content."""
    tasks = {name: _raw(task) for name, task in content.get("tasks", {}).items()}
    return _encode({key: tasks if key == "tasks" else _raw(content[key]) for key in sorted({*content, "tasks"})})


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encode(value, order="sorted"))


def content_hash(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical form in hex."""
    return hashlib.sha256(canonical(content)).hexdigest()


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are one and the same in the canonical form: 1, 1.0 and true are three values."""
    if one is other:
        return True
    if one != other:
        return False
    return isinstance(one, str) or _encode(one, order="sorted") == _encode(other, order="sorted")
