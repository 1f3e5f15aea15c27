"""One job as an engine holds it, and its log; after every step the log must fold to what is held."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import msgspec

from simulation.core import Core, core
from simulation.oracle import Oracle, Violation
from trackbook.engine.decider import Decision
from trackbook.engine.errors import Refused
from trackbook.engine.job import CancelJob, PauseJob, ResumeJob, StartJob
from trackbook.events.job import AnyJobEvent, TaskLaunchRequested

_FEW = 16
"""Tasks of a job up to which it is looked at which of them an event changes: all are, each time."""
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(list[AnyJobEvent]).decode


class Desk:
    """A job: `state` is what the engine works on, `_witness` is folded from the stored bytes alone."""

    def __init__(self, job: str, start: StartJob, sessions: dict[str, Any] | None) -> None:
        self.id = job
        self.start = start
        self.core: Core = core()
        self.oracle = Oracle(job, start.tasks, sessions)
        self.log: list[bytes] = []
        self.answered: list[tuple[list[Any], list[int]]] = []
        self.reported: list[list[Any]] = []
        self.intended: set[str] = set()
        self.sessions: list[Any] = []
        self.state = self._empty()
        self._witness = self._empty()

    def _empty(self) -> Any:
        return self.core.decider.initial(self.id)

    def decide(self, given: Sequence[Any], limit: int) -> tuple[list[Any], list[Any], list[int]]:
        """Return the inputs that changed something, the events and their causes, as of one commit.

        The last input is None where something was due.
        """
        inputs: list[Any] = []
        decision = Decision[Any, Any](self.state)
        for command in given:
            try:
                changed = self.core.answer(self.core.decider, decision, command, len(inputs))
            except Refused as refusal:
                self._check_refusal(command, refusal.code)
                continue
            if self._is_refused(command):
                raise Violation(f"{self.id}: {command} was not refused")
            if changed:
                inputs.append(command)
        if self.core.take_due(self.core.decider, decision, len(inputs), limit):
            inputs.append(None)
        self.state = decision.state
        return inputs, decision.events, decision.causes

    @property
    def is_due(self) -> bool:
        """Whether the core would add something although nobody says anything."""
        return next(iter(self.core.decider.due(self.state)), None) is not None

    def take(self, given: Sequence[Any], limit: int) -> list[Any]:
        """Decide, store, and check everything that must hold; returns the stored events."""
        self.reported.append(list(given))
        expected = [self.oracle.changes(one) for one in given]
        inputs, events, causes = self.decide(given, limit)
        if len(given) == 1 and (inputs[:1] == given) is not expected[0]:
            raise Violation(f"{self.id}: {given[0]} {'changes nothing' if expected[0] else 'is believed'}")
        if events:
            data = _encode(events)
            self.log.append(data)
            self.answered.append((inputs, causes))
            events = _decode(data)
            self.oracle.commit(inputs, events, causes, limit)
            for event in events:
                self._evolve_witness(event)
                if isinstance(event, TaskLaunchRequested):
                    self.intended.add(event.session)
            self._check_view(events)
        self._check_same(self._witness, "the log folds to another state")
        return events

    def _evolve_witness(self, event: Any) -> None:
        """Fold a stored event; the tasks that it changes are those that the core names before."""
        if len(self._witness.tasks) > _FEW:
            self._witness = self.core.decider.evolve(self._witness, event)
            return
        names = set(self.core.names["touched"](self._witness, event))
        before = {name: copy(task) for name, task in self._witness.tasks.items() if name in names}
        statuses = {name: task.status for name, task in self._witness.tasks.items()}
        self._witness = self.core.decider.evolve(self._witness, event)
        after = self._witness.tasks
        if any(before.get(name) == after.get(name) for name in names):
            raise Violation(f"{self.id}: {event} does not change all of {names}")
        if {name for name, task in after.items() if task.status != statuses.get(name)} - names:
            raise Violation(f"{self.id}: {event} changes more than {names}")

    def _check_view(self, events: Sequence[Any]) -> None:
        state, oracle = self.state, self.oracle
        if state.status != oracle.state or list(state.ready) != list(oracle.ready):
            held, true = f"{state.status} {list(state.ready)}", f"{oracle.state} {list(oracle.ready)}"
            raise Violation(f"{self.id}: {held}, not {true}")
        if any(state.tasks[name].status != "ready" for name in state.ready):
            raise Violation(f"{self.id}: what is to be launched is not ready")
        for event in events:
            name = getattr(event, "task", "")
            if name and state.tasks[name].status != oracle.status[name]:
                raise Violation(f"{self.id}: {name} is {state.tasks[name].status}, not {oracle.status[name]}")

    def _check_same(self, other: Any, complaint: str) -> None:
        if self.state != other or list(self.state.ready) != list(other.ready):
            raise Violation(f"I9: {self.id}: {complaint}\n{self.state}\n{other}")

    def _is_refused(self, command: Any) -> str:
        if isinstance(command, StartJob):
            return "" if self.oracle.state == "absent" else "job_exists"
        if isinstance(command, CancelJob):
            return "job_not_found" if self.oracle.state == "absent" else "job_ended" if self.oracle.ended else ""
        if isinstance(command, PauseJob | ResumeJob):
            return self._is_refused(CancelJob()) or (f"job_{self.oracle.ending}" if self.oracle.ending else "")
        return ""

    def _check_refusal(self, command: Any, code: str) -> None:
        if code != self._is_refused(command):
            raise Violation(f"{self.id}: {command} was refused as {code}")

    def check_log(self) -> None:
        """Fold the whole log again and compare, task by task too."""
        self._check_same(self._refold(), "the whole log folds to another state")
        statuses = {name: task.status for name, task in self.state.tasks.items()}
        if self.log and statuses != self.oracle.status:
            raise Violation(f"{self.id}: {statuses}, not {self.oracle.status}")

    def _refold(self) -> Any:
        state = self._empty()
        for data in self.log:
            for event in _decode(data):
                state = self.core.decider.evolve(state, event)
        return state

    def forget(self) -> None:
        """Lose what is in memory and fold the log again."""
        self.state = self._refold()
        self._check_same(self._witness, "a crash changed what the log folds to")

    def check_outstanding(self) -> None:
        """Check that what the core holds for outstanding is what is live by the events."""
        tasks = list(self.state.live())
        live = {task.shape.name: (task.attempt, task.session) for task in tasks}
        stopping = {task.shape.name for task in tasks if task.stop_requested}
        if live != self.oracle.live or stopping != self.oracle.stopping:
            raise Violation(f"{self.id}: outstanding {live}, stopped {stopping}; not {self.oracle.live}")
