"""Jobs and the world outside: reports come in, and the intents of what was stored go to the executors."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from trackbook.engine import intents
from trackbook.engine import job as jobs
from trackbook.engine.intents import Intent, Launch, Stop
from trackbook.engine.job_state import LIVE, JobState
from trackbook.engine.ports import Owned, StoreUnanswered
from trackbook.events.commit import Input
from trackbook.runtime.aggregate import Aggregate
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.owner import Owner
from trackbook.runtime.session_dispatcher import SessionDispatcher, executor_of

log = structlog.get_logger(__name__)


class Jobs:
    """Hands launches and stops to the executors: by the commits of jobs, and at recovery by their states."""

    def __init__(self, owner: Owner, sessions: SessionDispatcher) -> None:
        self._owner, self._aggregates = owner, owner.aggregates
        self._sessions = sessions
        self._open: set[str] = set()
        self._one_ended = asyncio.Event()
        owner.on_stored("job", self._dispatch_stored)
        sessions.report = self.report

    async def report(self, executor: str, job: str, report: jobs.Report) -> None:
        """Take an executor's report; one about a job that has ended, or that never was, changes nothing.

        A job that the ledger does not know may be another engine's: the log will tell.
        """
        head = self._aggregates.ledger.head("job", job)
        if head is None or head.open:
            await self._owner.submit("job", job, Input(f"executor:{executor}", report))

    async def state(self, job: str) -> Aggregate[JobState]:
        """Return the job as it is on the log; see `Owner.state`."""
        return await self._owner.state("job", job)

    async def recover(self, executor: str | None = None) -> int:
        """Take up every job that has not ended: launch and stop again what is outstanding; returns how many.

        Launching again means adopting. With `executor`, only that executor's sessions are dispatched. None are
        while evidence of loss is open: what the log lost may be a launch or an end.
        """
        if self._aggregates.integrity.open:
            return 0
        await self._aggregates.keep_up()
        heads = self._aggregates.ledger.open_heads("job")
        for head in heads:
            try:
                aggregate = await self.state(head.id)
            except HistoryDamaged as error:
                log.warning("job.quarantined", job=head.id, error=str(error), hint=error.hint)
                continue
            except StoreUnanswered as error:
                log.warning("job.unread", job=head.id, error=str(error), hint="The next start takes it up.")
                continue
            if aggregate.state.created is None or aggregate.state.ended:
                continue
            self._open.add(head.id)
            for intent in intents.outstanding(aggregate.state):
                if not executor or executor_of(aggregate.state, intent.task) == executor:
                    self._dispatch(aggregate.state, intent)
            self._owner.take_up(aggregate)
        return len(heads)

    async def live(self, executor: str) -> Owned:
        """Return what the log owns on an executor; of a job that can't be read it is not known.

        Raises LogDamaged while evidence of loss is open: what seems to belong to nobody may be in what was lost.
        """
        self._aggregates.integrity.refuse()
        await self._aggregates.keep_up()
        found: set[str] = set()
        unknown: set[str] = set()
        for head in self._aggregates.ledger.open_heads("job"):
            try:
                state = (await self.state(head.id)).state
            except (HistoryDamaged, StoreUnanswered):
                unknown.add(head.id)
                continue
            found |= {
                task.session
                for task in state.tasks.values()
                if (task.status in LIVE or task.serves) and executor_of(state, task.shape.name) == executor
            }
        ledger = self._aggregates.ledger
        return Owned(
            found,
            lambda job: (
                job not in unknown
                and ledger.head("job", job) is not None
                and ledger.quarantined("job", job) is None
            ),
        )

    async def all_ended(self) -> None:
        """Return once no job is open that this engine has taken up or started."""
        while self._open:
            self._one_ended.clear()
            await self._one_ended.wait()

    def _dispatch_stored(self, aggregate: Aggregate[JobState], events: list[Any]) -> None:
        """Dispatch the intents of a stored commit, in their order."""
        for event in events:
            for intent in intents.of(event):
                self._dispatch(aggregate.state, intent)
        if aggregate.state.ended:
            self._sessions.forget(aggregate.state)
            self._open.discard(aggregate.id)
            self._one_ended.set()
        else:
            self._open.add(aggregate.id)

    def _dispatch(self, state: JobState, intent: Intent) -> None:
        match intent:
            case Launch():
                self._sessions.launch(state, intent.task)
            case Stop():
                self._sessions.stop(state, intent.task)
