"""Preflight before a run, and the sweep for sessions that are left over on executors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import overload

from msgspec.structs import replace

from trackbook.adapters.yaml.load import Loaded, locate
from trackbook.engine import parameters
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused
from trackbook.engine.job import session_name
from trackbook.engine.ports import Backend, Finding, SessionInput, SessionSpec
from trackbook.runtime.commands.pipelines import PipelineCommands, derived_id
from trackbook.runtime.commands.requests import (
    ApplyPipeline,
    CheckJob,
    CommandRequest,
    Found,
    Invalid,
    Reply,
    SweepExecutors,
)
from trackbook.runtime.commands.run_plan import RunPlan, RunPlanner, combine_refusals, make_plan, warnings_of
from trackbook.runtime.executors.registry import Backends
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.session_dispatcher import demands

_WITHIN = 20.0
"""Seconds for each executor to say what it finds."""

_SWEPT_WITHIN = 90.0
"""Seconds for each executor to end what is left over."""

_REPORTED = 200
"""Findings of an executor that are reported one by one."""


class Checks:
    """Handlers of `job.check` and `executor.sweep`, which put nothing on the log."""

    def __init__(self, jobs: Jobs, pipelines: PipelineCommands, planner: RunPlanner, backends: Backends) -> None:
        self._jobs = jobs
        self._pipelines = pipelines
        self._planner = planner
        self._backends = backends

    async def check(self, asked: CommandRequest) -> Reply:
        """`job.check`: validates and plans as a start would, then runs the executors' preflight.

        All that a start would refuse, or that would fail, is found in one pass.
        """
        request = asked.request
        assert isinstance(request, CheckJob)
        parameters.refuse_malformed(request.parameters)
        loaded: Loaded | None = None
        if request.yaml is None and request.definition is None:
            reply, plan = await self._of_version(asked, request)
        else:
            reply, loaded = await self._of_text(asked, request)
            plan = make_plan(loaded.content)
        assigned, refused = self._planner.validate(plan, request.executor)
        warned = [locate(w, loaded.positions) if loaded and w.path else w for w in assigned.warned]
        warned += parameters.unused(request.parameters, plan.tasks)
        reply.warnings = [*(reply.warnings or []), *warnings_of(warned), *assigned.limits]
        job, pipeline = derived_id(asked.command_id), reply.pipeline or ""
        found = await asyncio.gather(
            *(
                self._run_preflight(name, Specs(plan, indexes, job, pipeline, request.parameters))
                for name, indexes in assigned.by_executor().items()
                if name in self._backends and not request.offline
            )
        )
        reply.findings = [finding for findings in found for finding in findings]
        text = None if request.executor else loaded  # an executor that is asked for is in no text
        if refused := [*_with_positions(plan.blockers, loaded), *_with_positions(refused, text)]:
            raise combine_refusals([*refused, *_with_positions(_failures(reply.findings, plan, refused), loaded)])
        reply.ok = all(finding.verdict != "fail" for finding in reply.findings)
        return reply

    async def _of_version(self, asked: CommandRequest, request: CheckJob) -> tuple[Reply, RunPlan]:
        if request.pipeline is None:
            raise Invalid(Refused("invalid_payload", "give `pipeline`, `yaml` or `definition`", "pipeline"))
        pipeline = await self._pipelines.find(request.pipeline)
        if pipeline.state.deleted:
            raise Refused("pipeline_deleted", f"the pipeline {pipeline.state.name} was deleted", "pipeline")
        version = request.version if request.version is not None else pipeline.state.version
        plan = await self._planner.version(pipeline.id, version)
        reply = Reply(
            command_id=asked.command_id,
            status="accepted",
            pipeline=pipeline.id,
            name=plan.name,
            version=version,
            summary=plan.summary,
            warnings=warnings_of(plan.warnings),
        )
        return reply, plan

    async def _of_text(self, asked: CommandRequest, request: CheckJob) -> tuple[Reply, Loaded]:
        if request.version is not None:
            raise Invalid(Refused("invalid_payload", "a `version` has its own text", "version"))
        apply = ApplyPipeline(
            yaml=request.yaml,
            definition=request.definition,
            name=request.name,
            pipeline=request.pipeline,
            dry_run=True,
            code_sha256=request.code_sha256,
        )
        return await self._pipelines.preview(replace(asked, request=apply))

    async def _run_preflight(self, name: str, specs: Specs) -> list[Found]:
        return await _run_bounded(_WITHIN, name, lambda backend: backend.preflight(specs), self._backends)

    async def sweep(self, asked: CommandRequest) -> Reply:
        """`executor.sweep`: lists the sessions that no live attempt owns, and with `end` terminates them."""
        request = asked.request
        assert isinstance(request, SweepExecutors)
        if request.executor is not None and request.executor not in self._backends:
            raise self._backends.unknown(request.executor, "executor")
        names = [request.executor] if request.executor is not None else list(self._backends)
        found = await asyncio.gather(
            *(
                _run_bounded(
                    _SWEPT_WITHIN,
                    name,
                    lambda backend: backend.sweep(
                        lambda: self._jobs.live(backend.name), end=request.end, unknown=request.end
                    ),
                    self._backends,
                )
                for name in names
            )
        )
        findings = [finding for its in found for finding in its]
        ok = all(finding.verdict != "fail" for finding in findings)
        return Reply(command_id=asked.command_id, status="accepted", findings=findings, ok=ok)


async def _run_bounded(
    seconds: float,
    name: str,
    look: Callable[[Backend], Awaitable[list[Finding]]],
    backends: Mapping[str, Backend],
) -> list[Found]:
    """Return what an executor finds; that it can't be asked, or takes too long, is a finding too."""
    try:
        async with asyncio.timeout(seconds):
            found = await look(backends[name])
    except TimeoutError:
        found = [Finding("executor", f"it did not answer within {seconds:.0f} s", "fail")]
    except Exception as problem:
        found = [Finding("executor", f"it could not be asked: {problem or type(problem).__name__}", "fail")]
    return _limit_findings([_finding_view(name, each) for each in found])


def _finding_view(executor: str, finding: Finding) -> Found:
    return Found(
        what=finding.what,
        found=finding.found,
        verdict=finding.verdict,
        hint=finding.hint,
        task=finding.task,
        executor=executor,
    )


def _limit_findings(found: list[Found]) -> list[Found]:
    """Return at most `_REPORTED` findings, failures first, and a count of the rest."""
    if len(found) <= _REPORTED:
        return found
    found = sorted(found, key=lambda each: ("fail", "warn", "ok").index(each.verdict))
    more = f"{len(found) - _REPORTED:,} more findings"
    return [
        *found[:_REPORTED],
        Found(what="executor", found=more, verdict=found[_REPORTED].verdict, executor=found[0].executor),
    ]


def _failures(findings: Sequence[Found], plan: RunPlan, refused: Sequence[Refused]) -> Iterator[Refused]:
    """Yield what would fail besides what is refused already."""
    places = {task.name: f"tasks[{task.index}]" for task in plan.tasks}
    without_image = any(each.code in ("no_image", "image_missing") for each in refused)
    for each in findings:
        known = any(each.found in other.message for other in refused)
        known = known or (without_image and each.what == "image" and "no image" in each.found)
        if each.verdict == "fail" and not known:
            about = f"task {each.task!r}: {each.what}" if each.task else each.what
            place = places.get(each.task, "")
            yield Refused("would_fail", f"{about}: {each.found}", place, hint=each.hint)


def _with_positions(refused: Iterable[Refused], loaded: Loaded | None) -> list[Refused]:
    """Return refusals with their places in the text, if it is one."""
    return [locate(each, loaded.positions) if loaded else each for each in refused]


class Specs(Sequence[SessionSpec]):
    """The sessions that a job would have on one executor, created lazily: local preflights never read them."""

    def __init__(
        self, plan: RunPlan, indexes: Sequence[int], job: str, pipeline: str, parameters: Mapping[str, str]
    ) -> None:
        self._plan = plan
        self._indexes = indexes
        self._job, self._pipeline = job, pipeline
        self._parameters = parameters
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, at: int) -> SessionSpec: ...
    @overload
    def __getitem__(self, at: slice) -> list[SessionSpec]: ...
    def __getitem__(self, at: int | slice) -> SessionSpec | list[SessionSpec]:
        if isinstance(at, slice):
            return [self._spec(self._plan.tasks[index]) for index in self._indexes[at]]
        return self._spec(self._plan.tasks[self._indexes[at]])

    def _spec(self, task: Task) -> SessionSpec:
        self._numbers = self._numbers or {each.name: each.index for each in self._plan.tasks}
        tasks = self._plan.tasks
        inputs = [(name, self._numbers[name]) for name in task.dependencies]
        return SessionSpec(
            session=session_name(self._job, task.index, 1),
            job=self._job,
            pipeline=self._pipeline,
            pipeline_name=self._plan.name,
            task=task.name,
            index=task.index,
            attempt=1,
            command=task.command,
            variables={**task.variables, **self._parameters},
            inputs=[SessionInput(self._job, name, number, 1, tasks[number].skip) for name, number in inputs],
            mounts=list(task.mounts),
            **demands(task),
        )
