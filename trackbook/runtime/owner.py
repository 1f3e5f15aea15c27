"""The owner of aggregates: a mailbox each, one commit for all that waits in it, conflicts decided again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog
from msgspec import Struct

from trackbook.adapters.execution.back_off import BackOff
from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.engine.decider import Decision, answer, next_due, take_due
from trackbook.engine.errors import Refused
from trackbook.engine.kinds import KINDS, Companion
from trackbook.engine.ports import AppendConflict
from trackbook.events.commit import Input
from trackbook.failpoints import failpoint
from trackbook.runtime.aggregate import Aggregate, Draft
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.histories import HistoryDamaged
from trackbook.runtime.mailboxes import Admit, Answered, AnsweredBefore, Complete, Mailbox, Mailboxes, Waiting

EVENTS_PER_COMMIT = 512
"""Events from which a commit answers no further input, so that none grows without bound; the next one does."""
DUE_PER_COMMIT = 256
"""Events that a commit adds of what is due, beside those that answer its inputs; the next ones add the rest."""
_RETRY, _LONGEST_RETRY = 0.2, 5.0  # seconds

log = structlog.get_logger(__name__)
Stored = Callable[[Aggregate[Any], list[Any]], None]


class _Decided(Struct):
    """The commits of one decision, companions first, and what each input is answered once they are stored.

    `is_spoilt` says that the aggregate was folded and nothing of that is to be stored.
    """

    drafts: list[Draft] = []
    outcomes: list[tuple[Waiting, bool | Refused | AnsweredBefore]] = []
    is_spoilt: bool = False


class Owner:
    """Decides on aggregates of every kind, see `engine/kinds.py`.

    An aggregate's state is in memory only while it is what the log says: a commit takes it out, and puts it back
    once it is stored. What ended leaves memory, and so does what is idle beyond `Kind.kept`.
    """

    def __init__(self, aggregates: AggregateStore) -> None:
        self.aggregates = aggregates
        self._mailboxes = Mailboxes()
        self._epoch = 0
        self._stored: dict[str, Stored] = {}
        self._retried: set[tuple[str, str]] = set()
        self._tasks = TaskSupervisor()

    def on_stored(self, kind: str, stored: Stored) -> None:
        """Have `stored` called with each commit of a kind, once it is on the log: it carries out the intents."""
        self._stored[kind] = stored

    async def submit(
        self,
        kind: str,
        id: str,  # noqa: A002
        given: Input[Any],
        admit: Admit | None = None,
        complete: Complete | None = None,
    ) -> Answered:
        """Decide on the input and return once its commit is on the log; raises Refused.

        `admit` gets the state before the decision; it raises AppendConflict where the command is for another.
        `complete` gets the state after it, its events and its version, and returns the reply. Only inputs of a
        versioned kind have one, and they may be refused there still.

        A command, which has an id, fails with AppendConflict where another writer came first, and with
        AnsweredBefore where it is in the history: its outcome is looked up. All else is decided again.
        """
        with self._mailboxes.use(kind, id) as mailbox:
            async with mailbox.room:
                waiting = Waiting(given, admit, complete)
                mailbox.inbox.append(waiting)
                self._wake(kind, id, mailbox)
                return await waiting.done

    async def state(self, kind: str, id: str) -> Aggregate[Any]:  # noqa: A002
        """Return the aggregate as it is on the log, from memory or read again.

        It is the owner's: read what you need of it before you await anything else.
        """
        mailbox = self._mailboxes.get(kind, id)
        if mailbox and not mailbox.lock.locked() and (current := self._in_memory(kind, id, mailbox)):
            return current
        aggregate = await self.aggregates.load(kind, id)
        if not aggregate.version or KINDS[kind].ended(aggregate.state):
            return aggregate
        with self._mailboxes.use(kind, id) as mailbox:
            if mailbox.lock.locked():
                return aggregate
            if mailbox.aggregate is None or mailbox.aggregate.version < aggregate.version:
                mailbox.aggregate = aggregate
            return mailbox.aggregate

    async def wait_for_state(self, kind: str, id: str) -> Aggregate[Any]:  # noqa: A002
        """Return the aggregate as `state` does, once no commit of it is under way."""
        async with self._mailboxes.lock(kind, id) as mailbox:
            mailbox.aggregate = await self._take_out(kind, id, mailbox)
            return mailbox.aggregate

    def take_up(self, aggregate: Aggregate[Any]) -> None:
        """Have committed what is due in an aggregate to which nobody says anything."""
        if next_due(KINDS[aggregate.kind].decider, aggregate.state) is not None:
            with self._mailboxes.use(aggregate.kind, aggregate.id) as mailbox:
                self._wake(aggregate.kind, aggregate.id, mailbox)

    def forget(self) -> None:
        """Drop what is in memory: an operator decided about damage to the log."""
        self._epoch += 1
        for kind, id_ in self._mailboxes.all():
            with self._mailboxes.use(kind, id_) as mailbox:
                mailbox.aggregate = None

    async def close(self) -> None:
        """Stop working; what was not committed was not answered either."""
        await self._tasks.close()

    def _in_memory(self, kind: str, id: str, mailbox: Mailbox) -> Aggregate[Any] | None:  # noqa: A002
        """Return the aggregate from memory, unless another engine is known to have written it since."""
        aggregate, head = mailbox.aggregate, self.aggregates.ledger.head(kind, id)
        return aggregate if aggregate and (head is None or aggregate.version >= head.version) else None

    async def _take_out(self, kind: str, id: str, mailbox: Mailbox) -> Aggregate[Any]:  # noqa: A002
        aggregate = self._in_memory(kind, id, mailbox) or await self.aggregates.load(kind, id)
        mailbox.aggregate = None
        return aggregate

    # Commits -------------------------------------------------------------------------------------------------

    def _wake(self, kind: str, id: str, mailbox: Mailbox) -> None:  # noqa: A002
        if mailbox.worker is None:
            mailbox.worker = self._tasks.keep(lambda: self._work(kind, id), f"{kind}/{id}")

    async def _work(self, kind: str, id: str) -> None:  # noqa: A002
        """Commit until nothing waits and nothing is due."""
        with self._mailboxes.use(kind, id) as mailbox:
            going = True
            while going or mailbox.inbox:
                going = await self._try_commit(kind, id, mailbox)
            mailbox.worker = None

    async def _try_commit(self, kind: str, id: str, mailbox: Mailbox) -> bool:  # noqa: A002
        """Make one commit; returns whether more is to be done at once."""
        try:
            return await self._commit(kind, id)
        except AppendConflict as conflict:  # another writer was here: fold again and decide again
            for waiting in [each for each in mailbox.inbox if each.given.id]:
                mailbox.inbox.remove(waiting)
                waiting.fail(conflict)
            return True
        except Exception as problem:
            self._give_up(kind, id, mailbox, problem)
            return False

    def _give_up(self, kind: str, id: str, mailbox: Mailbox, problem: Exception) -> None:  # noqa: A002
        """Fail what waits; what is due comes later."""
        log.error("commit.failed", kind=kind, id=id, error=repr(problem))
        while mailbox.inbox:
            mailbox.inbox.popleft().fail(problem)
        if (kind, id) not in self._retried:
            self._retried.add((kind, id))
            self._tasks.spawn(self._retry(kind, id), f"retry of {kind}/{id}")

    async def _retry(self, kind: str, id: str) -> None:  # noqa: A002
        """Take the aggregate up after a commit that failed: what was due is still due."""
        back_off = BackOff(_RETRY, _LONGEST_RETRY)
        while (kind, id) in self._retried:
            await back_off.pause()
            try:
                aggregate = await self.state(kind, id)
            except HistoryDamaged as error:
                log.warning("commit.quarantined", kind=kind, id=id, error=str(error), hint=error.hint)
                self._retried.discard((kind, id))
            except Exception as problem:
                log.warning("commit.not_retried", kind=kind, id=id, error=repr(problem))
            else:
                self._retried.discard((kind, id))
                self.take_up(aggregate)

    async def _commit(self, kind: str, id: str) -> bool:  # noqa: A002
        """Put what waits and what is due into one commit; returns whether more is due.

        Inputs leave the inbox once it is acknowledged.
        """
        epoch = self._epoch
        async with AsyncExitStack() as held:
            mailbox = await held.enter_async_context(self._mailboxes.lock(kind, id))
            aggregate = await self._take_out(kind, id, mailbox)
            decided = await self._decide(aggregate, tuple(mailbox.inbox), held)
            seq = aggregate.seq
            if decided.drafts:
                failpoint("engine.commit.before")
                seq = await self.aggregates.write(*decided.drafts)
                failpoint("engine.commit.acked")
            elif decided.outcomes:
                await self._check_current(aggregate)
            if epoch == self._epoch and not decided.is_spoilt:
                self._put_back(aggregate, *(draft.aggregate for draft in decided.drafts))
            self._report_stored(decided.drafts)
            for waiting, outcome in decided.outcomes:
                mailbox.inbox.popleft()
                if isinstance(outcome, Exception):
                    waiting.fail(outcome)
                elif not waiting.done.done():
                    waiting.done.set_result(Answered(seq, aggregate.version, changed=outcome))
            return next_due(KINDS[kind].decider, aggregate.state) is not None

    def _put_back(self, *aggregates: Aggregate[Any]) -> None:
        """Have aggregates in memory again: they are what the log says."""
        for aggregate in aggregates:
            with self._mailboxes.use(aggregate.kind, aggregate.id) as mailbox:
                mailbox.aggregate = aggregate

    def _report_stored(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            if stored := self._stored.get(draft.aggregate.kind):
                stored(draft.aggregate, draft.events)

    async def _decide(
        self, aggregate: Aggregate[Any], inbox: tuple[Waiting, ...], held: AsyncExitStack
    ) -> _Decided:
        """Decide on what waits and take what is due then; the outcomes count once that is stored."""
        how = KINDS[aggregate.kind]
        decision = Decision[Any, Any](aggregate.state)
        draft = Draft(aggregate, [], decision.events, decision.causes)
        decided = _Decided()
        for waiting in inbox:
            try:
                changed = await self._answer(waiting, draft, decision, decided, held)
            except (Refused, AnsweredBefore) as refused:
                decided.outcomes.append((waiting, refused))
                if how.versioned and decision.events:
                    return _Decided([], decided.outcomes, is_spoilt=True)
                continue
            decided.outcomes.append((waiting, changed))
            if len(decision.events) >= (1 if how.versioned else EVENTS_PER_COMMIT):
                break
        if take_due(how.decider, decision, len(draft.inputs), DUE_PER_COMMIT):
            draft.inputs.append(Input("engine", None, correlation=aggregate.correlation))
        aggregate.state = decision.state
        if draft.events:
            decided.drafts.append(draft)
        return decided

    async def _answer(
        self,
        waiting: Waiting,
        draft: Draft,
        decision: Decision[Any, Any],
        decided: _Decided,
        held: AsyncExitStack,
    ) -> bool:
        """Decide on one input, with the companions that this takes; returns whether it changed anything."""
        how, aggregate, given = KINDS[draft.aggregate.kind], draft.aggregate, waiting.given
        if given.id in aggregate.answered:
            raise AnsweredBefore(aggregate.kind, aggregate.id)
        if waiting.admit:
            waiting.admit(decision.state)
        before = how.claims(decision.state)
        decide = partial(answer, how.decider, decision, given.command, len(draft.inputs))
        changed = await asyncio.to_thread(decide) if how.versioned else decide()
        if changed:
            decided.drafts += await self._companions(how.companions(before, decision.state), given, held)
        if waiting.complete:
            given.reply = await waiting.complete(decision.state, decision.events, aggregate.version + changed)
        if changed:
            given.correlation = given.correlation or aggregate.correlation
            aggregate.correlation = aggregate.correlation or given.correlation
            draft.inputs.append(given)
        return changed

    async def _companions(
        self, commands: list[Companion], given: Input[Any], held: AsyncExitStack
    ) -> list[Draft]:
        """Return the commits of other aggregates that belong to a decision, one each; raises Refused.

        One that changes nothing, or refuses, has no commit that would conflict: what it was decided on is looked
        at again. Else a name that another engine has just given to a pipeline outlives that pipeline.
        """
        drafts = {}
        for kind, id_ in sorted({(kind, id_) for kind, id_, _ in commands}):
            mailbox = await held.enter_async_context(self._mailboxes.lock(kind, id_))
            drafts[kind, id_] = Draft(await self._take_out(kind, id_, mailbox), [], [], [])
        order = dict.fromkeys((kind, id_) for kind, id_, _ in commands)
        try:
            for kind, id_, command in commands:
                _extend(drafts[kind, id_], Input(given.actor, command, correlation=given.correlation))
        except Refused:
            await self._check_current(*(draft.aggregate for draft in drafts.values()))
            raise
        await self._check_current(*(draft.aggregate for draft in drafts.values() if not draft.events))
        return [drafts[key] for key in order if drafts[key].events]

    async def _check_current(self, *aggregates: Aggregate[Any]) -> None:
        """Raise AppendConflict where another engine has written one of the aggregates since it was folded."""
        for aggregate in aggregates:
            if not await self.aggregates.is_current(aggregate):
                raise AppendConflict("what seems to change nothing may change what another engine made of it")


def _extend(draft: Draft, given: Input[Any]) -> None:
    """Decide on one more input of a commit."""
    aggregate = draft.aggregate
    decision = Decision[Any, Any](aggregate.state, draft.events, draft.causes)
    if answer(KINDS[aggregate.kind].decider, decision, given.command, len(draft.inputs)):
        draft.inputs.append(given)
    aggregate.state = decision.state
