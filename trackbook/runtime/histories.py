"""Reading histories: bytes to commits, each checked against the one before it; what is damaged is quarantined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import structlog

from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import Fault
from trackbook.engine.kinds import KINDS, Kind
from trackbook.engine.ports import Blobs, EventStore, Stored
from trackbook.errors import UserError
from trackbook.events.chain import Link, fault
from trackbook.events.commit import Commit, digest
from trackbook.runtime.integrity.evidence import Integrity, range_text

log = structlog.get_logger(__name__)
AnyCommit = Commit[Any, Any]

CANT_FOLLOW = (LookupError, ValueError, TypeError, AttributeError, AssertionError)
"""What folding raises for events that are well formed and can't follow."""

_FOLDED_AT_ONCE = 2_000
"""Events that are folded on the event loop in one go: some milliseconds."""


class HistoryDamaged(UserError):
    """An aggregate's history is not intact: it is neither shown nor decided on; `fault` is the first commit."""

    def __init__(self, found: Fault) -> None:
        self.fault = found
        name = f"{found.kind}/{found.id}"
        super().__init__(
            f"the history of {name} is damaged at sequence {found.seq}: {found.reason}",
            f"`trackbook quarantine show {name}` tells more.",
        )


class Unreadable(Exception):
    """This code does not know what stands in a commit: its aggregate can't be folded or decided on."""


async def take(how: Kind, state: Any, commit: AnyCommit) -> Any:
    """Return the state after a commit; others run meanwhile."""
    if len(commit.events) > _FOLDED_AT_ONCE:
        return await asyncio.to_thread(how.take, state, commit)
    await asyncio.sleep(0)
    return how.take(state, commit)


def cant_follow_reason(error: Exception) -> str:
    """Return in words that a commit's events can't be folded."""
    return f"its events can't follow what was before: {error!r}"


class Histories:
    """Reads the histories of aggregates, without those commits that an operator dismissed.

    A commit that can't be read or can't follow puts its aggregate into the ledger's quarantine.
    """

    def __init__(self, store: EventStore, blobs: Blobs, integrity: Integrity) -> None:
        self._store = store
        self._blobs = blobs
        self._integrity = integrity

    async def decode(self, stored: Stored) -> AnyCommit:
        """Return the commit, its body fetched where it stands in a blob; raises Unreadable."""
        try:
            how = KINDS[stored.kind]
            commit: AnyCommit = how.commits.decode(stored.data)
            if commit.blob:
                body = how.bodies.decode(await self._blobs.get(commit.blob.sha256))
                commit.inputs, commit.events, commit.causes = body.inputs, body.events, body.causes
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError, RecursionError) as error:
            raise Unreadable(f"it can't be read: {error}") from error
        return commit

    async def examine(self, stored: Stored, link: Link) -> tuple[AnyCommit | None, str]:
        """Return the message's commit, None if it can't be read, and why it can't follow `link`; '' if it can."""
        try:
            commit = await self.decode(stored)
        except Unreadable as error:
            return None, str(error)
        why = fault(link, stored.kind, stored.id, commit)
        return commit, why or ("" if commit.events else "it has no events")

    async def read(
        self,
        ledger: Ledger,
        kind: str,
        id: str,  # noqa: A002
    ) -> AsyncIterator[tuple[Stored, AnyCommit | None]]:
        """Yield the aggregate's messages with their commits, None for one that was dismissed.

        Raises HistoryDamaged at the first commit that can't follow, as it does for an aggregate in quarantine.
        """
        if standing := ledger.quarantined(kind, id):
            raise HistoryDamaged(standing)
        known = ledger.head(kind, id)
        link, before = Link(), 0
        async for stored in self._store.read(kind, id, known.first_seq if known else 1):
            if self._integrity.is_dismissed(stored.seq, stored.data):
                yield stored, None
                continue
            commit, why = await self.examine(stored, link)
            if commit is None or why:
                raise await self.quarantine(ledger, stored, commit, why, link, before)
            link, before = Link(commit.version, digest(stored.data)), stored.seq
            yield stored, commit

    async def quarantine(
        self,
        ledger: Ledger,
        stored: Stored,
        commit: AnyCommit | None,
        why: str,
        link: Link | None = None,
        before: int = 0,
    ) -> HistoryDamaged:
        """Put the aggregate into quarantine and return what to raise.

        Where versions are missing behind `link`, at sequence `before`, and sequences of the log with them, that
        is evidence of loss.
        """
        version = commit.version if commit else 0
        found = Fault(stored.kind, stored.id, stored.seq, digest(stored.data), version, why)
        ledger.add_fault(found)
        name = f"{stored.kind}/{stored.id}"
        log.error("history.damaged", aggregate=name, seq=stored.seq, version=version, found=why)
        if link is not None and version > link.version + 1:
            for first, last in await self._integrity.holes(before + 1, stored.seq - 1):
                lost = f"{range_text(first, last)} of the log is missing"
                message = f"{name} lacks version {link.version + 1}, and {lost}"
                self._integrity.add_evidence("gap", f"{first}-{last}", message, first, last)
        return HistoryDamaged(found)

    async def faults(self, kind: str, id: str) -> tuple[list[Fault], int]:  # noqa: A002
        """Return the commits that can't follow the intact ones, in order, and the last intact version.

        Raises ValueError for what can't be part of a subject.
        """
        found: dict[int, Fault] = {}
        while isinstance(more := await self._faults(kind, id, found), Fault):
            found[more.seq] = more
        return [found[seq] for seq in sorted(found)], more

    async def _faults(self, kind: str, id: str, found: dict[int, Fault]) -> Fault | int:  # noqa: A002
        """Add to `found` the commits that can't follow and return the last intact version.

        Returns a commit that can't be folded at once: the state is spoilt, and all has to be read again.
        """
        how, link = KINDS.get(kind), Link()
        state = how.decider.initial(id) if how else None
        async for stored in self._store.read(kind, id):
            if stored.seq in found or self._integrity.is_dismissed(stored.seq, stored.data):
                continue
            sha256 = digest(stored.data)
            commit, why = await self.examine(stored, link)
            version = commit.version if commit else 0
            if commit is None or why or how is None:
                found[stored.seq] = Fault(kind, id, stored.seq, sha256, version, why)
                continue
            try:
                state = await take(how, state, commit)
            except CANT_FOLLOW as error:
                return Fault(kind, id, stored.seq, sha256, version, cant_follow_reason(error))
            link = Link(version, sha256)
        return link.version
