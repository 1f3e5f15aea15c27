"""Commands about jobs: start one from a fixed version of a pipeline, cancel one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, convert, to_builtins

from trackbook.engine import definition, job
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Blobs, Executor
from trackbook.events.commit import Input
from trackbook.events.job import TaskShape
from trackbook.runtime.book import Book
from trackbook.runtime.gateway import Asked
from trackbook.runtime.history import History
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.pipelines import Pipelines, derived_id
from trackbook.runtime.requests import CancelJob, Reply, StartJob, Warning_

LOCAL = "local"
"""The executor of this machine's own processes, and the default."""
_PREFIX = 4
_KEPT = 64


class _Prepared(Struct, frozen=True):
    """What all jobs of one version have in common, its content stored under `sha256`."""

    sha256: str
    name: str
    shapes: list[TaskShape]
    executor: str | None
    summary: dict[str, Any]
    warnings: list[Warned]
    ignored_locally: list[Warned]


class JobCommands:
    """Handlers of `job.start` and `job.cancel`."""

    def __init__(
        self,
        book: Book,
        blobs: Blobs,
        jobs: Jobs,
        pipelines: Pipelines,
        history: History,
        executors: Mapping[str, Executor],
    ) -> None:
        self._book = book
        self._blobs = blobs
        self._jobs = jobs
        self._pipelines = pipelines
        self._history = history
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
        executor = request.executor or prepared.executor or LOCAL
        if executor not in self._executors:
            known = ", ".join(sorted(self._executors))
            raise Refused(
                "unknown_executor", f"there is no executor {executor!r}", "executor", hint=f"Known: {known}."
            )
        command = job.StartJob(
            pipeline.id,
            prepared.name,
            version,
            prepared.sha256,
            prepared.shapes,
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
            warnings=[*_warnings(prepared.warnings), *self._ignored(prepared, executor), *self._limits(executor)],
        )
        return await self._submit(asked, reply, command)

    def _limits(self, executor: str) -> list[Warning_]:
        """Return in words what the executor can't give to its sessions, as far as it is known here."""
        limits: list[str] = getattr(self._executors[executor], "warnings", [])
        return [Warning_(code="executor_limited", message=limit) for limit in limits]

    @staticmethod
    def _ignored(prepared: _Prepared, executor: str) -> list[Warning_]:
        return _warnings(prepared.ignored_locally) if executor == LOCAL else []

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
                content.get("executor"),
                to_builtins(definition.summary(content)),
                warnings,
                definition.ignored_locally(content),
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
