"""An executor as hostile as a real one may be: it forgets, repeats itself and dies, but never runs twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal

from simulation.oracle import Violation
from trackbook.engine.job import Report, ReportTaskEnded, ReportTaskStarted, ReportTaskStatus

CLOCK = [datetime(2024, 2, 29, tzinfo=UTC) + timedelta(seconds=7919 * n % 101) for n in range(101)]
"""Times in no order at all: clocks jump, and the core must not care."""
_MISHAPS = ("failed", "failed", "failed", "lost", "cancelled", "unrunnable", "lost unrun")
_MISHAP_RATES = (0.0, 0.01, 0.03, 0.15)
_KILLED = ["cancelled"] * 6 + ["failed", "succeeded", "succeeded", "lost"]
STATUSES = ("PULLING", "PREPARING", "RUNNING", "TERMINATING")
Phase = Literal["queued", "running", "ended"]


class Session:
    """One attempt's session: what is on disk (a claim, a record) and what really runs."""

    __slots__ = ("attempt", "began", "desk", "ended", "job", "name", "outcome", "phase", "task")

    def __init__(self, desk: Any, task: str, attempt: int, name: str) -> None:
        self.desk, self.job, self.task, self.attempt, self.name = desk, desk.id, task, attempt, name
        self.phase: Phase = "queued"
        self.began: datetime | None = None
        self.outcome: str | None = None
        self.ended: ReportTaskEnded | None = None

    @property
    def running(self) -> bool:
        """Whether its command runs now."""
        return self.phase == "running"


class Cluster:
    """Runs sessions; `later` puts something into the soup, to be done at some time or never."""

    def __init__(self, random: Random, later: Callable[..., None]) -> None:
        self._random = random
        self._later = later
        self._mishaps = random.choice(_MISHAP_RATES)
        self.sessions: dict[str, Session] = {}
        self.ledger: list[tuple[Session, str]] = []

    def launch(self, desk: Any, task: str, attempt: int, name: str) -> None:
        """Take a launch: run it, adopt it, or tell its end again."""
        session = self.sessions.get(name)
        if session is None:
            session = self.sessions[name] = Session(desk, task, attempt, name)
        self._watch(session)

    def _watch(self, session: Session) -> None:
        if session.phase == "queued":
            self._later("begin", session)
        elif session.phase == "running":
            self._later("finish", session)
            self._report(session, ReportTaskStarted(session.task, session.attempt, self._began(session)))
        else:
            self._report(session, session.ended)

    def stop(self, desk: Any, task: str, attempt: int, name: str) -> None:
        """Take a stop; one for a session never launched leaves a record that forbids to launch it."""
        session = self.sessions.get(name)
        if session is None:
            session = self.sessions[name] = Session(desk, task, attempt, name)
        if session.phase == "queued":
            self._end(session, "cancelled")
        elif session.phase == "running":
            self._later("kill", session)
        else:
            self._report(session, session.ended)

    def begin(self, session: Session) -> None:
        """Claim the attempt and run its command, unless that was done before."""
        if session.phase != "queued":
            return
        plan = self._plan()
        if plan in ("unrunnable", "lost unrun"):
            self._end(session, "failed" if plan == "unrunnable" else "lost")
            return
        self._check_may_run(session)
        session.phase, session.began = "running", self._random.choice(CLOCK)
        self.ledger.append((session, "start"))
        if self._random.random() < 0.9:
            self._report(session, ReportTaskStarted(session.task, session.attempt, session.began))
        while self._random.random() < 0.2:
            status = self._random.choice(STATUSES)
            self._report(session, ReportTaskStatus(session.task, session.attempt, status))
        self._later("finish", session)

    def _check_may_run(self, session: Session) -> None:
        """Check against what really happened, rather than against what the engine believes."""
        names = {shape.name: shape for shape in session.desk.start.tasks}
        before = list(names[session.task].dependencies)
        done = {s.task for s in session.desk.sessions if s.outcome == "succeeded"}
        for dependency in before:
            if names[dependency].skip:
                before += names[dependency].dependencies
            elif dependency not in done:
                raise Violation(f"I6: {session.name} runs, and {dependency} has not succeeded")
        if any(other.task == session.task for other in session.desk.sessions):
            raise Violation(f"I4: {session.task} of {session.job} runs a second time")
        if session.name not in session.desk.intended:
            raise Violation(f"I5: {session.name} runs, and no commit names it")
        session.desk.sessions.append(session)

    def finish(self, session: Session) -> None:
        """End the command in its own way."""
        if session.phase != "running":
            return
        plan = self._plan()
        self._end(session, plan if plan in ("failed", "lost", "cancelled") else "succeeded")

    def _plan(self) -> str:
        return self._random.choice(_MISHAPS) if self._random.random() < self._mishaps else "succeeded"

    def kill(self, session: Session) -> None:
        """End the command on request; it may have been quicker."""
        if session.phase == "running":
            self._end(session, self._random.choice(_KILLED))

    def _end(self, session: Session, outcome: Any, *, seen: bool = True) -> None:
        code, signal = {"succeeded": 0, "failed": 3}.get(outcome), 15 if outcome == "cancelled" else None
        message = "" if outcome == "succeeded" or self._random.random() < 0.5 else f"it {outcome}"
        if session.running and outcome != "lost":
            self.ledger.append((session, "end"))
        session.phase, session.outcome = "ended", outcome
        session.ended = ReportTaskEnded(
            session.task,
            session.attempt,
            outcome,
            self._random.choice(CLOCK),
            session.began,
            code,
            signal,
            message,
        )
        if seen:
            self._report(session, session.ended)

    def crash(self, *, machine: bool) -> None:
        """Forget everything but what is on disk; with the machine, commands die too and leave no record."""
        for session in self.sessions.values():
            if session.phase != "running":
                continue
            if machine:
                self._end(session, "lost", seen=False)
            elif self._random.random() < 0.3:
                self._end(session, "succeeded", seen=False)

    def scan(self) -> None:
        """Take up again what is on disk, as an executor may do when it starts."""
        for session in self.sessions.values():
            if session.phase != "ended":
                self._watch(session)

    def _report(self, session: Session, report: Report | None) -> None:
        self._later("report", session.desk, report)

    @staticmethod
    def _began(session: Session) -> datetime:
        assert session.began is not None
        return session.began
