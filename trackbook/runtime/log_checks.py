"""Checks of the log: show any moment, replay a history, and verify that nothing was changed or removed."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct, field

from trackbook.adapters.sql.rows import Head, Written
from trackbook.engine.decider import Decider, Decision, answer, fold, take_due
from trackbook.engine.errors import Refused
from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import Stored, StoreUnanswered
from trackbook.events.chain import BatchCheck, Link, fault
from trackbook.events.commit import digest
from trackbook.runtime.aggregate import outcomes
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.histories import AnyCommit, take


class Defect(Struct):
    """Something on the log that is not as it was written."""

    seq: int
    aggregate: str
    version: int
    problem: str


class Verified(Struct):
    """What `audit verify` found; `witnessed` aggregates were compared with heads kept outside the broker.

    `accepted` messages are missing and `dismissed` ones are left out, as operators decided.
    """

    aggregates: int = 0
    commits: int = 0
    events: int = 0
    witnessed: int = 0
    accepted: int = 0
    dismissed: int = 0
    defects: list[Defect] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    """Rows that the ledger should have and has not: it is made again from the log."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.defects


class Divergence(Struct):
    """The first place at which today's code decides otherwise than the history says."""

    seq: int
    version: int
    index: int
    expected: Any
    actual: Any


class Replayed(Struct):
    """What a replay compared, and where it first differed."""

    job: str
    commits: int = 0
    events: int = 0
    divergence: Divergence | None = None


class _Chain(Struct):
    """How far one history was read: intact to `link`; `beyond` is what followed a commit that is not."""

    link: Link = Link()
    beyond: Link | None = None
    at_version: dict[int, str] = field(default_factory=dict)


_BLOBS = re.compile(rb'"(?:definition|code_sha256)":"([0-9a-f]{64})"')
"""Where commits and definitions name what they need of the stream of large bodies."""


async def verify(aggregates: AggregateStore, witness: list[Head], written: Written | None = None) -> Verified:
    """Read the whole log and list every gap and every commit that is damaged, missing, reordered or foreign.

    Each aggregate's versions and hash chain, atomic batches, the bodies that commits name, and the heads that the
    `witness` knows are checked; it continues after each defect. What follows from the log up to the checkpoint
    should be `written` in the ledger.
    """
    return await _Verification(aggregates, witness, written or Written()).run()


class _Verification:
    """One reading of the whole log."""

    def __init__(self, aggregates: AggregateStore, witness: list[Head], written: Written) -> None:
        self._aggregates, self._witness, self._written = aggregates, witness, written
        self._heads = {(head.kind, head.id) for head in written.heads}
        self._found = Verified()
        self._chains: dict[tuple[str, str], _Chain] = {}
        self._wanted = {(head.kind, head.id): head.version for head in witness}
        self._batches = BatchCheck()
        self._blobs: dict[str, int] = {}

    async def run(self) -> Verified:
        """Read, compare, and return what was found."""
        expected = 1
        head = await self._aggregates.store.head()
        async for batch in self._aggregates.store.read_all(1):
            for stored in batch:
                self._gap(expected, stored.seq - 1)
                expected = stored.seq + 1
                await self._take(stored)
                await asyncio.sleep(0)  # a long log never makes others wait
        self._gap(expected, head)
        self._half(head, self._batches.end())
        await self._read_bodies()
        self._found.aggregates = len(self._chains)
        await asyncio.to_thread(_compare, self._chains, self._witness, self._found)
        self._add_known()
        return self._found

    def _defect(self, seq: int, aggregate: str, version: int, problem: str) -> None:
        self._found.defects.append(Defect(seq, aggregate, version, problem))

    def _gap(self, first: int, last: int) -> None:
        if first > last:
            return
        if self._aggregates.integrity.is_accepted(first, last):
            self._found.accepted += last - first + 1
        else:
            self._defect(first, "", 0, f"sequences {first} to {last} are missing")

    def _half(self, seq: int, missing: list[str]) -> None:
        for member in missing:
            aggregate, _, version = member.rpartition("/")
            self._defect(seq, aggregate, int(version), "it is missing, and the rest of its atomic batch is there")

    async def _take(self, stored: Stored) -> None:
        if self._aggregates.integrity.is_dismissed(stored.seq, stored.data):
            self._found.dismissed += 1
            return
        chain = self._chains.setdefault((stored.kind, stored.id), _Chain())
        aggregate = f"{stored.kind}/{stored.id}"
        try:
            commit, why = await self._aggregates.histories.examine(stored, chain.link)
        except StoreUnanswered as error:
            commit, why = None, f"its body can't be read: {error}"
        if commit is None:
            self._defect(stored.seq, aggregate, chain.link.version + 1, why)
            return
        self._found.commits += 1
        self._found.events += len(commit.events)
        self._blobs |= dict.fromkeys((m.decode() for m in _BLOBS.findall(stored.data)), stored.seq)
        self._half(stored.seq, self._batches.take(f"{aggregate}/{commit.version}", commit.batch))
        link = Link(commit.version, digest(stored.data))
        self._look_for_rows(stored, commit)
        if not why:
            chain.link = link
            if self._wanted.get((stored.kind, stored.id)) == commit.version:
                chain.at_version[commit.version] = link.sha256
            return
        if chain.beyond is None or fault(chain.beyond, stored.kind, stored.id, commit):
            self._missing(stored.seq, aggregate, chain.link.version, commit.version)
            self._defect(stored.seq, aggregate, commit.version, why)
        chain.beyond = link

    def _look_for_rows(self, stored: Stored, commit: AnyCommit) -> None:
        """Note which rows that follow from a commit are not in the ledger."""
        if stored.seq > self._written.seq:
            return
        if (stored.kind, stored.id) not in self._heads:
            self._heads.add((stored.kind, stored.id))
            self._found.lacking.append(f"head {stored.kind}/{stored.id}")
        commands = (outcome.command_id for outcome in outcomes(commit, stored.seq))
        self._found.lacking += [f"outcome {each}" for each in commands if each not in self._written.commands]

    def _missing(self, seq: int, aggregate: str, last: int, version: int) -> None:
        if version > last + 1:
            self._defect(seq, aggregate, last + 1, f"{_versions(last + 1, version - 1)} missing")

    async def _read_bodies(self) -> None:
        """Read what the commits name, definitions and the archives of code that these name."""
        names = list(self._blobs.items())
        for sha256, seq in names:
            try:
                body = await self._aggregates.blobs.get(sha256)
            except LookupError as error:
                self._defect(seq, "", 0, str(error))
                continue
            except StoreUnanswered as error:  # and so it will be for the others: each takes seconds
                self._defect(seq, "", 0, f"the bodies from here on can't be read: {error}")
                return
            new = {m.decode() for m in _BLOBS.findall(body)} - self._blobs.keys()
            self._blobs |= dict.fromkeys(new, seq)
            names += [(each, seq) for each in new]

    def _add_known(self) -> None:
        """Add what was found otherwise: evidence of loss, and histories that can't be folded."""
        listed = {(defect.seq, defect.aggregate) for defect in self._found.defects}
        for each in self._aggregates.ledger.faults():
            if (each.seq, f"{each.kind}/{each.id}") not in listed:
                self._defect(each.seq, f"{each.kind}/{each.id}", each.version, each.reason)
        for evidence in self._aggregates.integrity.open:
            if evidence.kind != "gap" or (evidence.first, "") not in listed:
                self._defect(evidence.first, "", 0, evidence.message)


def _versions(first: int, last: int) -> str:
    return f"version {first} is" if first == last else f"versions {first} to {last} are"


def _compare(chains: dict[tuple[str, str], _Chain], witness: list[Head], found: Verified) -> None:
    """Hold the log against heads kept outside the broker; a log that went on since is in order."""
    damaged = {defect.aggregate for defect in found.defects}
    for head in witness:
        found.witnessed += 1
        aggregate = f"{head.kind}/{head.id}"
        chain = chains.get((head.kind, head.id))
        if chain is None:
            found.defects.append(
                Defect(head.seq, aggregate, head.version, "the aggregate was removed from the log")
            )
        elif chain.link.version < head.version and aggregate not in damaged:
            problem = f"the log ends at version {chain.link.version}: later commits were removed"
            found.defects.append(Defect(head.seq, aggregate, head.version, problem))
        elif chain.at_version.get(head.version, head.sha256) != head.sha256:
            found.defects.append(
                Defect(head.seq, aggregate, head.version, "the commit is not the one that was written")
            )


_SHOWN = 2_000
"""Bytes of a message that are shown."""


async def quarantined(aggregates: AggregateStore, kind: str, id: str) -> dict[str, Any]:  # noqa: A002
    """Return how far a history is intact and what can't follow, with the messages; raises Refused if all can."""
    try:
        faults, version = await aggregates.histories.faults(kind, id)
    except ValueError:  # what can't be part of a subject
        faults, version = [], 0
    if not faults:
        raise Refused("not_quarantined", f"{kind}/{id} is not in quarantine", "id", hint=_QUARANTINE)
    wanted = {each.seq for each in faults}
    messages = {each.seq: each.data async for each in aggregates.store.read(kind, id) if each.seq in wanted}
    shown = [
        msgspec.to_builtins(each)
        | {"data": messages.get(each.seq, b"")[:_SHOWN].decode(errors="backslashreplace")}
        for each in faults
    ]
    return {"kind": kind, "id": id, "version": version, "faults": shown}


_QUARANTINE = "`trackbook quarantine list` shows what is."


async def replay(aggregates: AggregateStore, kind: str, id: str) -> Replayed:  # noqa: A002
    """Fold the history with today's code, decide and react again, and name the first divergence."""
    how = KINDS[kind]
    state = how.decider.initial(id)
    found = Replayed(id)
    async for stored, commit in aggregates.commits(kind, id):
        found.commits += 1
        found.events += len(commit.events)
        decision = await asyncio.to_thread(_decide_again, how.decider, state, commit)
        state = decision.state
        found.divergence = _differs(stored.seq, commit, decision)
        if found.divergence:
            return found
        how.mark(state, commit.version)
    if not found.commits:
        raise Refused(f"{kind}_not_found", f"there is no {kind} {id} on the log")
    return found


def _decide_again(decider: Decider[Any, Any, Any], state: Any, commit: AnyCommit) -> Decision[Any, Any]:
    """Take the inputs of a commit in order; a command that is refused now decides nothing.

    Of what is due as much is taken as was: how much a commit has room for is no decision.
    """
    decision = Decision[Any, Any](state)
    for index, given in enumerate(commit.inputs):
        if given.command is None:
            take_due(decider, decision, index, len(commit.events) - len(decision.events))
            continue
        with suppress(Refused):
            answer(decider, decision, given.command, index)
    return decision


def _differs(seq: int, commit: AnyCommit, again: Decision[Any, Any]) -> Divergence | None:
    for index in range(max(len(commit.events), len(again.events))):
        expected = commit.events[index] if index < len(commit.events) else None
        actual = again.events[index] if index < len(again.events) else None
        if expected != actual or commit.causes[index] != again.causes[index]:
            return Divergence(
                seq, commit.version, index, msgspec.to_builtins(expected), msgspec.to_builtins(actual)
            )
    return None


async def state_at(aggregates: AggregateStore, kind: str, id: str, version: int, index: int | None = None) -> Any:  # noqa: A002
    """Return the aggregate's state after a commit, or after the event `index` of it; raises Refused."""
    how = KINDS[kind]
    state = how.decider.initial(id)
    async for _, commit in aggregates.commits(kind, id):
        if commit.version < version or index is None:
            state = await take(how, state, commit)
        elif index < len(commit.events):
            state = await asyncio.to_thread(fold, how.decider, state, commit.events[: index + 1])
        else:
            break
        if commit.version == version:
            return state
    where = f"{version}" if index is None else f"{version}.{index}"
    raise Refused(f"{kind}_version_not_found", f"{kind} {id} has no event {where}")
