"""Commands about jobs: start one from a fixed version of a pipeline, cancel, pause and resume one."""

from __future__ import annotations

from trackbook.engine import job, parameters
from trackbook.engine.errors import Refused
from trackbook.runtime.commands.pipelines import PipelineCommands, derived_id
from trackbook.runtime.commands.requests import (
    CancelJob,
    CommandRequest,
    PauseJob,
    Reply,
    ResumeJob,
    StartJob,
)
from trackbook.runtime.commands.run_plan import RunPlanner, warnings_of
from trackbook.runtime.owner import Owner


class JobCommands:
    """Handlers of `job.start`, `job.cancel`, `job.pause` and `job.resume`."""

    def __init__(self, owner: Owner, pipelines: PipelineCommands, planner: RunPlanner) -> None:
        self._owner = owner
        self._pipelines = pipelines
        self._planner = planner

    async def start(self, asked: CommandRequest) -> Reply:
        """`job.start`: the version and its content hash are fixed here; later edits never reach the job."""
        request = asked.request
        assert isinstance(request, StartJob)
        parameters.refuse_malformed(request.parameters)
        pipeline = await self._pipelines.find(request.pipeline)
        if pipeline.state.deleted:
            raise Refused("pipeline_deleted", f"the pipeline {pipeline.state.name} was deleted", "pipeline")
        version = request.version if request.version is not None else pipeline.state.version
        plan = await self._planner.version(pipeline.id, version)
        assigned = self._planner.assign(plan, request.executor)
        unused = parameters.unused(request.parameters, plan.tasks)
        command = job.StartJob(
            pipeline.id,
            plan.name,
            version,
            await self._planner.store(plan),
            assigned.shapes,
            assigned.executor,
            request.parameters,
            request.virtual_env,
        )
        reply = Reply(
            command_id=asked.command_id,
            status="accepted",
            job=derived_id(asked.command_id),
            pipeline=pipeline.id,
            name=plan.name,
            version=version,
            summary=plan.summary,
            warnings=[*warnings_of([*plan.warnings, *assigned.warned, *unused]), *assigned.limits],
        )
        return await self._submit(asked, reply, command)

    async def _submit(self, asked: CommandRequest, reply: Reply, command: job.AnyJobCommand) -> Reply:
        assert reply.job is not None
        answered = await self._owner.submit("job", reply.job, asked.input(command, reply))
        reply.seq = answered.seq if answered.changed else 0
        return reply

    async def cancel(self, asked: CommandRequest) -> Reply:
        """`job.cancel`: accepted once the request is on the log; the job ends when its sessions are gone."""
        request = asked.request
        assert isinstance(request, CancelJob)
        return await self._tell(asked, request.job, job.CancelJob(request.reason))

    async def pause(self, asked: CommandRequest) -> Reply:
        """`job.pause`."""
        request = asked.request
        assert isinstance(request, PauseJob)
        return await self._tell(asked, request.job, job.PauseJob(request.reason))

    async def resume(self, asked: CommandRequest) -> Reply:
        """`job.resume`."""
        request = asked.request
        assert isinstance(request, ResumeJob)
        return await self._tell(asked, request.job, job.ResumeJob())

    async def _tell(self, asked: CommandRequest, ref: str, command: job.AnyJobCommand) -> Reply:
        reply = Reply(command_id=asked.command_id, status="accepted", job=self._find(ref))
        return await self._submit(asked, reply, command)

    def _find(self, ref: str) -> str:
        ids = self._owner.aggregates.ledger.ids("job", ref) if ref else []
        if len(ids) == 1 or ref in ids:
            return ids[0]
        if ids:
            raise Refused("ambiguous_id", f"{ref!r} begins several job ids: {', '.join(ids)}", "job")
        raise Refused(
            "job_not_found", f"there is no job {ref!r}", "job", hint="`trackbook job list` shows what there is."
        )
