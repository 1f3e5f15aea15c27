"""Which pairs of a state and a report were reached, which can't be, and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trackbook.engine.job import ReportTaskEnded, ReportTaskStarted

JOB_STATES = ("pending", "running", "paused", "failing", "cancelling", "succeeded", "failed", "cancelled")
TASK_STATES = ("pending", "ready", "launching", "running", "succeeded", "failed", "cancelled", "skipped")
KINDS = ("started", "status", "succeeded", "failed", "cancelled", "lost")
ATTEMPTS = ("earlier", "this", "later")
Place = tuple[str, str]

REASONS: dict[str, str] = {
    "a command that began starts its job in the same commit": "pending: running succeeded",
    "a failure or a cancel begins to end its job in the same commit": "pending: failed cancelled"
    " | running: failed cancelled | paused: failed cancelled",
    "a cancel or a failure leaves nothing waiting": "cancelling: pending ready | failing: pending ready"
    " | failed: pending ready | cancelled: pending ready",
    "a job ends when nothing is live": "succeeded: launching running | failed: launching running"
    " | cancelled: launching running",
    "a job succeeds when everything is done": "succeeded: pending ready failed cancelled",
    "a failure fails the job": "cancelling: failed | cancelled: failed",
}
NEVER_LAUNCHED = ("pending", "ready", "skipped")
"""Tasks in these states have had no attempt (0), and no report names one before it."""


def unreachable() -> dict[Place, str]:
    """Return each place (job state, task state) that can't be, and why."""
    return {
        (job.strip(), task): reason
        for reason, places in REASONS.items()
        for job, tasks in (place.split(":") for place in places.split("|"))
        for task in tasks.split()
    }


def reachable() -> list[Place]:
    """Return every place where a report may find a job and a task; `-` where there is none."""
    cant = unreachable()
    places = [(job, task) for job in JOB_STATES for task in TASK_STATES if (job, task) not in cant]
    return [*places, *((job, "-") for job in JOB_STATES), ("-", "-")]


class Reached:
    """Counts the reports by what they met."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str, str]] = Counter()

    def note(self, state: Any, report: Any) -> None:
        """Count a report that is about to be given to a job in this state."""
        task, kind = state.tasks.get(report.task), _kind(report)
        if task is None:
            self.counts[state.status if state.created else "-", "-", kind, "this"] += 1
            return
        gap = report.attempt - task.attempt
        attempt = "this" if not gap else "later" if gap > 0 else "earlier"
        self.counts[state.status, task.status, kind, attempt] += 1

    def missing(self) -> list[str]:
        """Return what was to be reached and wasn't, and what was reached and can't be."""
        expected = {
            (*place, kind, attempt) for place in reachable() for kind in KINDS for attempt in _attempts(place)
        }
        never = [f"never reached: {' '.join(pair)}" for pair in sorted(expected - self.counts.keys())]
        return never + [f"not expected: {' '.join(pair)}" for pair in sorted(self.counts.keys() - expected)]

    def table(self) -> str:
        """Return the counts: a row for each place, a column for each kind of report and attempt it names."""
        head = f"{'job':11}{'task':11}" + "".join(f"{kind:>21}" for kind in KINDS)
        under = " " * 22 + "".join(f"{'earl':>7}{'this':>7}{'late':>7}" for _ in KINDS)
        rows = [
            f"{job:11}{task:11}"
            + "".join(f"{self._cell((job, task), kind, attempt):>7}" for kind in KINDS for attempt in ATTEMPTS)
            for job, task in reachable()
        ]
        reasons = [f"{job} with {task}: {reason}" for (job, task), reason in unreachable().items()]
        pairs = len([count for count in self.counts.values() if count])
        tail = f"{pairs} pairs reached. Unreachable, a job with a task:"
        return "\n".join([head, under, *rows, tail, *(f"  {reason}" for reason in reasons)])

    def _cell(self, place: Place, kind: str, attempt: str) -> str:
        if attempt not in _attempts(place):
            return "·"
        count = self.counts[(*place, kind, attempt)]
        return str(count) if count < 100_000 else f"{count // 1000}k"


def _attempts(place: Place) -> tuple[str, ...]:
    if place[1] == "-":
        return ("this",)
    return ATTEMPTS[1:] if place[1] in NEVER_LAUNCHED else ATTEMPTS


def _kind(report: Any) -> str:
    if isinstance(report, ReportTaskEnded):
        return report.outcome
    return "started" if isinstance(report, ReportTaskStarted) else "status"
