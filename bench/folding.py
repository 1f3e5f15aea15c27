"""How quickly a long history folds: the core and the commits' decoding, no broker."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

import msgspec

from trackbook.engine import job
from trackbook.engine.decider import Decision, answer, take_due
from trackbook.engine.job_state import JobState
from trackbook.engine.kinds import KINDS
from trackbook.events.commit import SCHEMA, Commit, Input
from trackbook.events.job import TaskShape
from trackbook.runtime.owner import DUE_PER_COMMIT

TOGETHER = 8
"""Reports that share a commit, as in a busy fan-out."""


class History:
    """The commits of a job, decided one after another as an engine would."""

    def __init__(self) -> None:
        self.commits: list[bytes] = []
        self._kind = KINDS["job"]
        self.state: JobState = self._kind.decider.initial("long")
        self._now = datetime.now(UTC)

    def take(self, commands: list[Any]) -> list[Any]:
        """Decide on the commands in one commit and return its events."""
        decision = Decision[Any, Any](self.state)
        inputs: list[Input[Any]] = [Input("executor:local", command) for command in commands]
        for index, command in enumerate(commands):
            answer(self._kind.decider, decision, command, index)
        if take_due(self._kind.decider, decision, len(inputs), DUE_PER_COMMIT):
            inputs.append(Input("engine", None))
        self.state, events = decision.state, decision.events
        version = len(self.commits) + 1
        commit = Commit(SCHEMA, "job", "long", version, self._now, "0" * 64, inputs, events, decision.causes)
        self.commits.append(msgspec.json.encode(commit))
        return events

    def ended(self, task: str) -> job.ReportTaskEnded:
        """Return a report that a task has succeeded."""
        return job.ReportTaskEnded(task, 1, "succeeded", self._now, self._now, 0)


def fan(width: int) -> list[bytes]:
    """Return the commits of a job of one task and `width` that depend on it."""
    history = History()
    tasks = [TaskShape("root"), *(TaskShape(f"t{n}", ["root"]) for n in range(width))]
    history.take([job.StartJob("p", "p", 1, "0" * 64, tasks)])
    waiting = deque(_launched(history.take([history.ended("root")])))
    while not history.state.ended:
        reports = [waiting.popleft() for _ in range(min(TOGETHER, len(waiting)))]
        waiting += _launched(history.take([history.ended(task) for task in reports]))
    return history.commits


def _launched(events: list[Any]) -> list[str]:
    return [event.task for event in events if type(event).__name__ == "TaskLaunchRequested"]


def fold(width: int = 50_000) -> dict[str, Any]:
    """Fold the history of a wide job from its bytes: events a second."""
    commits, kind = fan(width), KINDS["job"]
    began = time.perf_counter()
    state, events = kind.decider.initial("long"), 0
    for data in commits:
        commit = kind.commits.decode(data)
        state = kind.take(state, commit)
        events += len(commit.events)
    took = time.perf_counter() - began
    assert state.ended
    return {"tasks": width, "commits": len(commits), "events": events, "events_s": round(events / took)}
