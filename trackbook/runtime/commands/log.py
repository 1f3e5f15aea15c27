"""Commands about damage to the log: accept a loss, release an aggregate from quarantine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from trackbook.engine.errors import Refused
from trackbook.engine.log import AcceptLoss, AnyLogCommand, DismissCommits
from trackbook.engine.ports import StoreUnanswered
from trackbook.events.log import Dismissed, Evidence
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.commands import requests
from trackbook.runtime.commands.requests import CommandRequest, Reply, Warning_

log = structlog.get_logger(__name__)

_DESCRIBED = 50
"""Commits that a reply describes; all of them are on the log."""


class LogCommands:
    """Handlers of `log.accept-loss` and `quarantine.release`.

    `resume` is called once the log may be decided on again: drop what was folded, and resume the open jobs.
    """

    def __init__(self, aggregates: AggregateStore, resume: Callable[[], Awaitable[None]]) -> None:
        self._aggregates = aggregates
        self._resume = resume

    async def accept_loss(self, asked: CommandRequest) -> Reply:
        """`log.accept-loss`: accepted once it is on the log; commands are taken again then."""
        request = asked.request
        assert isinstance(request, requests.AcceptLoss)
        found = {each.id: each for each in self._aggregates.integrity.open}
        if unknown := sorted(set(request.evidence) - found.keys()):
            message = f"there is no open evidence {unknown[0]!r}"
            raise Refused("evidence_not_found", message, "evidence", hint="`trackbook log status` lists it.")
        accepted = [each for each in found.values() if not request.evidence or each.id in request.evidence]
        reply = Reply(
            command_id=asked.command_id,
            status="accepted",
            changes=[f"accepted: {each.message}" for each in accepted[:_DESCRIBED]],
        )
        if accepted:
            # The ledger comes first: a crash in between leaves the evidence open, and a ledger that is right.
            await self._aggregates.rebuild_ledger()
            if any(each.kind == "limits" for each in accepted):
                accepted += await self._restore_limits(reply)
            reply.seq = await self._decide(asked, reply, AcceptLoss(accepted))
            await self._follow_up(self._resume)
        return reply

    async def release(self, asked: CommandRequest) -> Reply:
        """`quarantine.release`: the aggregate continues as of its last intact version."""
        request = asked.request
        assert isinstance(request, requests.ReleaseQuarantine)
        self._aggregates.integrity.refuse()
        try:
            faults, _ = await self._aggregates.histories.faults(request.kind, request.id)
        except ValueError:  # what can't be part of a subject
            faults = []
        name = f"{request.kind}/{request.id}"
        if not faults:
            hint = "`trackbook quarantine list` shows what is."
            raise Refused("not_quarantined", f"{name} is not in quarantine", "id", hint=hint)
        reply = Reply(
            command_id=asked.command_id,
            status="accepted",
            name=name,
            changes=[f"left out: sequence {each.seq}, {each.reason}" for each in faults[:_DESCRIBED]],
        )
        left_out = [Dismissed(each.seq, each.sha256) for each in faults]
        command = DismissCommits(request.kind, request.id, left_out, faults[0].reason)
        reply.seq = await self._decide(asked, reply, command)
        await self._follow_up(self._aggregates.rebuild_ledger, self._resume)
        return reply

    async def _follow_up(self, *steps: Callable[[], Awaitable[None]]) -> None:
        """Take the steps that follow from what is on the log now, in the background while the broker is away."""
        try:
            for step in steps:
                await step()
        except StoreUnanswered as error:
            log.warning("log.not_resumed", error=str(error), hint="It is tried again until the broker answers.")
            self._aggregates.ledger.on_damage()

    async def _restore_limits(self, reply: Reply) -> list[Evidence]:
        """Have the streams keep every message again; returns evidence of what the broker does not put back.

        It comes before the acceptance, so that a crash in between hides nothing.
        """
        known = {each.id for each in self._aggregates.integrity.open}
        reply.changes, reply.warnings = reply.changes or [], []
        for each in await self._aggregates.store.restore_limits():
            settings = "; ".join(each.settings)
            if not each.problem:
                log.warning("log.limits_restored", stream=each.stream, changed=settings)
                reply.changes.append(f"put back: limits of the stream {each.stream}: {settings}")
                continue
            log.error("log.limits_not_restored", stream=each.stream, changed=settings, problem=each.problem)
            message = (
                f"limits of the stream {each.stream} could not be put back ({each.problem}), and it may continue"
                f" losing messages: {settings}. Change them with `nats stream edit {each.stream}` and the rights"
                " of the broker's owner, or make a backup and restore it into a new data directory"
            )
            reply.warnings.append(Warning_(code="limits_not_restored", message=message))
        if not reply.warnings:
            reply.warnings = None
            return []
        await self._aggregates.integrity.examine()
        return [e for e in self._aggregates.integrity.open if e.kind == "limits" and e.id not in known]

    async def _decide(self, asked: CommandRequest, reply: Reply, command: AnyLogCommand) -> int:
        return await self._aggregates.decide_on_log(asked.input(command, reply))
