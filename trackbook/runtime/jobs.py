"""The owner of jobs: a mailbox each, one commit for all that waits in it, and its intents once that is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import structlog
from msgspec import Struct

from trackbook.adapters.execution.back_off import BackOff
from trackbook.engine import intents
from trackbook.engine import job as jobs
from trackbook.engine.decider import Decision, answer, next_due, take_due
from trackbook.engine.errors import Refused
from trackbook.engine.intents import Intent, Launch, Stop
from trackbook.engine.job import AnyJobCommand
from trackbook.engine.job_state import LIVE, JobState
from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import AppendConflict, Owned, StoreUnanswered
from trackbook.events import job as facts
from trackbook.events.commit import Input
from trackbook.failpoints import failpoint
from trackbook.runtime.aggregate import Aggregate, Draft
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.session_dispatcher import SessionDispatcher, executor_of

EVENTS_PER_COMMIT = 512
"""Events from which a commit answers no further input, so that none grows without bound; the next one does."""
DUE_PER_COMMIT = 256
"""Events that a commit adds of what is due, beside those that answer its inputs; the next ones add the rest."""
_RETRY, _LONGEST_RETRY = 0.2, 5.0  # seconds

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


class _JobMailbox(Struct):
    """One job's inbox, and its state while it is in memory."""

    inbox: deque[_Waiting]
    aggregate: Aggregate[JobState] | None = None
    worker: asyncio.Task[None] | None = None


class Jobs:
    """Owns the jobs that have not ended: decides, commits, and hands launches and stops to the executors."""

    def __init__(self, aggregates: AggregateStore, sessions: SessionDispatcher) -> None:
        self._aggregates = aggregates
        self._sessions = sessions
        self._mailboxes: dict[str, _JobMailbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._retried: set[str] = set()
        self._one_ended = asyncio.Event()

    async def submit(self, job: str, given: Input[AnyJobCommand]) -> Answered:
        """Decide on the input and return once its commit is on the log; raises Refused."""
        mailbox = self._mailboxes.setdefault(job, _JobMailbox(deque()))
        waiting = _Waiting(given, asyncio.get_running_loop().create_future())
        mailbox.inbox.append(waiting)
        self._wake(job, mailbox)
        return await waiting.done

    async def report(self, executor: str, job: str, report: jobs.Report) -> None:
        """Take an executor's report; one about a job that has ended, or that never was, changes nothing.

        A job that the ledger does not know may be another engine's: the log will tell.
        """
        head = self._aggregates.ledger.head("job", job)
        if head is None or head.open:
            await self.submit(job, Input(f"executor:{executor}", report))

    async def state(self, job: str) -> Aggregate[JobState]:
        """Return the job as it is on the log, from memory or read again.

        While a commit is under way the state in memory is ahead of the log: what it says to launch may never be.
        """
        mailbox, head = self._mailboxes.get(job), self._aggregates.ledger.head("job", job)
        at_rest = mailbox is not None and mailbox.worker is None
        if (
            mailbox
            and at_rest
            and mailbox.aggregate
            and (head is None or mailbox.aggregate.version >= head.version)
        ):
            return mailbox.aggregate
        aggregate = await self._aggregates.load("job", job)
        if (mailbox := self._mailboxes.get(job)) and mailbox.worker:
            return aggregate
        if aggregate.version and not aggregate.state.ended:
            mailbox = self._mailboxes.setdefault(job, _JobMailbox(deque()))
            if mailbox.aggregate is None or mailbox.aggregate.version < aggregate.version:
                mailbox.aggregate = aggregate
            return mailbox.aggregate
        return aggregate

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
            if aggregate.state.created is None:
                continue
            for intent in intents.outstanding(aggregate.state):
                if not executor or executor_of(aggregate.state, intent.task) == executor:
                    self._dispatch(aggregate.state, intent)
            self._take_up(aggregate)
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

    async def resume(self) -> None:
        """Drop what was folded before an operator decided about damage, and resume the open jobs."""
        for mailbox in self._mailboxes.values():
            mailbox.aggregate = None
        await self.recover()

    async def all_ended(self) -> None:
        """Return once no job is open; every open job must be in memory, as after `recover`."""
        while any(
            mailbox.worker or (mailbox.aggregate and not mailbox.aggregate.state.ended)
            for mailbox in self._mailboxes.values()
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

    def _wake(self, job: str, mailbox: _JobMailbox) -> None:
        if mailbox.worker is None:
            mailbox.worker = self._spawn(self._work(job, mailbox))

    def _take_up(self, aggregate: Aggregate[JobState]) -> None:
        """Have committed what is due in a job to which nobody says anything."""
        if next_due(_DECIDER, aggregate.state):
            self._wake(aggregate.id, self._mailboxes.setdefault(aggregate.id, _JobMailbox(deque())))

    async def _work(self, job: str, mailbox: _JobMailbox) -> None:
        """Commit until nothing waits and nothing is due."""
        going = True
        while going or mailbox.inbox:
            try:
                going = await self._commit(job, mailbox)
            except AppendConflict as conflict:
                mailbox.aggregate = None  # another writer was here: fold again and decide again
                self._return_commands(mailbox, conflict)
            except Exception as problem:
                mailbox.aggregate, going = None, False
                self._give_up(job, mailbox, problem)
                self._take_up_later(job)
        mailbox.worker = None
        if mailbox.aggregate is None or mailbox.aggregate.state.ended or mailbox.aggregate.version == 0:
            self._mailboxes.pop(job, None)
            self._one_ended.set()

    def _take_up_later(self, job: str) -> None:
        """Take the job up after a commit that failed: what was due is still due."""
        if job not in self._retried:
            self._retried.add(job)
            self._spawn(self._retry(job))

    async def _retry(self, job: str) -> None:
        back_off = BackOff(_RETRY, _LONGEST_RETRY)
        while job in self._retried:
            await back_off.pause()
            try:
                aggregate = await self.state(job)
            except HistoryDamaged as error:
                log.warning("job.quarantined", job=job, error=str(error), hint=error.hint)
                self._retried.discard(job)
            except Exception as problem:
                log.warning("job.not_taken_up", job=job, error=repr(problem))
            else:
                self._retried.discard(job)
                self._take_up(aggregate)

    @staticmethod
    def _return_commands(mailbox: _JobMailbox, conflict: AppendConflict) -> None:
        """Let the outcome of each command be looked up: another engine may have carried it out."""
        for waiting in tuple(mailbox.inbox):
            if waiting.given.id:
                mailbox.inbox.remove(waiting)
                if not waiting.done.done():
                    waiting.done.set_exception(conflict)

    @staticmethod
    def _give_up(job: str, mailbox: _JobMailbox, problem: Exception) -> None:
        log.error("job.commit_failed", job=job, error=repr(problem))
        while mailbox.inbox:
            waiting = mailbox.inbox.popleft()
            if not waiting.done.done():
                waiting.done.set_exception(problem)

    async def _commit(self, job: str, mailbox: _JobMailbox) -> bool:
        """Put what waits and what is due into one commit; returns whether more is due.

        Inputs leave the inbox once it is acknowledged.
        """
        aggregate = mailbox.aggregate or await self._aggregates.load("job", job)
        mailbox.aggregate = aggregate
        draft, taken = self._decide(aggregate, mailbox.inbox)
        seq = aggregate.seq
        if draft.events:
            failpoint("engine.commit.before")
            seq = await self._aggregates.write(draft)
            failpoint("engine.commit.acked")
            self._dispatch_stored(aggregate, draft.events)
        elif taken and not await self._aggregates.is_current(aggregate):
            raise AppendConflict("what seems to change nothing may change what another engine made of the job")
        for waiting, outcome in taken:
            mailbox.inbox.popleft()
            if waiting.done.done():
                continue
            if isinstance(outcome, Refused):
                waiting.done.set_exception(outcome)
            else:
                waiting.done.set_result(Answered(seq, aggregate.version, changed=outcome))
        return next_due(_DECIDER, aggregate.state) is not None

    @staticmethod
    def _decide(
        aggregate: Aggregate[JobState], inbox: deque[_Waiting]
    ) -> tuple[Draft, list[tuple[_Waiting, bool | Refused]]]:
        """Decide on what waits and take what is due then.

        Each input's outcome (changed or not, or refused) counts once that is stored.
        """
        decision = Decision[JobState, facts.AnyJobEvent](aggregate.state)
        draft = Draft(aggregate, [], decision.events, decision.causes)
        taken: list[tuple[_Waiting, bool | Refused]] = []
        for waiting in tuple(inbox):
            given = waiting.given
            try:
                changed = answer(_DECIDER, decision, given.command, len(draft.inputs))
            except Refused as refused:
                taken.append((waiting, refused))
                continue
            if changed:
                given.correlation = given.correlation or aggregate.correlation
                aggregate.correlation = aggregate.correlation or given.correlation
                draft.inputs.append(given)
            taken.append((waiting, changed))
            if len(decision.events) >= EVENTS_PER_COMMIT:
                break
        if take_due(_DECIDER, decision, len(draft.inputs), DUE_PER_COMMIT):
            draft.inputs.append(Input("engine", None, correlation=aggregate.correlation))
        aggregate.state = decision.state
        return draft, taken

    def _dispatch_stored(self, aggregate: Aggregate[JobState], events: list[facts.AnyJobEvent]) -> None:
        """Dispatch the intents of a stored commit, in their order."""
        for event in events:
            for intent in intents.of(event):
                self._dispatch(aggregate.state, intent)
        if aggregate.state.ended:
            self._sessions.forget(aggregate.state)

    def _dispatch(self, state: JobState, intent: Intent) -> None:
        match intent:
            case Launch():
                self._sessions.launch(state, intent.task)
            case Stop():
                self._sessions.stop(state, intent.task)
