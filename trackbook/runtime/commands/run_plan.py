"""Plans a run of a pipeline's version: validates it, and assigns its tasks to executors."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from trackbook.engine import definition
from trackbook.engine.definition import Content, Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Blobs, Executor
from trackbook.events.job import TaskShape
from trackbook.runtime.commands.requests import Warning_
from trackbook.runtime.executors.registry import Backends
from trackbook.runtime.pipeline_contents import History

_KEPT = 64


class RunPlan(Struct):
    """What all jobs of one content have in common; `content` is there until it is stored, under `sha256`."""

    name: str
    shapes: list[TaskShape]
    tasks: list[Task]
    executor: str
    summary: dict[str, Any]
    warnings: list[Warned]
    content: Content | None
    blockers: list[Refused]
    """What keeps the content from being run."""
    sha256: str = ""


class Assigned(Struct, frozen=True):
    """Who runs what: the job's executor, each task's shape with the one that it has of its own, and warnings."""

    executor: str
    shapes: list[TaskShape]
    warned: list[Warned]
    limits: list[Warning_]

    def by_executor(self) -> dict[str, list[int]]:
        """Return the indexes of the tasks that each executor runs; skipped ones are nobody's."""
        found: dict[str, list[int]] = {}
        for index, shape in enumerate(self.shapes):
            if not shape.skip:
                found.setdefault(shape.executor or self.executor, []).append(index)
        return found


class RunPlanner:
    """Makes the plans of contents, each version's once."""

    def __init__(
        self, blobs: Blobs, history: History, backends: Backends, executors: Mapping[str, Executor]
    ) -> None:
        self._blobs = blobs
        self._history = history
        self._backends = backends
        self._executors = executors
        self._plans: OrderedDict[tuple[str, int], RunPlan] = OrderedDict()

    async def version(self, pipeline: str, version: int) -> RunPlan:
        """Return the plan of a version; raises Refused for one that isn't there."""
        key = (pipeline, version)
        if key not in self._plans:
            self._plans[key] = make_plan(await self._history.content(pipeline, version))
            while len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]

    async def store(self, plan: RunPlan) -> str:
        """Store the content, unless it was, and return its hash."""
        if plan.content is not None:
            plan.sha256 = await self._blobs.put(definition.canonical(plan.content))
            plan.content = None
        return plan.sha256

    def assign(self, plan: RunPlan, asked: str | None) -> Assigned:
        """Say who runs what, `asked` before all; raises Refused, with others, for all that can't be run."""
        assigned, refused = self.validate(plan, asked)
        if refused := [*plan.blockers, *refused]:
            raise combine_refusals(refused)
        return assigned

    def validate(self, plan: RunPlan, asked: str | None) -> tuple[Assigned, list[Refused]]:
        """Say who runs what, `asked` before all, and what an executor can't do of it."""
        executor, refused, warned = self._backends.validate(plan.tasks, asked, plan.executor)
        shapes = [
            _place(shape, "" if asked or task.executor == executor else task.executor)
            for shape, task in zip(plan.shapes, plan.tasks, strict=True)
        ]
        return Assigned(executor, shapes, warned, self._limits(executor, shapes)), refused

    def _limits(self, executor: str, shapes: Sequence[TaskShape]) -> list[Warning_]:
        """Return in words what the executors can't give to their sessions, as far as it is known here."""
        names = dict.fromkeys(shape.executor or executor for shape in shapes if not shape.skip)
        limits = [limit for name in names for limit in getattr(self._executors.get(name), "warnings", [])]
        return [Warning_(code="executor_limited", message=limit) for limit in limits]


def make_plan(content: Content) -> RunPlan:
    """Return the plan of a content, with what keeps it from being run."""
    return RunPlan(
        name=str(content["name"]),
        shapes=definition.shapes(content),
        tasks=list(definition.tasks(content).values()),
        executor=str(content.get("executor") or ""),
        summary=to_builtins(definition.summary(content)),
        warnings=definition.check(content),
        content=content,
        blockers=definition.blockers(content),
    )


def combine_refusals(refused: list[Refused]) -> Refused:
    """Return the first refusal, which carries the others; those given may be used again."""
    first, *others = (dataclasses.replace(each) for each in refused)
    first.others = others
    return first


def _place(shape: TaskShape, executor: str) -> TaskShape:
    return shape if shape.executor == executor else replace(shape, executor=executor)


def warnings_of(warned: Sequence[Warned]) -> list[Warning_]:
    """Return warnings as a reply has them."""
    return [_warning(each) for each in warned]


def _warning(warned: Warned) -> Warning_:
    return Warning_(
        code=warned.code,
        message=warned.message,
        path=warned.path or None,
        line=warned.line,
        column=warned.column,
    )
