"""A launch or stop that its executor does not take: the task shows why, and the log gets no event per try."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conditions import holds
from office import CHAIN, Office, event_types, opened, start_job

from trackbook.engine.ports import SessionSpec
from trackbook.runtime import session_dispatcher
from trackbook.testing.executor import Play, ScriptedExecutor

TRIES = 20


class Failing(ScriptedExecutor):
    """Raises what it is told to; counts the tries."""

    def __init__(self) -> None:
        super().__init__(lambda _: Play(hold=True))
        self.launch_problem: Exception | None = None
        self.stop_problem: Exception | None = None
        self.tries = 0

    async def launch(self, spec: SessionSpec) -> None:
        """Launch, unless there is a problem."""
        self.tries += 1
        if self.launch_problem:
            raise self.launch_problem
        await super().launch(spec)

    async def stop(self, spec: SessionSpec) -> None:
        """Stop, unless there is a problem."""
        self.tries += 1
        if self.stop_problem:
            raise self.stop_problem
        await super().stop(spec)


@pytest.fixture
async def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    """An engine that tries again at once, with an executor that fails."""
    monkeypatch.setattr(session_dispatcher, "_FIRST_WAIT", 0.0)
    office = await opened(tmp_path, played={"local": Failing()})
    yield office
    await office.close()


def failing(office: Office) -> Failing:
    """Return the office's executor."""
    assert isinstance(office.executor, Failing)
    return office.executor


async def shown(office: Office, job: str) -> tuple[str, str]:
    """Return status and message of the first task."""
    task = (await office.aggregates.load("job", job)).state.tasks["first"]
    return task.executor_status, task.executor_message


async def until_shown(office: Office, job: str, status: str, message: str) -> None:
    """Wait until the first task shows this."""
    async with asyncio.timeout(60):
        while await shown(office, job) != (status, message):  # noqa: ASYNC110 - each turn of the loop may tell
            await asyncio.sleep(0)


async def more_tries(office: Office) -> None:
    """Wait for some more tries."""
    before = failing(office).tries
    await holds(lambda: failing(office).tries > before + TRIES)


def statuses(office: Office, job: str) -> int:
    """Count the status events of a job."""
    return sum(types.count("TaskStatusReported") for types in event_types(office, job))


async def test_a_launch_that_fails_for_ever_is_shown_once_for_each_cause(office: Office) -> None:
    """The task says why; the same cause again is no event, another one is, and its end."""
    executor = failing(office)
    executor.launch_problem = OSError(errno.EACCES, "Permission denied", "/data/sessions/a1")
    job = await start_job(office, CHAIN)

    await until_shown(office, job, "PENDING", "the launch is tried again: Permission denied: /data/sessions/a1")
    executor.launch_problem = OSError(errno.EACCES, "Permission denied", "/data/sessions/b2")
    await more_tries(office)
    assert statuses(office, job) == 1

    executor.launch_problem = LookupError("there is no executor 'gpu' here")
    await until_shown(office, job, "PENDING", "the launch is tried again: there is no executor 'gpu' here")

    executor.launch_problem = None
    await until_shown(office, job, "LAUNCHED", "")
    assert statuses(office, job) == 3


async def test_a_stop_that_fails_is_shown(office: Office) -> None:
    """A job that does not end though it was cancelled says what keeps it from that."""
    executor = failing(office)
    job = await start_job(office, CHAIN)
    await holds(lambda: executor.launches)
    executor.stop_problem = RuntimeError("the agent is away")
    await office.must("job.cancel", job=job)

    await until_shown(office, job, "STOPPING", "the stop is tried again: the agent is away")

    executor.stop_problem = None
    assert (await office.ended(job)).state.status == "cancelled"
    assert statuses(office, job) == 1


async def test_what_fails_for_a_moment_is_not_shown(office: Office) -> None:
    """A launch that is taken at the second try leaves no event."""
    executor = failing(office)
    executor.launch_problem = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    job = await start_job(office, CHAIN)
    await holds(lambda: executor.tries)
    executor.launch_problem = None
    await holds(lambda: executor.launches)

    assert statuses(office, job) == 0


async def test_a_reason_that_can_t_be_stored_keeps_no_launch_from_being_tried(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk fails both; the launch is tried again, and the reason is stored once there is room."""
    executor = failing(office)
    report = office.sessions.report

    async def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(office.sessions, "report", refuse)
    executor.launch_problem = OSError(errno.ENOSPC, "No space left on device")
    job = await start_job(office, CHAIN)
    await more_tries(office)

    monkeypatch.setattr(office.sessions, "report", report)

    await until_shown(office, job, "PENDING", "the launch is tried again: No space left on device")
