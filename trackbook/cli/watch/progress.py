"""The state of a job that is being watched: read once, then updated by its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

from trackbook.cli.states import ENDED, TASK_ENDED
from trackbook.cli.terminal.formatting import parse_utc

_ATTEMPT_ENDS = ("AttemptSucceeded", "AttemptFailed", "AttemptCancelled")
STATUS = "status"
"""The state of a change that is none: the executor's own status says more."""


@dataclass
class Task:
    """A task instance as the watcher knows it."""

    name: str
    state: str = "pending"
    attempt: int = 0
    started: datetime | None = None
    finished: datetime | None = None
    status: str = ""
    why: str = ""
    error: str = ""
    fault: str = ""
    measured: float | None = None
    """The seconds that it ran, by a clock that can't be set."""

    @property
    def note(self) -> str:
        """Its failure, or the executor's own status with the reason."""
        return self.error or status_text(self.status, "" if self.state in TASK_ENDED else self.why)

    def run_time(self, now: datetime) -> float | None:
        """Return the seconds that it ran, or has run by now."""
        if self.measured is not None or self.started is None:
            return self.measured
        return max(0.0, ((self.finished or now) - self.started).total_seconds())


@dataclass
class Change:
    """Something that a watcher wants to hear of: a task's new state, or the job's when `task` is None."""

    at: datetime
    state: str
    task: Task | None = None
    reason: str = ""


@dataclass
class Progress:
    """A job and its tasks. Their states come from its events; an event that arrives twice changes nothing.

    `last` is the id of the last event taken; the stream resumes from there. `seen` is the place of the last event
    that counts already: sequence and index. `last_tasks` are those that no other one depends on.
    """

    job: dict[str, Any]
    tasks: dict[str, Task]
    last: str
    seen: tuple[float, float]
    counts: Counter[str] = field(default_factory=Counter)
    running: dict[str, Task] = field(default_factory=dict)
    failed: list[Task] = field(default_factory=list)
    last_tasks: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The job's state."""
        return str(self.job["state"])

    @property
    def ended(self) -> bool:
        """Whether the job had its last event."""
        return self.state in ENDED

    @property
    def done(self) -> int:
        """How many tasks have ended, whatever their end."""
        return sum(self.counts[state] for state in TASK_ENDED)

    def take(self, id: str, event: dict[str, Any]) -> list[Change]:  # noqa: A002
        """Take an event of the job and return what it changed."""
        self.last = id or self.last
        place = (event["seq"], event["index"])
        if place <= self.seen:
            return []
        self.seen = place
        data, at, states = event.get("data") or {}, parse_utc(event["at"]), event["states"] or {}
        if event["type"] == "TaskStatusReported":
            return self._take_status(self.tasks[data["task"]], data, at)
        if event["type"] in _ATTEMPT_ENDS:
            self._take_end(self.tasks[data["task"]], data)
        changes = []
        for name, state in states.get("tasks", {}).items():
            if name == data.get("task"):
                changes.append(self._take_task(self.tasks[name], state, data, at))
            else:  # as a consequence, which needs no telling
                self._move(self.tasks[name], state)
        if states.get("job", self.state) != self.state:
            changes.append(self._take_job(states["job"], data, at))
        return changes

    @staticmethod
    def _take_status(task: Task, data: dict[str, Any], at: datetime) -> list[Change]:
        """Record the executor's own status; a new reason is a change worth showing."""
        said = (data["status"], data.get("message", ""))
        if said == (task.status, task.why) or task.state in TASK_ENDED:
            return []
        task.status, task.why = said
        return [Change(at, STATUS, task, task.why)] if task.why else []

    @staticmethod
    def _take_end(task: Task, data: dict[str, Any]) -> None:
        """Record the end of an attempt; what becomes of the task is the next event's to say."""
        task.finished, task.measured = parse_utc(data["at"]), data.get("run_time")
        error = data.get("error") or {}
        task.error, task.fault = error.get("message", ""), error.get("fault", "")

    def _take_task(self, task: Task, state: str, data: dict[str, Any], at: datetime) -> Change:
        happened = parse_utc(data["at"]) if "at" in data else task.finished or at
        task.attempt = data.get("attempt", task.attempt)
        if state == "launching":
            task.started = task.finished = task.measured = None
            task.status = task.why = task.error = task.fault = ""
        elif state == "running":
            task.started = happened
        self._move(task, state)
        return Change(happened, state, task, task.error)

    def _take_job(self, state: str, data: dict[str, Any], at: datetime) -> Change:
        self.job["state"] = state
        if state == "running":
            self.job["started_at"] = self.job.get("started_at") or data.get("at")
        if state in ENDED:
            self.job["finished_at"] = at.isoformat()
        failed = f"task {data['task']} failed" if state == "failing" and "task" in data else ""
        return Change(at, state, None, failed or data.get("reason", ""))

    def _move(self, task: Task, state: str) -> None:
        self.counts[task.state] -= 1
        self.counts[state] += 1
        task.state = state
        if state in ("launching", "running"):
            self.running[task.name] = task
        else:
            self.running.pop(task.name, None)
        if state == "failed":
            self.failed.append(task)


def progress_of(job: dict[str, Any], tasks: Iterable[dict[str, Any]], *, from_start: bool = False) -> Progress:
    """Return what the read model knows of a job, or with `from_start` the job before its first launch.

    The stream is to be followed from the commit that the job was read at, or from the job's first one: `seq`.
    """
    known: dict[str, Task] = {}
    needed: set[str] = set()
    for row in tasks:
        known[row["name"]] = Task(row["name"]) if from_start else _task(row)
        needed.update(row["dependencies"])
    seen = (0.0, 0.0) if from_start else (job["seq"], inf)  # rows hold whole commits
    last_tasks = [name for name in known if name not in needed]
    progress = Progress(job, known, f"{job['seq']}.0", seen, last_tasks=last_tasks)
    if from_start:
        job["state"] = "pending"
    for task in known.values():
        progress.counts[task.state] += 1
        if task.state in ("launching", "running"):
            progress.running[task.name] = task
        if task.state == "failed":
            progress.failed.append(task)
    return progress


def _task(row: dict[str, Any]) -> Task:
    return Task(
        row["name"],
        row["state"],
        row["attempt"],
        parse_utc(row["started_at"]) if row.get("started_at") else None,
        parse_utc(row["finished_at"]) if row.get("finished_at") else None,
        row.get("executor_status") or "",
        row.get("executor_message") or "",
        row.get("error") or "",
        row.get("fault") or "",
        row.get("run_time") if row.get("finished_at") else None,
    )


def status_text(status: str | None, why: str | None) -> str:
    """Return an executor's own status with its reason: `PENDING: no agent has 4 cpu`."""
    return ": ".join(part for part in (status, why) if part)


def utc_now() -> datetime:
    """Return the time with which the server's times are compared."""
    return datetime.now(UTC)
