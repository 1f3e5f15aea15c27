"""A job can be looked at as it stood after any event of its, and what is shown is what the events say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_line import CommandLine

YAML = """\
name: moments
tasks:
- {name: a, command: 'true'}
- {name: b, command: 'true', skip: true, dependencies: [a]}
- {name: slow, command: sleep 60, dependencies: [a]}
- {name: bad, command: 'exit 3', dependencies: [b]}
- {name: never, command: 'true', dependencies: [slow, bad]}
"""


class Fold:
    """An independent fold: what the states must be, written down from the glossary and the events alone."""

    def __init__(self) -> None:
        self.job = "pending"
        self.tasks: dict[str, str] = {}
        self.after: dict[str, list[str]] = {}

    def take(self, kind: str, data: dict[str, Any]) -> None:
        """Remember one event."""
        if kind == "JobCreated":
            self.after = {task["name"]: task.get("dependencies", []) for task in data["tasks"]}
            self.tasks = dict.fromkeys(self.after, "pending")
        elif kind.startswith("Task") and (state := _TASKS.get(kind)):
            self.tasks[data["task"]] = state
        elif kind in _JOBS:
            self.job = _JOBS[kind]
        if kind in ("JobCancelRequested", "JobFailing"):
            self.tasks = {t: "cancelled" if s in ("pending", "ready") else s for t, s in self.tasks.items()}
        done = {task for task, state in self.tasks.items() if state in ("succeeded", "skipped")}
        for task, state in self.tasks.items():
            if state == "pending" and done.issuperset(self.after[task]):
                self.tasks[task] = "ready"


_TASKS = {
    "TaskLaunchRequested": "launching",
    "TaskStarted": "running",
    "TaskSkipped": "skipped",
    "TaskSucceeded": "succeeded",
    "TaskFailed": "failed",
    "TaskCancelled": "cancelled",
}
_JOBS = {
    "JobStarted": "running",
    "JobCancelRequested": "cancelling",
    "JobFailing": "failing",
    "JobSucceeded": "succeeded",
    "JobFailed": "failed",
    "JobCancelled": "cancelled",
}


def test_a_job_at_every_event_is_an_independent_fold_up_to_it(tmp_path: Path) -> None:
    """`job show --at` shows, at each event, the states that the events up to it say."""
    trackbook = CommandLine(tmp_path)
    file = tmp_path / "moments.yaml"
    file.write_text(YAML)
    with trackbook.up():
        trackbook("run", str(file), code=1)
        [job] = trackbook.json("job", "list")
        events = trackbook.json("job", "events", job["id"])
        fold = Fold()
        for event in events:
            fold.take(event["type"], event["data"])

            seen = trackbook.json("job", "show", job["id"], "--at", event["id"])

            assert seen["job"]["state"] == fold.job, event
            assert {task["name"]: task["state"] for task in seen["tasks"]} == fold.tasks, event
    assert fold.job == "failed"
    assert len(events) >= 13
