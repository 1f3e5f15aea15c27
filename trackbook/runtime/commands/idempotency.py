"""Idempotency: each command id has one outcome for ever, on the log; the ledger is its index."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from msgspec import Struct

from trackbook.adapters.sql.rows import Outcome
from trackbook.engine.errors import Refused
from trackbook.engine.kinds import KINDS
from trackbook.engine.outcome import AnswerCommand
from trackbook.engine.ports import AppendConflict, StoreUnanswered
from trackbook.events.commit import Input, digest
from trackbook.failpoints import failpoint
from trackbook.runtime.aggregate import REMEMBERS, Aggregate, Draft, outcomes
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.commands.requests import CommandRequest, Handler, Reply, encode_reply, rejection
from trackbook.runtime.mailboxes import AnsweredBefore

log = structlog.get_logger(__name__)
_LOOK_EVERY = 2.0  # seconds between looks whether a command that takes longer waits for the store
_LONGEST = 300.0  # seconds after which a client is answered, whatever its command waits for


class OutcomeUnknown(Exception):
    """A command has no outcome yet: its commit may be stored already, or will be once the store answers."""


class _Work(Struct, eq=False):
    task: asyncio.Task[dict[str, Any]]
    began: float
    waiting: int = 0


class CommandOutcomes:
    """Decides each command once; sent again, at any later time and to any engine, it gets the first answer."""

    def __init__(self, aggregates: AggregateStore) -> None:
        self._aggregates = aggregates
        self._under_way: dict[str, _Work] = {}

    async def once(self, asked: CommandRequest, handler: Handler) -> dict[str, Any]:
        """Return the reply that the log has for the command's id, else have `handler` decide.

        The same id that is under way finishes first. Raises OutcomeUnknown where the commit waits too long
        for the store; it continues all the same, whether its client is still there or not.
        """
        while work := self._under_way.get(asked.command_id):
            await self._wait_for(work)
        if (known := self._lookup(asked)) is not None:
            return _first_reply(known, asked)
        if why := self._aggregates.store.unanswered(0):
            raise StoreUnanswered(why)
        work = _Work(asyncio.create_task(self._decide(asked, handler)), time.monotonic())
        self._under_way[asked.command_id] = work
        work.task.add_done_callback(lambda _: self._end(asked.command_id, work))
        await self._wait_for(work)
        failpoint("engine.reply.before")
        return work.task.result()

    def _end(self, command_id: str, work: _Work) -> None:
        del self._under_way[command_id]
        problem = None if work.task.cancelled() else work.task.exception()
        if problem and not work.waiting:
            log.error("command.failed", command_id=command_id, error=repr(problem))

    async def _wait_for(self, work: _Work) -> None:
        """Return once the command has its outcome; raises OutcomeUnknown."""
        work.waiting += 1
        try:
            while not (await asyncio.wait([work.task], timeout=_LOOK_EVERY))[0]:
                waited = time.monotonic() - work.began
                if why := self._aggregates.store.unanswered(waited):
                    raise OutcomeUnknown(why)
                if waited > _LONGEST:
                    raise OutcomeUnknown(f"it has taken {waited:.0f} s")
        finally:
            work.waiting -= 1

    async def _decide(self, asked: CommandRequest, handler: Handler) -> dict[str, Any]:
        """Have the command decided, again after each conflict: another engine may have carried it out."""
        while (known := await self._find(asked)) is None:
            try:
                reply = await _reply_of(asked, handler)
            except AppendConflict:
                continue
            except AnsweredBefore as before:
                known = await self._read(before.kind, before.id, asked.command_id)
                break
            if reply.seq or getattr(asked.request, "dry_run", False):
                return encode_reply(reply)
            known = await self._find(asked) or await self._record(asked, encode_reply(reply))
            break
        return _first_reply(known, asked)

    def _lookup(self, asked: CommandRequest) -> Outcome | None:
        return self._aggregates.ledger.outcome(asked.command_id) if REMEMBERS else None

    async def _find(self, asked: CommandRequest) -> Outcome | None:
        """Return what this or another engine answered until now."""
        await self._aggregates.keep_up()
        return self._lookup(asked)

    async def _read(self, kind: str, id: str, command_id: str) -> Outcome:  # noqa: A002
        """Return the outcome from the history that has it: the ledger may have lost its row."""
        async for stored, commit in self._aggregates.commits(kind, id):
            for outcome in outcomes(commit, stored.seq):
                if outcome.command_id == command_id:
                    return outcome
        raise LookupError(f"{kind}/{id} has no outcome of the command {command_id}")

    async def _record(self, asked: CommandRequest, reply: dict[str, Any]) -> Outcome:
        """Put the outcome on the log where no aggregate changed; returns the one that stands there."""
        command_id = asked.command_id
        command = AnswerCommand(command_id, asked.digest, reply)
        aggregate = Aggregate[Any]("outcome", digest(command_id.encode())[:32], None)
        draft = Draft(
            aggregate, [Input(asked.actor, command)], KINDS["outcome"].decider.decide(None, command), [0]
        )
        failpoint("engine.outcome.before")
        try:
            seq = await self._aggregates.write(draft)
        except AppendConflict:
            return await self._read("outcome", aggregate.id, command_id)
        failpoint("engine.outcome.acked")
        return Outcome(command_id, asked.digest, reply | {"seq": seq})


async def _reply_of(asked: CommandRequest, handler: Handler) -> Reply:
    try:
        return await handler(asked)
    except Refused as refused:
        return rejection(asked.command_id, refused)


def _first_reply(known: Outcome, asked: CommandRequest) -> dict[str, Any]:
    """Return the reply that is known, a rejection where the id was used with another payload."""
    if known.digest == asked.digest:
        return known.reply
    message = f"the command id {asked.command_id} was used before, with another payload"
    refused = Refused("command_id_reused", message, "command_id", hint="Mint a new id for a new command.")
    return encode_reply(rejection(asked.command_id, refused))
