"""What must hold for a job, kept by a bookkeeper that shares no logic with the core.

It knows the graph as it was asked for, the sessions as they really were, and it hears every stored event once.
Where the core counts, it keeps sets. The invariants are numbered as the project's design numbers them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from simulation.causes import FROM_INPUT, REACTIONS, agrees
from trackbook.events import job as facts
from trackbook.events.job import TaskShape


class Violation(AssertionError):
    """An invariant does not hold."""


class Real(Protocol):
    """A session as it really is, in or out of the engine's sight."""

    running: bool
    outcome: str | None


class Oracle:
    """One job, event by event."""

    def __init__(self, job: str, tasks: Sequence[TaskShape], sessions: dict[str, Any] | None = None) -> None:
        self.job = job
        self._asked = list(tasks)
        self._sessions = sessions
        self._missing = {task.name: set(task.dependencies) for task in tasks}
        self._followers: dict[str, list[str]] = {task.name: [] for task in tasks}
        self._skipped = {task.name for task in tasks if task.skip}
        for task in tasks:
            for dependency in dict.fromkeys(task.dependencies):
                self._followers[dependency].append(task.name)
        self.status = {task.name: "pending" for task in tasks}
        self.ready: dict[str, None] = {}
        self.live: dict[str, tuple[int, str]] = {}
        self.stopping: set[str] = set()
        self.done: set[str] = set()
        self.began: set[str] = set()
        self.started = self.paused = False
        self.words: dict[str, str] = {}
        self.state = "absent"
        self.gone: dict[str, Any] = {}
        self.failure: facts.AttemptFailed | None = None
        self.cancel: facts.JobCancelRequested | None = None
        self.ending = ""
        self.ended = False

    def fail(self, what: str) -> NoReturn:
        """Raise the violation."""
        raise Violation(f"{self.job}: {what}")

    # What happens --------------------------------------------------------------------------------------------

    def commit(self, inputs: Sequence[Any], events: Sequence[Any], causes: Sequence[int], limit: int) -> None:
        """Take a stored commit in, and check what must hold after it."""
        if not events:
            self.fail("a commit without events")
        self._check_causes(inputs, events, causes)
        for event in events:
            if self.ended:
                self.fail(f"I8: {event} after the terminal event")
            _HEAR[type(event)](self, event)
        self._check_settled()
        if self.gone:
            self.fail(f"attempts ended and their tasks did not: {self.gone}")
        self._check_due(inputs, causes, limit)
        self._check_faithful(inputs, events, causes)

    def changes(self, given: Any) -> bool:
        """Return whether a job that stands as it does must change by this input."""
        kind = type(given).__name__
        if not kind.startswith("Report"):
            going = self.state != "absent" and not self.ended and not self.ending
            waits = {
                "StartJob": self.state == "absent",
                "PauseJob": going and not self.paused,
                "ResumeJob": going and self.paused,
            }
            return waits.get(kind, going)
        if self.live.get(given.task, (0,))[0] != given.attempt or given.task not in self.live:
            return False
        if kind == "ReportTaskStarted":
            return self.status[given.task] == "launching"
        return kind == "ReportTaskEnded" or self.words.get(given.task) != given.status

    def _check_faithful(self, inputs: Sequence[Any], events: Sequence[Any], causes: Sequence[int]) -> None:
        for event, cause in zip(events, causes, strict=True):
            if cause >= 0 and not agrees(event, inputs[cause]):
                self.fail(f"{event} is not what was reported: {inputs[cause]}")
        for given in inputs:
            if getattr(given, "started_at", None) and given.task not in self.began:
                self.fail(f"{given.task} began, and its start is not reported")

    def _check_causes(self, inputs: Sequence[Any], events: Sequence[Any], causes: Sequence[int]) -> None:
        if len(causes) != len(events):
            self.fail("not one cause an event")
        answered: list[int] = []
        roots: list[int] = []
        for index, cause in enumerate(causes):
            event = type(events[index])
            if cause < 0:
                before = -cause - 1
                if before >= index or type(events[before]) not in REACTIONS.get(event, ()):
                    self.fail(f"{event.__name__} at {index} follows from {cause}")
                roots.append(roots[before])
            else:
                answers = FROM_INPUT.get(event, "nothing")
                if cause >= len(inputs) or not type(inputs[cause]).__name__.startswith(answers):
                    self.fail(f"{event.__name__} answers input {cause}")
                answered.append(cause)
                roots.append(cause)
        if roots != sorted(roots) or set(answered) != set(range(len(inputs))):
            self.fail(f"inputs are answered out of order, or not at all: {causes}")

    def _check_settled(self) -> None:
        if self.ending and len(self.stopping) != len(self.live):
            self.fail("I6: the job is to end, and something live was not asked to stop")
        if self.began and not self.started and not self.ending:
            self.fail("a task began, and the job has not")
        if not self.ended and not self.live and not self.ready:
            self.fail("I7: nothing is live or to be launched, and the job has not ended")

    def _check_due(self, inputs: Sequence[Any], causes: Sequence[int], limit: int) -> None:
        """Check that the commit adds what is due after all else, as much of it as it has room for."""
        if None in inputs[:-1]:
            self.fail("what was due was taken before an input was answered")
        added = len(causes) - causes.index(len(inputs) - 1) if inputs[-1] is None else 0
        if sum(cause == len(inputs) - 1 for cause in causes[len(causes) - added :]) > limit:
            self.fail(f"more is launched or skipped in a commit than the {limit} that are allowed")
        if self.ready and not self.paused and added < limit:
            self.fail(f"{list(self.ready)} could have been launched")

    # What each event may be ----------------------------------------------------------------------------------

    def _created(self, event: facts.JobCreated) -> None:
        if self.state != "absent" or event.tasks != self._asked:
            self.fail("created twice, or not as it was asked for")
        self.state = "pending"
        for task in event.tasks:
            if not task.dependencies:
                self._make_ready(task.name)

    def _make_ready(self, task: str) -> None:
        self.status[task] = "ready"
        self.ready[task] = None

    def _job_started(self, _event: facts.JobStarted) -> None:
        if self.started or self.ending or not self.began:
            self.fail("started twice, or with no task started")
        self.started = True
        self.state = "paused" if self.paused else "running"

    def _pause(self, event: facts.JobPaused) -> None:
        if self.paused or self.ending:
            self.fail(f"{event} a second time, or after a cancel")
        self.paused, self.state = True, "paused"

    def _resume(self, event: facts.JobResumed) -> None:
        if not self.paused or self.ending:
            self.fail(f"{event} of a job that is not paused")
        self.paused, self.state = False, "running" if self.started else "pending"

    def _may_begin(self, event: Any) -> None:
        if self.ending or self.failure:
            self.fail(f"I6: {event} after a cancel or a failure")
        if self.paused:
            self.fail(f"{event} while the job is paused")
        if self._missing[event.task] or event.task not in self.ready:
            self.fail(f"I6: {event} before {self._missing[event.task]} succeeded, or not for the first time")
        if (event.task in self._skipped) is not isinstance(event, facts.TaskSkipped):
            self.fail(f"{event}, and the task is {'' if event.task in self._skipped else 'not '}to be skipped")
        del self.ready[event.task]

    def _launched(self, event: facts.TaskLaunchRequested) -> None:
        self._may_begin(event)
        if event.attempt != 1 or not event.session or (self._sessions and event.session in self._sessions):
            self.fail(f"I4: {event} is not the first launch")
        self.live[event.task] = (event.attempt, event.session)
        self.status[event.task] = "launching"

    def _skip(self, event: facts.TaskSkipped) -> None:
        self._may_begin(event)
        self._done(event.task, "skipped")

    def _done(self, task: str, status: str) -> None:
        self.status[task] = status
        self.done.add(task)
        for follower in self._followers[task]:
            self._missing[follower].discard(task)
            if not self._missing[follower] and self.status[follower] == "pending":
                self._make_ready(follower)

    def _must_live(self, event: Any) -> str:
        attempt, session = self.live.get(event.task, (0, ""))
        if attempt != event.attempt or not session:
            self.fail(f"I4, I8: {event} for an attempt that is not live")
        return session

    def _started(self, event: facts.TaskStarted) -> None:
        session = self._must_live(event)
        if self.status[event.task] != "launching":
            self.fail(f"{event} a second time")
        if self._sessions is not None and not self._sessions[session].began:
            self.fail(f"{event}, and its command never began")
        self.status[event.task] = "running"
        self.began.add(event.task)

    def _status(self, event: facts.TaskStatusReported) -> None:
        self._must_live(event)
        if self.words.get(event.task) == event.status:
            self.fail(f"{event} a second time in a row")
        self.words[event.task] = event.status

    def _stop(self, event: facts.TaskStopRequested) -> None:
        self._must_live(event)
        if not self.ending or event.task in self.stopping:
            self.fail(f"{event} without a reason, or twice")
        self.stopping.add(event.task)

    def _attempt_ended(self, event: Any) -> None:
        session = self._must_live(event)
        if self._sessions is not None:
            real = self._sessions[session]
            succeeded = isinstance(event, facts.AttemptSucceeded)
            if real.outcome is None or (real.outcome == "succeeded") is not succeeded:
                self.fail(f"{event}, and really it is {real.outcome or 'live'}")
        if isinstance(event, facts.AttemptFailed) and (event.task in self.stopping or not event.error.message):
            self.fail(f"{event} of a task that was asked to stop, or without a word")
        if isinstance(event, facts.AttemptCancelled) and event.task not in self.stopping:
            self.fail(f"{event}, and nobody asked for it")
        del self.live[event.task]
        self.stopping.discard(event.task)
        self.gone[event.task] = event

    def _task_ended(self, event: Any) -> None:
        attempt = self.gone.pop(event.task, None)
        if not isinstance(attempt, _OF_ATTEMPT[type(event)]):
            self.fail(f"{event}, and its attempt ended as {attempt}")
        if isinstance(event, facts.TaskSucceeded):
            self._done(event.task, "succeeded")
        elif isinstance(event, facts.TaskFailed):
            self.status[event.task] = "failed"
            self.failure = self.failure or attempt
        else:
            self.status[event.task] = "cancelled"

    def _cancel(self, event: facts.JobCancelRequested) -> None:
        if self.ending or self.failure:
            self.fail(f"{event} a second time, or after a failure")
        self.cancel = event
        self._begin_to_end("cancelling")

    def _fail(self, event: facts.JobFailing) -> None:
        if self.ending or self.failure is None or event.task != self.failure.task:
            self.fail(f"{event} a second time, and what failed is {self.failure}")
        self._begin_to_end("failing")

    def _begin_to_end(self, state: str) -> None:
        self.ending = self.state = state
        self.paused = False
        self.ready.clear()
        for task, status in self.status.items():
            if status in ("pending", "ready"):
                self.status[task] = "cancelled"

    def _end(self, state: str) -> None:
        if self.live or self.ready:
            self.fail(f"I7: {state} while {list(self.live)} are live and {list(self.ready)} are ready")
        if self._sessions is not None and any(
            real.running for real in self._sessions.values() if real.job == self.job
        ):
            self.fail(f"I7: {state}, and a session runs on")
        self.ended, self.state = True, state

    def _all_succeeded(self, _event: facts.JobSucceeded) -> None:
        if len(self.done) != len(self.status) or self.ending:
            self.fail("succeeded, and not everything is done")
        self._end("succeeded")

    def _job_failed(self, event: facts.JobFailed) -> None:
        if self.failure is None or (event.task, event.error) != (self.failure.task, self.failure.error):
            self.fail(f"{event}, and what failed is {self.failure}")
        self._end("failed")

    def _job_cancelled(self, event: facts.JobCancelled) -> None:
        if self.cancel is None or self.failure or event.reason != self.cancel.reason:
            self.fail(f"{event}, and it was asked {self.cancel}")
        self._end("cancelled")


_OF_ATTEMPT: dict[type, Any] = {
    facts.TaskSucceeded: facts.AttemptSucceeded,
    facts.TaskFailed: facts.AttemptFailed,
    facts.TaskCancelled: facts.AttemptCancelled,
}
_HEAR: dict[type, Callable[[Oracle, Any], None]] = {
    facts.JobCreated: Oracle._created,
    facts.JobStarted: Oracle._job_started,
    facts.TaskLaunchRequested: Oracle._launched,
    facts.TaskSkipped: Oracle._skip,
    facts.TaskStarted: Oracle._started,
    facts.TaskStatusReported: Oracle._status,
    facts.TaskStopRequested: Oracle._stop,
    facts.AttemptSucceeded: Oracle._attempt_ended,
    facts.AttemptFailed: Oracle._attempt_ended,
    facts.AttemptCancelled: Oracle._attempt_ended,
    facts.TaskSucceeded: Oracle._task_ended,
    facts.TaskFailed: Oracle._task_ended,
    facts.TaskCancelled: Oracle._task_ended,
    facts.JobCancelRequested: Oracle._cancel,
    facts.JobFailing: Oracle._fail,
    facts.JobPaused: Oracle._pause,
    facts.JobResumed: Oracle._resume,
    facts.JobSucceeded: Oracle._all_succeeded,
    facts.JobFailed: Oracle._job_failed,
    facts.JobCancelled: Oracle._job_cancelled,
}
