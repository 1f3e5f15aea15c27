"""The health of a process: what keeps it from working, what else is wrong, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from trackbook.runtime.system import System

QUARANTINE = "`trackbook quarantine list` shows them"
_NAMED = 5
"""Damaged histories that readiness names."""


class Observed(Protocol):
    """A part that reports on itself: the connections of HTTP."""

    def problems(self) -> Sequence[str]:
        """Return in words what keeps it from working."""
        ...

    def warnings(self) -> Sequence[str]:
        """Return in words what else is wrong."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return its figures by their metric names."""
        ...


class Health:
    """What the parts of this process say of themselves."""

    def __init__(self, system: System, connections: Observed) -> None:
        self._system = system
        self._connections = connections

    def problems(self) -> Sequence[str]:
        """Return in words what keeps the system from working."""
        system = self._system
        found: list[str] = []
        if system.connection is None or not system.connection.is_connected:
            found.append("the broker can't be reached")
        if system.broker is not None and (problem := system.broker.space_problem()):
            found.append(problem)
        if system.aggregates is not None and system.aggregates.store.problem:
            found.append(system.aggregates.store.problem)
        if system.watchdog is not None and system.watchdog.problem:
            found.append(system.watchdog.problem)
        if system.aggregates is not None:
            found += system.aggregates.integrity.problems()
        return [*found, *self._connections.problems()]

    def warnings(self) -> Sequence[str]:
        """Return in words what else is wrong."""
        warnings = list(self._connections.warnings())
        if self._system.aggregates is not None:
            warnings += self._system.aggregates.integrity.warnings()
            if faults := self._system.aggregates.ledger.faults():
                names = [f"{each.kind}/{each.id}" for each in faults]
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                shown = ", ".join(names[:_NAMED]) + more
                warnings.append(f"damaged histories are in quarantine: {shown}; {QUARANTINE}")
        return warnings

    def metrics(self) -> Mapping[str, float]:
        """Return figures of the broker and the executor."""
        system, figures = self._system, dict(self._connections.metrics())
        if system.broker is not None:
            figures["trackbook_broker_restarts_total"] = system.broker.restarts
        return figures
