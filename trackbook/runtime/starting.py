"""Commands about jobs: start one from a fixed version of a pipeline, cancel one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from trackbook.engine import definition, job
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Blobs, Executor
from trackbook.events.commit import Input
from trackbook.events.job import TaskShape
from trackbook.runtime.book import Book
from trackbook.runtime.executors import Backends
from trackbook.runtime.gateway import Asked
from trackbook.runtime.history import History
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.pipelines import Pipelines, derived_id
from trackbook.runtime.requests import CancelJob, Reply, StartJob, Warning_

_PREFIX = 4
_KEPT = 64


class _Prepared(Struct, frozen=True):
    """What all jobs of one version have in common, its content stored under `sha256`."""

    sha256: str
    name: str
    shapes: list[TaskShape]
    tasks: list[Task]
    executor: str
    summary: dict[str, Any]
    warnings: list[Warned]


class JobCommands:
    """Handlers of `job.start` and `job.cancel`."""

    def __init__(
        self,
        book: Book,
        blobs: Blobs,
        jobs: Jobs,
        pipelines: Pipelines,
        history: History,
        backends: Backends,
        executors: Mapping[str, Executor],
    ) -> None:
        self._book = book
        self._blobs = blobs
        self._jobs = jobs
        self._pipelines = pipelines
        self._history = history
        self._backends = backends
        self._executors = executors
        self._prepared: OrderedDict[tuple[str, int], _Prepared] = OrderedDict()

    async def start(self, asked: Asked) -> Reply:
        """`job.start`: the version and its content hash are fixed here; later edits never reach the job."""
        request = asked.request
        assert isinstance(request, StartJob)
        pipeline = await self._pipelines.find(request.pipeline)
        if pipeline.state.deleted:
            raise Refused("pipeline_deleted", f"the pipeline {pipeline.state.name} was deleted", "pipeline")
        version = request.version if request.version is not None else pipeline.state.version
        prepared = await self._prepare(pipeline.id, version)
        executor, shapes, judged = self._assign(prepared, request.executor)
        command = job.StartJob(
            pipeline.id,
            prepared.name,
            version,
            prepared.sha256,
            shapes,
            executor,
            request.parameters,
        )
        reply = Reply(
            command_id=asked.command_id,
            status="accepted",
            job=derived_id(asked.command_id),
            pipeline=pipeline.id,
            name=prepared.name,
            version=version,
            summary=prepared.summary,
            warnings=[*_warnings(prepared.warnings), *_warnings(judged), *self._limits(executor, shapes)],
        )
        return await self._submit(asked, reply, command)

    def _assign(self, prepared: _Prepared, asked: str | None) -> tuple[str, list[TaskShape], list[Warned]]:
        """Return the job's executor, its tasks with those that they have of their own, and what is left aside.

        Raises Refused for what an executor can't do.
        """
        executor, refused, warned = self._backends.judge(prepared.tasks, asked, prepared.executor)
        if refused:
            refused[0].others = refused[1:]
            raise refused[0]
        own = {} if asked else {task.name: task.executor for task in prepared.tasks}
        shapes = [
            replace(shape, executor=name if (name := own.get(shape.name, "")) != executor else "")
            for shape in prepared.shapes
        ]
        return executor, shapes, warned

    def _limits(self, executor: str, shapes: Sequence[TaskShape]) -> list[Warning_]:
        """Return in words what the executors can't give to their sessions, as far as it is known here."""
        names = dict.fromkeys(shape.executor or executor for shape in shapes if not shape.skip)
        limits = [limit for name in names for limit in getattr(self._executors.get(name), "warnings", [])]
        return [Warning_(code="executor_limited", message=limit) for limit in limits]

    async def _submit(self, asked: Asked, reply: Reply, command: job.AnyJobCommand) -> Reply:
        assert reply.job is not None
        given = Input(asked.actor, command, asked.command_id, asked.correlation, asked.digest, to_builtins(reply))
        try:
            answered = await self._jobs.submit(reply.job, given)
        except Refused:
            aggregate = await self._book.load("job", reply.job)
            known = aggregate.answered(asked.command_id)
            if known is None or known.digest != asked.digest:
                raise
            return convert(known.reply, Reply)  # another engine answered it since the ledger was caught up
        reply.seq = answered.seq if answered.changed else 0
        return reply

    async def _prepare(self, pipeline: str, version: int) -> _Prepared:
        """Check the content and store it under its hash, once for all jobs of a version."""
        key = (pipeline, version)
        if key not in self._prepared:
            content = await self._history.content(pipeline, version)
            warnings = definition.check(content)
            if blockers := definition.blockers(content):
                blockers[0].others = blockers[1:]
                raise blockers[0]
            sha256 = await self._blobs.put(definition.canonical(content))
            self._prepared[key] = _Prepared(
                sha256,
                str(content["name"]),
                definition.shapes(content),
                list(definition.tasks(content).values()),
                str(content.get("executor") or ""),
                to_builtins(definition.summary(content)),
                warnings,
            )
            while len(self._prepared) > _KEPT:
                self._prepared.popitem(last=False)
        self._prepared.move_to_end(key)
        return self._prepared[key]

    async def cancel(self, asked: Asked) -> Reply:
        """`job.cancel`: accepted once the request is on the log; the job ends when its sessions are gone."""
        request = asked.request
        assert isinstance(request, CancelJob)
        found = self._find(request.job)
        reply = Reply(command_id=asked.command_id, status="accepted", job=found)
        return await self._submit(asked, reply, job.CancelJob(request.reason))

    def _find(self, ref: str) -> str:
        ids = self._book.ledger.ids("job", ref) if len(ref) >= _PREFIX else []
        if len(ids) == 1:
            return ids[0]
        if ids:
            raise Refused("ambiguous_id", f"{ref!r} begins several job ids: {', '.join(ids)}", "job")
        raise Refused(
            "job_not_found", f"there is no job {ref!r}", "job", hint="`trackbook job list` shows what there is."
        )


def _warnings(warned: list[Warned]) -> list[Warning_]:
    return [Warning_(code=w.code, message=w.message, path=w.path or None) for w in warned]
