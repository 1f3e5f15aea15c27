"""A world in which anything may happen at any time: engine, executor, users and faults, from one seed.

What is under way lies in one soup, and a seeded scheduler picks from it: so messages are late, out of order,
doubled and lost. The engine is modelled as the runtime works: one commit for what waits, intents handed on once
it is stored, and after a crash everything outstanding in the folded state handed on again.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from simulation.cluster import CLOCK, STATUSES, Cluster
from simulation.coverage import KINDS, Reached
from simulation.desk import Desk
from simulation.graphs import random_graph
from simulation.oracle import Violation
from trackbook.engine import intents
from trackbook.engine.intents import Intent, Stop
from trackbook.engine.job import (
    CancelJob,
    PauseJob,
    ReportTaskEnded,
    ReportTaskStarted,
    ReportTaskStatus,
    ResumeJob,
    StartJob,
)

_LIMITS = (1, 2, 3, 5, 8, 256)
_TO_ENGINE = ("command", "report", "ask")
_TO_EXECUTOR = ("launch", "stop")
_OLD = 40


class World:
    """Some jobs on one engine and one executor, until all have ended; `steps` counts decisions of the core."""

    def __init__(self, seed: int, reached: Reached, most_tasks: int = 50) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.reached = reached
        self.steps = 0
        self.commits = self.crashes = 0
        self.limit = self.random.choice(_LIMITS)
        self._soup: list[tuple[Any, ...]] = []
        self._old: list[tuple[Desk, Any]] = []
        self.cluster = Cluster(self.random, self._later)
        self._faults = self.random.choice((0, 300, 1000, 3000))
        self.desks = [self._desk(f"{seed}-{n}", most_tasks) for n in range(self.random.randint(1, 6))]
        self.last: Desk | None = None
        self.stream: list[tuple[Desk, int, int]] = []

    def _desk(self, name: str, most_tasks: int) -> Desk:
        start = StartJob("p", "training", 1, "f00d", random_graph(self.random, most_tasks))
        desk = Desk(name, start, self.cluster.sessions)
        self._later("command", desk, start)
        return desk

    def run(self) -> None:
        """Let things happen until every job has ended; raises Violation."""
        while self._faults:
            self._faults -= 1
            self._misfortune()
            if self._soup:
                self._pick()
            if not self._faults % 64 and all(desk.oracle.ended for desk in self.desks):
                self._faults = 0
        self._recover()
        self._resume_all()
        patience = 400 * (10 + sum(len(desk.start.tasks) for desk in self.desks))
        while self._soup and patience:
            patience -= 1
            self._pick()
        self._check_end()

    def _resume_all(self) -> None:
        """A job that stays paused never ends: nobody pauses one any more, and somebody resumes each."""
        self._soup[:] = [item for item in self._soup if not isinstance(item[-1], PauseJob)]
        for desk in self.desks:
            self._later("command", desk, ResumeJob())

    def _check_end(self) -> None:
        for desk in self.desks:
            self.last = desk
            if not desk.oracle.ended:
                raise Violation(f"I15: {desk.id} does not end once faults have stopped")
            desk.check_log()
            for _ in range(4):
                self._send_stray(desk)

    # The scheduler -------------------------------------------------------------------------------------------

    def _later(self, what: str, *about: Any) -> None:
        self._soup.append((what, *about))

    def _pick(self) -> None:
        item = self._take_any()
        what = item[0]
        if self._faults and (what in _TO_ENGINE or what in _TO_EXECUTOR):
            fate = self.random.random()
            if fate < 0.1:
                self._soup.append(item)  # it comes twice
            elif fate < 0.14 and what in _TO_EXECUTOR:
                return  # it never comes, until the engine takes over again
        if what in _TO_ENGINE:
            self._to_engine(item)
        else:
            getattr(self.cluster, what)(*item[1:])

    def _take_any(self) -> tuple[Any, ...]:
        soup = self._soup
        index = int(self.random.random() * len(soup))
        soup[index], soup[-1] = soup[-1], soup[index]
        return soup.pop()

    def _to_engine(self, item: tuple[Any, ...]) -> None:
        desk, given = item[1], list(item[2:])
        if item[0] == "report":
            self._remember(desk, item[2])
            while self._soup and self.random.random() < 0.25:
                other = self._take_any()
                if other[0] == "report" and other[1] is desk:
                    given.append(other[2])
                else:
                    self._soup.append(other)
        self._engine(desk, given)

    def _remember(self, desk: Desk, report: Any) -> None:
        if len(self._old) < _OLD:
            self._old.append((desk, report))
        else:
            self._old[int(self.random.random() * _OLD)] = (desk, report)

    # The engine ----------------------------------------------------------------------------------------------

    def _engine(self, desk: Desk, given: Sequence[Any]) -> None:
        self.last = desk
        self.steps += max(1, len(given))
        for one in given[:1]:  # the others meet what this one makes of the state
            if hasattr(one, "task"):
                self.reached.note(desk.state, one)
        fate = self.random.random() if self._faults else 1
        if fate < 0.01:  # it dies, or another writer was quicker, before the commit is stored
            desk.decide(given, self.limit)
            desk.forget()
            self._soup += [("report" if hasattr(one, "task") else "command", desk, one) for one in given]
            self._take_up(desk)
            if fate < 0.005:
                self._crash()
            return
        events = self._take(desk, given)
        if not events:
            return
        if fate < 0.02:  # it dies before anything is handed on, or acknowledged
            self._soup += [("report", desk, one) for one in given if hasattr(one, "task")]
            self._crash()
        else:
            self._hand_on(desk, events)
            if desk.oracle.ending or desk.oracle.ready:  # states that pass quickly
                self._send_stray(desk)

    def _take(self, desk: Desk, given: Sequence[Any]) -> list[Any]:
        events = desk.take(given, self.limit)
        if events:
            self.commits += 1
            self.stream.append((desk, len(desk.log) - 1, len(self.cluster.ledger)))
        return events

    def _hand_on(self, desk: Desk, events: Sequence[Any]) -> None:
        for event in events:
            for intent in intents.of(event):
                self._dispatch(desk, intent)
        self._take_up(desk)

    def _dispatch(self, desk: Desk, intent: Intent) -> None:
        what = "stop" if isinstance(intent, Stop) else "launch"
        self._later(what, desk, intent.task, intent.attempt, desk.state.tasks[intent.task].session)

    def _take_up(self, desk: Desk) -> None:
        if desk.is_due:
            self._later("ask", desk)

    def _crash(self) -> None:
        """Lose what the engine holds; what it had handed on may be lost as well."""
        self.crashes += 1
        lost = self.random.choice(((), _TO_EXECUTOR))
        self._soup[:] = [item for item in self._soup if item[0] not in (*lost, "ask")]
        for desk in self.desks:
            desk.forget()
        self._recover()

    def _recover(self) -> None:
        for desk in self.desks:
            if desk.state.ended:
                continue
            desk.check_outstanding()
            for intent in intents.outstanding(desk.state):
                self._dispatch(desk, intent)
            self._take_up(desk)

    # Misfortune ----------------------------------------------------------------------------------------------

    def _misfortune(self) -> None:
        fate = self.random.random()
        if fate < 0.08:
            desk = self.random.choice(self.desks)
            if not desk.oracle.ended or self.random.random() < 0.2:
                self._send_stray(desk)
        elif fate < 0.10 and self._old:
            desk, report = self.random.choice(self._old)
            self._engine(desk, [report])
        elif fate < 0.1012:
            self._later("command", self.random.choice(self.desks), CancelJob("enough"))
        elif fate < 0.1020:
            self._executor_dies(machine=fate < 0.1014)
        elif fate < 0.1024:
            self._crash()
        elif fate < 0.1124:
            self._later("command", self.random.choice(self.desks), PauseJob("later"))
        elif fate < 0.1164:
            self._later("command", self.random.choice(self.desks), ResumeJob())

    def _executor_dies(self, *, machine: bool) -> None:
        self.crashes += 1
        self._soup[:] = [item for item in self._soup if item[0] not in ("begin", "finish", "kill", "report")]
        self.cluster.crash(machine=machine)
        if self.random.random() < 0.5:
            self.cluster.scan()
        self._recover()

    def _send_stray(self, desk: Desk) -> None:
        self.last = desk
        self.steps += 1
        stray = self._stray(desk)
        self.reached.note(desk.state, stray)
        if desk.oracle.changes(stray):
            raise Violation(f"I8: {desk.id} may believe {stray}")
        self._hand_on(desk, self._take(desk, [stray]))

    def _stray(self, desk: Desk) -> Any:
        """Return a report that must change nothing: of no task, of another attempt, of one that is over."""
        if self.random.random() < 0.1 or not desk.start.tasks:
            return self._forge("no such task", 1)
        status = self.random.choice(sorted(set(desk.oracle.status.values())))
        tasks = [name for name, its in desk.oracle.status.items() if its == status]
        tried = [name for name in tasks if name in desk.state.tasks and desk.state.tasks[name].attempt]
        task = self.random.choice(tried if tried and self.random.random() < 0.6 else tasks)
        attempt = desk.state.tasks[task].attempt if task in desk.state.tasks else 0
        choices = [attempt + 1, attempt - 1] if attempt else [0, 1]
        if attempt and task not in desk.oracle.live:
            choices.append(attempt)
        return self._forge(task, self.random.choice(choices))

    def _forge(self, task: str, attempt: int) -> Any:
        kind, at = self.random.choice(KINDS), self.random.choice(CLOCK)
        if kind == "started":
            return ReportTaskStarted(task, attempt, at)
        if kind == "status":
            return ReportTaskStatus(task, attempt, self.random.choice(STATUSES))
        return ReportTaskEnded(task, attempt, kind, at, self.random.choice((None, at)))  # type: ignore[arg-type]
