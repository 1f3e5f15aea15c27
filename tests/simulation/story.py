"""Stories of one job, read aloud: given what happened, when a command arrives, then this happens.

`created("a", "b<a", "c!<a,b")` is a job of task a, of b that depends on a, and of c that is skipped and depends
on both. Tasks are named a, b, c … in their order, so that the index in a session's name follows from the letter.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulation.core import core
from trackbook.engine.decider import Decision
from trackbook.engine.errors import Refused
from trackbook.engine.job import ReportTaskEnded, ReportTaskStarted, StartJob
from trackbook.events import job as facts
from trackbook.events.job import AnyJobEvent, JobCancelRequested, JobFailing, JobStarted, TaskError, TaskShape

JOB = "j1"


def at(seconds: int) -> datetime:
    """Return a time so many seconds into the story."""
    return datetime(2024, 2, 29, tzinfo=UTC) + timedelta(seconds=seconds)


def shapes(*tasks: str) -> list[TaskShape]:
    """Return the graph that is written as `name[!][<dependency,dependency…]`."""
    return [_shape(*task.split("<")) for task in tasks]


def _shape(name: str, dependencies: str = "") -> TaskShape:
    return TaskShape(name.rstrip("!"), dependencies.split(",") if dependencies else [], name.endswith("!"))


def start(*tasks: str) -> StartJob:
    """Return the command that starts such a job."""
    return StartJob("p1", "training", 3, "f00d", shapes(*tasks))


def created(*tasks: str) -> facts.JobCreated:
    """Return the creation of such a job."""
    return facts.JobCreated("p1", "training", 3, "f00d", shapes(*tasks))


def launched(task: str, attempt: int = 1) -> facts.TaskLaunchRequested:
    """Return the launch of a task under its session's name."""
    return facts.TaskLaunchRequested(task, attempt, f"tb-{JOB}-{ord(task) - ord('a')}-{attempt}")


def started(task: str, seconds: int = 1) -> facts.TaskStarted:
    """Return the start of a task's first attempt."""
    return facts.TaskStarted(task, 1, at(seconds))


def stopping(task: str) -> facts.TaskStopRequested:
    """Return the request to end a task's first attempt."""
    return facts.TaskStopRequested(task, 1)


def attempt_succeeded(task: str, **rest: Any) -> facts.AttemptSucceeded:
    """Return the success of a task's first attempt."""
    return facts.AttemptSucceeded(task, 1, at(9), **rest)


def attempt_failed(task: str, error: TaskError) -> facts.AttemptFailed:
    """Return the failure of a task's first attempt."""
    return facts.AttemptFailed(task, 1, at(9), error)


def attempt_cancelled(task: str, **rest: Any) -> facts.AttemptCancelled:
    """Return the confirmed end of a task's first attempt, which was stopped."""
    return facts.AttemptCancelled(task, 1, at(9), **rest)


def succeeded(task: str) -> tuple[AnyJobEvent, AnyJobEvent]:
    """Return the success of a task's first attempt, and with it the task's."""
    return attempt_succeeded(task), facts.TaskSucceeded(task)


def failed(task: str, error: TaskError) -> tuple[AnyJobEvent, AnyJobEvent]:
    """Return the failure of a task's first attempt, and with it the task's."""
    return attempt_failed(task, error), facts.TaskFailed(task)


def cancelled(task: str) -> tuple[AnyJobEvent, AnyJobEvent]:
    """Return the confirmed end of a task that was stopped, and of its first attempt."""
    return attempt_cancelled(task), facts.TaskCancelled(task)


def begins(task: str, attempt: int = 1) -> ReportTaskStarted:
    """Return the report that a task's command began."""
    return ReportTaskStarted(task, attempt, at(1))


def ends(task: str, outcome: Any = "succeeded", **rest: Any) -> ReportTaskEnded:
    """Return the report that a task's first attempt is gone."""
    return ReportTaskEnded(task, 1, outcome, at(9), **rest)


class Instructions:
    """What a job that has a history answers to one command, and what is due then; None: nobody says anything."""

    def __init__(self, history: tuple[AnyJobEvent, ...], command: Any, room: int) -> None:
        self.state = fold(*history)
        self._command = command
        self._room = room
        self.causes: list[int] = []

    def _step(self) -> list[AnyJobEvent]:
        decision = Decision[Any, AnyJobEvent](self.state)
        asked = self._command is not None
        if asked:
            core().answer(core().decider, decision, self._command, 0)
        core().take_due(core().decider, decision, int(asked), self._room)
        self.state, self.causes = decision.state, decision.causes
        return decision.events

    def then(self, *expected: AnyJobEvent) -> Instructions:
        """Assert that exactly these events happen, in this order."""
        assert self._step() == list(expected)
        return self

    def then_nothing(self) -> None:
        """Assert that nothing happens and that the job stays as it was."""
        history = repr(self.state)
        self.then()
        assert repr(self.state) == history

    def refused(self, code: str, *words: str) -> None:
        """Assert that the command is refused under this code, in words that name what was found."""
        before = repr(self.state)
        with pytest.raises(Refused) as refusal:
            self._step()
        assert refusal.value.code == code
        assert all(word in refusal.value.message for word in words)
        assert repr(self.state) == before

    def because(self, *causes: int) -> Instructions:
        """Assert what each event follows from: 0 the command, 1 being due, -(k + 1) the event at k."""
        assert self.causes == list(causes)
        return self

    def leaving(self, job: str | None = None, **tasks: str) -> Instructions:
        """Assert the status of the job and of tasks afterwards."""
        assert job is None or self.state.status == job
        assert {name: self.state.tasks[name].status for name in tasks} == tasks
        return self


class Given:
    """A job and what happened to it."""

    def __init__(self, *history: AnyJobEvent) -> None:
        self._history = history

    def when(self, command: Any, room: int = 256) -> Instructions:
        """Tell the job something; its commit has room for so many events that are due."""
        return Instructions(self._history, command, room)


def given(*history: AnyJobEvent) -> Given:
    """Return a job with this history; none: it was never created."""
    return Given(*history)


def fold(*history: AnyJobEvent) -> Any:
    """Return the state that a history leads to."""
    return core().fold(core().decider, core().decider.initial(JOB), history)


OOM = TaskError("killed for want of memory", None, 9, "epoch 3\nepoch 4")
EXIT_3 = TaskError("exit code 3", 3)
A_FAILED = JobFailing("a")
ON_REQUEST = JobCancelRequested("on request")
RUNNING = (created("a", "b"), launched("a"), launched("b"), started("a"), JobStarted(at(1)), started("b"))
