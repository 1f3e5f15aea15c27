"""From a launch on the log to the executor that runs it: specs, and handing them on until they are taken."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog

from trackbook.engine import definition
from trackbook.engine.definition import Task
from trackbook.engine.job import JobState, session_name
from trackbook.engine.ports import Blobs, Executor, SessionInput, SessionSpec

_KEPT_DEFINITIONS = 64
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0

log = structlog.get_logger(__name__)


class Sessions:
    """Hands launches and stops to executors, for each session in order, again until the executor took them."""

    def __init__(self, executors: Mapping[str, Executor], blobs: Blobs) -> None:
        self._executors = executors
        self._blobs = blobs
        self._definitions: OrderedDict[str, dict[str, Task]] = OrderedDict()
        self._handing_on: dict[str, asyncio.Task[None]] = {}
        self._of_job: dict[str, set[str]] = {}

    def launch(self, state: JobState, task: str) -> None:
        """Have the task's session launched, or adopted where it was launched before."""
        self._hand_on(state, task, lambda executor, spec: executor.launch(spec), "launch")

    def stop(self, state: JobState, task: str) -> None:
        """Have the task's session ended."""
        self._hand_on(state, task, lambda executor, spec: executor.stop(spec), "stop")

    def forget(self, job: str) -> None:
        """Let go of a job that has ended."""
        for session in self._of_job.pop(job, ()):
            self._handing_on.pop(session, None)

    async def close(self) -> None:
        """Stop handing on; the next start does it again from the log."""
        for task in self._handing_on.values():
            task.cancel()
        await asyncio.gather(*self._handing_on.values(), return_exceptions=True)

    def _hand_on(
        self,
        state: JobState,
        task: str,
        how: Callable[[Executor, SessionSpec], Awaitable[None]],
        what: str,
    ) -> None:
        session = state.tasks[task].session
        before = self._handing_on.get(session)
        self._of_job.setdefault(state.id, set()).add(session)
        self._handing_on[session] = asyncio.create_task(self._until_taken(state, task, how, what, before))

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
        wait = _FIRST_WAIT
        while True:
            try:
                spec = await self.spec(state, task)
                await how(self._executor(state), spec)
            except Exception as problem:
                log.warning("session.not_taken", what=what, job=state.id, task=task, error=repr(problem))
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                return

    def _executor(self, state: JobState) -> Executor:
        assert state.created is not None
        name = state.created.executor
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
            mounts=list(effective.mounts),
            settings=effective.settings,
        )

    @staticmethod
    def _input(state: JobState, dependency: str) -> SessionInput:
        task = state.tasks[dependency]
        return SessionInput(dependency, task.index, task.shape.skip)

    async def _tasks(self, sha256: str) -> dict[str, Task]:
        if sha256 not in self._definitions:
            content = msgspec.json.decode(await self._blobs.get(sha256))
            self._definitions[sha256] = definition.tasks(content)
            while len(self._definitions) > _KEPT_DEFINITIONS:
                self._definitions.popitem(last=False)
        self._definitions.move_to_end(sha256)
        return self._definitions[sha256]
