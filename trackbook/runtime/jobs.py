"""Jobs in motion: an inbox each, one commit for all that waits in it, intents handed on once they are stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import structlog
from msgspec import Struct

from trackbook.engine import job as jobs
from trackbook.engine.decider import step
from trackbook.engine.errors import Refused
from trackbook.engine.job import LIVE, AnyJobCommand, JobState
from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import AppendConflict, Owned, StoreUnanswered
from trackbook.events import job as facts
from trackbook.events.commit import Input
from trackbook.failpoints import failpoint
from trackbook.runtime.book import Aggregate, Book, Draft
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.sessions import Sessions, executor_of

EVENTS_PER_COMMIT = 512
"""What waits longer goes into the next commit, so that no commit grows without bound."""
_RETRY = 0.2

log = structlog.get_logger(__name__)
_DECIDER = KINDS["job"].decider


class Answered(Struct, frozen=True):
    """Where an input ended: the sequence and version of its commit, and whether it changed anything."""

    seq: int
    version: int
    changed: bool


class _Waiting(Struct):
    given: Input[AnyJobCommand]
    done: asyncio.Future[Answered]


class _Desk(Struct):
    """One job's inbox, and its state while it is in memory."""

    inbox: deque[_Waiting]
    aggregate: Aggregate[JobState] | None = None
    worker: asyncio.Task[None] | None = None


class Jobs:
    """Owns the jobs that have not ended: decides, commits, and hands launches and stops to the executors."""

    def __init__(self, book: Book, sessions: Sessions) -> None:
        self._book = book
        self._sessions = sessions
        self._desks: dict[str, _Desk] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_ended = asyncio.Event()

    async def submit(self, job: str, given: Input[AnyJobCommand]) -> Answered:
        """Decide on the input and return once its commit is on the log; raises Refused."""
        desk = self._desks.setdefault(job, _Desk(deque()))
        waiting = _Waiting(given, asyncio.get_running_loop().create_future())
        desk.inbox.append(waiting)
        if desk.worker is None:
            desk.worker = self._spawn(self._work(job, desk))
        return await waiting.done

    async def report(self, executor: str, job: str, report: jobs.Report) -> None:
        """Take an executor's report; one about a job that has ended, or that never was, changes nothing.

        A job that the ledger does not know may be another engine's: the log will tell.
        """
        head = self._book.ledger.head("job", job)
        if head is None or head.open:
            await self.submit(job, Input(f"executor:{executor}", report))

    async def state(self, job: str) -> Aggregate[JobState]:
        """Return the job as it is on the log, from memory or read again.

        While a commit is under way the state in memory is ahead of the log: what it says to launch may never be.
        """
        desk, head = self._desks.get(job), self._book.ledger.head("job", job)
        at_rest = desk is not None and desk.worker is None
        if desk and at_rest and desk.aggregate and (head is None or desk.aggregate.version >= head.version):
            return desk.aggregate
        aggregate = await self._book.load("job", job)
        if (desk := self._desks.get(job)) and desk.worker:
            return aggregate
        if aggregate.version and not aggregate.state.ended:
            desk = self._desks.setdefault(job, _Desk(deque()))
            if desk.aggregate is None or desk.aggregate.version < aggregate.version:
                desk.aggregate = aggregate
            return desk.aggregate
        return aggregate

    async def recover(self, executor: str | None = None) -> int:
        """Take up every job that has not ended: launch and stop again what is outstanding; returns how many.

        Launching again means adopting. With `executor`, only that executor's sessions are dispatched. None are
        while evidence of loss is open: what the log lost may be a launch or an end.
        """
        if self._book.integrity.open:
            return 0
        await self._book.keep_up()
        heads = self._book.ledger.open_heads("job")
        for head in heads:
            try:
                aggregate = await self.state(head.id)
            except HistoryDamaged as error:
                log.warning("job.quarantined", job=head.id, error=str(error), hint=error.hint)
                continue
            except StoreUnanswered as error:
                log.warning("job.unread", job=head.id, error=str(error), hint="The next start takes it up.")
                continue
            if aggregate.state.created is None:
                continue
            for task in aggregate.state.outstanding():
                if executor and executor_of(aggregate.state, task.shape.name) != executor:
                    continue
                self._sessions.launch(aggregate.state, task.shape.name)
                if task.stop_requested:
                    self._sessions.stop(aggregate.state, task.shape.name)
            self._launch_rest(aggregate)
        return len(heads)

    async def live(self, executor: str) -> Owned:
        """Return what the log owns on an executor; of a job that can't be read it is not known.

        Raises LogDamaged while evidence of loss is open: what seems to belong to nobody may be in what was lost.
        """
        self._book.integrity.refuse()
        await self._book.keep_up()
        found: set[str] = set()
        unknown: set[str] = set()
        for head in self._book.ledger.open_heads("job"):
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
        ledger = self._book.ledger
        return Owned(
            found,
            lambda job: (
                job not in unknown
                and ledger.head("job", job) is not None
                and ledger.quarantined("job", job) is None
            ),
        )

    async def resume(self) -> None:
        """Drop what was folded before an operator decided about damage, and resume the open jobs."""
        for desk in self._desks.values():
            desk.aggregate = None
        await self.recover()

    async def all_ended(self) -> None:
        """Return once no job is open; every open job must be in memory, as after `recover`."""
        while any(
            desk.worker or (desk.aggregate and not desk.aggregate.state.ended) for desk in self._desks.values()
        ):
            self._one_ended.clear()
            await self._one_ended.wait()

    async def close(self) -> None:
        """Stop working; what was not committed was not answered either."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self, job: str, desk: _Desk) -> None:
        while desk.inbox:
            try:
                await self._commit_waiting(job, desk)
            except AppendConflict:
                desk.aggregate = None  # another writer was here: fold again and decide again
            except Exception as problem:
                desk.aggregate = None
                self._give_up(job, desk, problem)
        desk.worker = None
        if desk.aggregate is None or desk.aggregate.state.ended or desk.aggregate.version == 0:
            self._desks.pop(job, None)
            self._one_ended.set()

    @staticmethod
    def _give_up(job: str, desk: _Desk, problem: Exception) -> None:
        log.error("job.commit_failed", job=job, error=repr(problem))
        while desk.inbox:
            waiting = desk.inbox.popleft()
            if not waiting.done.done():
                waiting.done.set_exception(problem)

    async def _commit_waiting(self, job: str, desk: _Desk) -> None:
        """Put all that waits into one commit; inputs leave the inbox once it is acknowledged."""
        aggregate = desk.aggregate or await self._book.load("job", job)
        desk.aggregate = aggregate
        draft, taken = self._decide(aggregate, desk.inbox)
        seq = aggregate.seq
        if draft.events:
            failpoint("engine.commit.before")
            seq = await self._book.write(draft)
            failpoint("engine.commit.acked")
            self._hand_on(aggregate, draft.events)
        elif taken and not await self._book.is_current(aggregate):
            raise AppendConflict("what seems to change nothing may change what another engine made of the job")
        for waiting, outcome in taken:
            desk.inbox.popleft()
            if waiting.done.done():
                continue
            if isinstance(outcome, Refused):
                waiting.done.set_exception(outcome)
            else:
                waiting.done.set_result(Answered(seq, aggregate.version, changed=outcome))

    def _decide(
        self, aggregate: Aggregate[JobState], inbox: deque[_Waiting]
    ) -> tuple[Draft, list[tuple[_Waiting, bool | Refused]]]:
        """Decide on what waits; each input's outcome (changed or not, or refused) counts once that is stored."""
        draft = Draft(aggregate, [], [], [])
        taken: list[tuple[_Waiting, bool | Refused]] = []
        for waiting in tuple(inbox):
            try:
                aggregate.state, events, causes = step(
                    _DECIDER, aggregate.state, waiting.given.command, len(draft.inputs), len(draft.events)
                )
            except Refused as refused:
                taken.append((waiting, refused))
                continue
            if events:
                waiting.given.correlation = waiting.given.correlation or aggregate.correlation
                aggregate.correlation = aggregate.correlation or waiting.given.correlation
                draft.inputs.append(waiting.given)
                draft.events += events
                draft.causes += causes
            taken.append((waiting, bool(events)))
            if len(draft.events) >= EVENTS_PER_COMMIT:
                break
        return draft, taken

    def _hand_on(self, aggregate: Aggregate[JobState], events: list[facts.AnyJobEvent]) -> None:
        """Hand on the intents of a stored commit, in their order."""
        for event in events:
            if isinstance(event, facts.TaskLaunchRequested):
                self._sessions.launch(aggregate.state, event.task)
            elif isinstance(event, facts.TaskStopRequested):
                self._sessions.stop(aggregate.state, event.task)
        self._launch_rest(aggregate)
        if aggregate.state.ended:
            self._sessions.forget(aggregate.state)

    def _launch_rest(self, aggregate: Aggregate[JobState]) -> None:
        """A commit launches some hundred tasks at most; what is ready still follows in the next."""
        if aggregate.state.may_launch:
            self._spawn(self._launch_ready(aggregate.id))

    async def _launch_ready(self, job: str) -> None:
        try:
            await self.submit(job, Input("engine", jobs.LaunchReady()))
        except Exception as problem:
            log.warning("job.launch_rest_failed", job=job, error=repr(problem))
            await asyncio.sleep(_RETRY)
            self._spawn(self._launch_ready(job))
