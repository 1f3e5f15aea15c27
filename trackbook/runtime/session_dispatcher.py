"""Dispatches launches and stops from the log to executors, retrying until they are accepted."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.engine import definition
from trackbook.engine.definition import Task
from trackbook.engine.job import Report, ReportTaskStatus, session_name
from trackbook.engine.job_state import JobState
from trackbook.engine.ports import Backend, Blobs, Executor, SessionInput, SessionSpec

_KEPT_DEFINITIONS = 64
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_SHOWN_AFTER = 5
"""Failures in a row from which the task shows why its session is not launched or stopped: after some 3 s."""
_LONGEST_REASON = 500  # characters
_RELEASE_WITHIN = 10.0
"""Seconds that executors get, when the engine stops, to release jobs that have ended."""

log = structlog.get_logger(__name__)


async def _no_report(_executor: str, _job: str, _report: Report) -> None:
    """Drop a report: nobody owns the jobs yet."""


class SessionDispatcher:
    """Hands launches and stops to executors, for each session in order, again until the executor took them.

    `report` takes what a task is to show while its executor does not take them: executor, job, report.
    """

    def __init__(
        self, executors: Mapping[str, Executor], blobs: Blobs, backends: Mapping[str, Backend] | None = None
    ) -> None:
        self.report: Callable[[str, str, Report], Awaitable[None]] = _no_report
        self._executors = executors
        self._backends = backends or {}
        self._releasing = TaskSupervisor()
        self._blobs = blobs
        self._definitions: OrderedDict[str, dict[str, Task]] = OrderedDict()
        self._handing = TaskSupervisor()
        self._dispatching: dict[str, asyncio.Task[None]] = {}
        self._of_job: dict[str, set[str]] = {}

    def launch(self, state: JobState, task: str) -> None:
        """Have the task's session launched, or adopted where it was launched before."""
        self._enqueue(state, task, lambda executor, spec: executor.launch(spec), "launch")

    def stop(self, state: JobState, task: str) -> None:
        """Have the task's session ended."""
        self._enqueue(state, task, lambda executor, spec: executor.stop(spec), "stop")

    def forget(self, state: JobState) -> None:
        """Release the resources of an ended job, here and on its executors."""
        for session in self._of_job.pop(state.id, ()):
            self._dispatching.pop(session, None)
        for name in {executor_of(state, task) for task, each in state.tasks.items() if each.session}:
            if name in self._backends:
                self._releasing.spawn(self._release(self._backends[name], state.id), f"release of {state.id}")

    @staticmethod
    async def _release(backend: Backend, job: str) -> None:
        """Release the job's resources on an executor, retrying until it succeeds; a sweep finds the rest."""
        wait = _FIRST_WAIT
        while True:
            try:
                return await backend.release(job)
            except Exception as problem:
                log.warning("job.not_released", job=job, executor=backend.name, error=repr(problem))
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    async def close(self) -> None:
        """Stop handing on; the next start does it again from the log. What jobs held gets a moment."""
        await self._releasing.close(wait=_RELEASE_WITHIN)
        await self._handing.close()

    def _enqueue(
        self,
        state: JobState,
        task: str,
        how: Callable[[Executor, SessionSpec], Awaitable[None]],
        what: str,
    ) -> None:
        session = state.tasks[task].session
        before = self._dispatching.get(session)
        self._of_job.setdefault(state.id, set()).add(session)
        work = self._until_taken(state, task, how, what, before)
        self._dispatching[session] = self._handing.spawn(work, f"{what} of {session}")

    async def _until_taken(
        self,
        state: JobState,
        task: str,
        how: Callable[[Executor, SessionSpec], Awaitable[None]],
        what: str,
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None and not before.done():
            if what == "stop":
                before.cancel()  # a launch that the executor has not taken yet need not be
            await asyncio.wait([before])
        wait, failures, shown = _FIRST_WAIT, 0, ""
        while True:
            try:
                spec = await self.spec(state, task)
                await how(self._executor(state, task), spec)
            except Exception as problem:
                log.warning("session.not_taken", what=what, job=state.id, task=task, error=repr(problem))
                failures += 1
                if failures >= _SHOWN_AFTER and (cause := _cause(problem)) != shown:
                    status = "PENDING" if what == "launch" else "STOPPING"
                    if await self._show(state, task, status, f"the {what} is tried again: {_reason(problem)}"):
                        shown = cause
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                if shown and what == "launch":
                    await self._show(state, task, "LAUNCHED", "")
                return

    async def _show(self, state: JobState, task: str, status: str, message: str) -> bool:
        """Have the task show a status; returns whether that is on the log."""
        report = ReportTaskStatus(task, state.tasks[task].attempt, status, message[:_LONGEST_REASON])
        try:
            await self.report(executor_of(state, task), state.id, report)
        except Exception as problem:
            log.warning("session.not_shown", job=state.id, task=task, error=repr(problem))
            return False
        return True

    def _executor(self, state: JobState, task: str) -> Executor:
        name = executor_of(state, task)
        if name not in self._executors:
            raise LookupError(f"there is no executor {name!r} here, only {', '.join(sorted(self._executors))}")
        return self._executors[name]

    async def spec(self, state: JobState, task: str) -> SessionSpec:
        """Return all that an executor needs for the task's session, from the job's own fixed definition."""
        created = state.created
        assert created is not None
        instance = state.tasks[task]
        effective = (await self._tasks(created.definition))[task]
        return SessionSpec(
            session=instance.session or session_name(state.id, instance.index, instance.attempt),
            job=state.id,
            pipeline=created.pipeline,
            pipeline_name=created.pipeline_name,
            task=task,
            index=instance.index,
            attempt=instance.attempt,
            command=effective.command,
            variables={**effective.variables, **created.parameters},
            inputs=[self._input(state, dependency) for dependency in instance.shape.dependencies],
            previous=self._previous(state, task),
            mounts=list(effective.mounts),
            virtual_env=created.virtual_env,
            **demands(effective),
        )

    @staticmethod
    def _input(state: JobState, dependency: str) -> SessionInput:
        task = state.tasks[dependency]
        return SessionInput(state.id, dependency, task.index, task.attempt, task.shape.skip)

    @staticmethod
    def _previous(state: JobState, name: str) -> SessionInput | None:
        task = state.tasks[name]
        return SessionInput(state.id, name, task.index, task.attempt - 1) if task.attempt > 1 else None

    async def _tasks(self, sha256: str) -> dict[str, Task]:
        if sha256 not in self._definitions:
            content = msgspec.json.decode(await self._blobs.get(sha256))
            self._definitions[sha256] = definition.tasks(content)
            while len(self._definitions) > _KEPT_DEFINITIONS:
                self._definitions.popitem(last=False)
        self._definitions.move_to_end(sha256)
        return self._definitions[sha256]


def _reason(problem: Exception) -> str:
    """Return in words what an executor raised."""
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.strerror}: {problem.filename}" if problem.filename else problem.strerror
    return str(problem) or repr(problem)


def _cause(problem: Exception) -> str:
    """Return what is the same of a failure that is repeated, though names and numbers in its text may differ."""
    if isinstance(problem, OSError) and problem.errno:
        return f"{type(problem).__name__} {problem.errno}"
    return f"{type(problem).__name__} {re.sub('[0-9]+', '', str(problem))}"


def executor_of(state: JobState, task: str) -> str:
    """Return the name of the executor that runs the task's sessions: its own, or the job's."""
    assert state.created is not None
    return state.tasks[task].shape.executor or state.created.executor


def demands(task: Task) -> dict[str, Any]:
    """Return what a session of the task asks its executor for, as fields of SessionSpec."""
    environment = task.settings["environment"]
    return {
        "image": task.image,
        "resources": task.resources,
        "shmem": task.shmem,
        "cluster_mode": task.cluster_mode,
        "cluster_size": task.cluster_size,
        "project": str(environment.get("project") or ""),
        "scaling_group": str(environment.get("scaling-group") or environment.get("scaling_group") or ""),
        "service": dict(task.settings.get("service") or {}) if task.serving else None,
        "settings": task.settings,
        "code": task.code,
    }
