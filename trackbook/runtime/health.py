"""The health of a process: what keeps it from working, what else is wrong, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from trackbook.runtime.engine_role import Engine
from trackbook.runtime.system import Base

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

    def __init__(self, base: Base, engine: Engine | None, connections: Observed) -> None:
        self._base = base
        self._aggregates = engine.aggregates if engine else None
        self._connections = connections

    def problems(self) -> Sequence[str]:
        """Return in words what keeps the system from working."""
        found = [] if self._base.connection.is_connected else ["the broker can't be reached"]
        if self._base.broker is not None and (problem := self._base.broker.space_problem()):
            found.append(problem)
        if self._aggregates is not None and self._aggregates.store.problem:
            found.append(self._aggregates.store.problem)
        if self._base.watchdog is not None and self._base.watchdog.problem:
            found.append(self._base.watchdog.problem)
        if self._aggregates is not None:
            found += self._aggregates.integrity.problems()
        return [*found, *self._connections.problems()]

    def warnings(self) -> Sequence[str]:
        """Return in words what else is wrong."""
        warnings = list(self._connections.warnings())
        if self._aggregates is not None:
            warnings += self._aggregates.integrity.warnings()
            if faults := self._aggregates.ledger.faults():
                names = [f"{each.kind}/{each.id}" for each in faults]
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                shown = ", ".join(names[:_NAMED]) + more
                warnings.append(f"damaged histories are in quarantine: {shown}; {QUARANTINE}")
        return warnings

    def metrics(self) -> Mapping[str, float]:
        """Return figures of the broker and the connections."""
        figures = dict(self._connections.metrics())
        if self._base.broker is not None:
            figures["trackbook_broker_restarts_total"] = self._base.broker.restarts
        return figures
