"""A task as it runs: its own settings over the pipeline's, whichever generation spelled them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from trackbook.engine import amounts
from trackbook.engine.rules import is_serving
from trackbook.events.job import TaskShape

_SIZES = frozenset(("mem", "shmem"))


class Task(Struct, frozen=True):
    """A task with the pipeline's defaults under its own settings.

    `resources` are numbers by slot (`cpu`, `mem` in bytes, `cuda.shares` …), `shmem` bytes; `executor` is ''
    where none is named. `settings` is the task's mapping with the defaults merged, its variables apart.
    `code` is the SHA-256 of the archive of the pipeline's code, '' without one.
    """

    name: str
    index: int
    command: str
    variables: dict[str, str]
    dependencies: list[str]
    skip: bool
    type: str
    serving: bool
    mounts: list[str]
    image: str
    resources: dict[str, int | float]
    shmem: int | None
    cluster_mode: str
    cluster_size: int
    executor: str
    settings: dict[str, Any]
    code: str = ""

    @property
    def shape(self) -> TaskShape:
        """The task's place in the graph."""
        return TaskShape(self.name, self.dependencies, self.skip)


def tasks(content: Mapping[str, Any]) -> dict[str, Task]:
    """Return the tasks of a checked content by name, in their order."""
    listed = content.get("tasks", {}).values()
    return {task["name"]: _task(task, index, content) for index, task in enumerate(listed)}


def shapes(content: Mapping[str, Any]) -> list[TaskShape]:
    """Return the tasks' places in the graph, in the order of the tasks, with the executors that they name."""
    return [
        TaskShape(
            name,
            list(task.get("dependencies") or ()),
            bool(amounts.truth(task.get("skip"))),
            task.get("executor") or "",
        )
        for name, task in content.get("tasks", {}).items()
    ]


def variables(holder: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that a pipeline or a task sets itself, as the text that a process gets."""
    given = _part(holder, "environment").get("envs") or {}
    return {name: as_text(value) for name, value in given.items()}


def as_text(value: Any) -> str:
    """Return a variable's value as text: true and false in YAML's words, nothing for null."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return str(value)


def resources(holder: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the resources that a pipeline or a task asks for itself, as numbers by slot; sizes in bytes."""
    found: dict[str, int | float] = {}
    for slot, value in _slots(_part(holder, "resources")):
        number = amounts.amount(value) if slot not in _SIZES else None
        number = amounts.size(value) if number is None else number
        if number is not None:
            found[slot] = number
    return found


def _slots(given: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yield slots by their names of today: `memory` is `mem`, `cuda: {shares}` is `cuda.shares`."""
    if "memory" in given:
        yield "mem", given["memory"]
    for slot, value in given.items():
        if isinstance(value, dict):
            yield from ((f"{slot}.{unit}", amount) for unit, amount in value.items())
        elif slot != "memory":
            yield slot, value


def _part(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = holder.get(key)
    return part if isinstance(part, dict) else {}


def _task(task: Mapping[str, Any], index: int, pipeline: Mapping[str, Any]) -> Task:
    environment = {**_given(pipeline, "environment"), **_given(task, "environment")}
    environment.pop("envs", None)
    options = {**_given(pipeline, "resource_opts"), **_given(task, "resource_opts")}
    mounts = task["mounts"] if task.get("mounts") is not None else pipeline.get("mounts") or []
    wanted = {**resources(pipeline), **resources(task)}
    return Task(
        name=task["name"],
        index=index,
        command=task.get("command") or "",
        variables={**variables(pipeline), **variables(task)},
        dependencies=list(task.get("dependencies") or ()),
        skip=bool(amounts.truth(task.get("skip"))),
        type=task.get("type") or "",
        serving=is_serving(task),
        mounts=mounts,
        image=environment.get("image") or "",
        resources=wanted,
        shmem=amounts.size(options.get("shmem")),
        cluster_mode=task.get("cluster_mode") or "single-node",
        cluster_size=amounts.whole(task.get("cluster_size")) or 1,
        executor=task.get("executor") or pipeline.get("executor") or "",
        settings={
            **task,
            "environment": environment,
            "resources": wanted,
            "resource_opts": options,
            "mounts": mounts,
        },
        code=pipeline.get("code_sha256") or "",
    )


def _given(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a mapping without what its author left blank, so that a default shows through."""
    return {name: value for name, value in _part(holder, key).items() if value is not None and value != ""}
