"""What stands between a pipeline's version and a job of it: is it in order, and which executor runs what?"""

from __future__ import annotations

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
from trackbook.runtime.executors import Backends
from trackbook.runtime.history import History
from trackbook.runtime.requests import Warning_

_KEPT = 64


class Prepared(Struct):
    """What all jobs of one content have in common; `content` is there until it is stored, under `sha256`."""

    name: str
    shapes: list[TaskShape]
    tasks: list[Task]
    executor: str
    summary: dict[str, Any]
    warnings: list[Warned]
    content: Content | None
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


class Preparing:
    """Prepares contents for jobs, each version once."""

    def __init__(
        self, blobs: Blobs, history: History, backends: Backends, executors: Mapping[str, Executor]
    ) -> None:
        self._blobs = blobs
        self._history = history
        self._backends = backends
        self._executors = executors
        self._prepared: OrderedDict[tuple[str, int], Prepared] = OrderedDict()

    async def version(self, pipeline: str, version: int) -> Prepared:
        """Return a version made ready; raises Refused for one that isn't there or can't be run."""
        key = (pipeline, version)
        if key not in self._prepared:
            self._prepared[key] = prepared(await self._history.content(pipeline, version))
            while len(self._prepared) > _KEPT:
                self._prepared.popitem(last=False)
        self._prepared.move_to_end(key)
        return self._prepared[key]

    async def store(self, ready: Prepared) -> str:
        """Store the content, unless it was, and return its hash."""
        if ready.content is not None:
            ready.sha256 = await self._blobs.put(definition.canonical(ready.content))
            ready.content = None
        return ready.sha256

    def assign(self, ready: Prepared, asked: str | None) -> Assigned:
        """Say who runs what, `asked` before all; raises Refused, with others, for what an executor can't do."""
        executor, refused, warned = self._backends.judge(ready.tasks, asked, ready.executor)
        if refused:
            raise together(refused)
        shapes = [
            _placed(shape, "" if asked or task.executor == executor else task.executor)
            for shape, task in zip(ready.shapes, ready.tasks, strict=True)
        ]
        return Assigned(executor, shapes, warned, self._limits(executor, shapes))

    def _limits(self, executor: str, shapes: Sequence[TaskShape]) -> list[Warning_]:
        """Return in words what the executors can't give to their sessions, as far as it is known here."""
        names = dict.fromkeys(shape.executor or executor for shape in shapes if not shape.skip)
        limits = [limit for name in names for limit in getattr(self._executors.get(name), "warnings", [])]
        return [Warning_(code="executor_limited", message=limit) for limit in limits]


def prepared(content: Content) -> Prepared:
    """Return a content made ready; raises Refused for one that can't be run."""
    warnings = definition.check(content)
    if blockers := definition.blockers(content):
        raise together(blockers)
    return Prepared(
        name=str(content["name"]),
        shapes=definition.shapes(content),
        tasks=list(definition.tasks(content).values()),
        executor=str(content.get("executor") or ""),
        summary=to_builtins(definition.summary(content)),
        warnings=warnings,
        content=content,
    )


def together(refused: list[Refused]) -> Refused:
    """Return the first refusal, which carries the others."""
    refused[0].others = refused[1:]
    return refused[0]


def _placed(shape: TaskShape, executor: str) -> TaskShape:
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
