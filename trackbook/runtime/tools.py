"""The book's tools: look at any moment, decide a history again, and check that nothing was changed or removed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Struct, field

from trackbook.adapters.sql.ledger import Head
from trackbook.engine.decider import Decider, fold, step
from trackbook.engine.errors import Refused
from trackbook.engine.kinds import KINDS
from trackbook.engine.ports import Stored
from trackbook.events.commit import digest
from trackbook.runtime.book import AnyCommit, Book, Unreadable, take


class Defect(Struct):
    """Something on the log that is not as it was written."""

    seq: int
    aggregate: str
    version: int
    problem: str


class Verified(Struct):
    """What `audit verify` found; `witnessed` aggregates were compared with heads kept outside the broker."""

    aggregates: int = 0
    commits: int = 0
    events: int = 0
    witnessed: int = 0
    defects: list[Defect] = field(default_factory=list)

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
    version: int = 0
    sha256: str = ""
    at_version: dict[int, str] = field(default_factory=dict)


async def verify(book: Book, witness: list[Head]) -> Verified:
    """Read the whole log and check contiguity, each aggregate's versions and hash chain, and the witness."""
    found = Verified()
    chains: dict[tuple[str, str], _Chain] = {}
    wanted = {(head.kind, head.id): head.version for head in witness}
    expected_seq = 1
    async for batch in book.store.read_all(1):
        for stored in batch:
            if stored.seq != expected_seq:
                found.defects.append(
                    Defect(expected_seq, "", 0, f"sequences {expected_seq} to {stored.seq - 1} are missing")
                )
            expected_seq = stored.seq + 1
            chain = chains.setdefault((stored.kind, stored.id), _Chain())
            await _link(book, stored, chain, found, wanted.get((stored.kind, stored.id)))
            await asyncio.sleep(0)  # a long log never makes others wait
    found.aggregates = len(chains)
    await asyncio.to_thread(_compare, chains, witness, found)
    return found


async def _link(book: Book, stored: Stored, chain: _Chain, found: Verified, witnessed: int | None) -> None:
    aggregate = f"{stored.kind}/{stored.id}"

    def defect(problem: str) -> None:
        found.defects.append(Defect(stored.seq, aggregate, chain.version + 1, problem))

    try:
        commit = await book.decode(stored)
    except Unreadable as error:
        defect(str(error))
        return
    if (commit.kind, commit.id) != (stored.kind, stored.id):
        defect(f"the commit says it belongs to {commit.kind}/{commit.id}")
    if commit.version != chain.version + 1:
        defect(f"version {chain.version + 1} was expected and {commit.version} found")
    if commit.prev != chain.sha256:
        defect("the hash of the previous commit does not match it")
    found.commits += 1
    found.events += len(commit.events)
    chain.version, chain.sha256 = commit.version, digest(stored.data)
    if witnessed == commit.version:
        chain.at_version[commit.version] = chain.sha256


def _compare(chains: dict[tuple[str, str], _Chain], witness: list[Head], found: Verified) -> None:
    """Hold the log against heads kept outside the broker; a log that went on since is in order."""
    for head in witness:
        found.witnessed += 1
        aggregate = f"{head.kind}/{head.id}"
        chain = chains.get((head.kind, head.id))
        if chain is None:
            found.defects.append(
                Defect(head.seq, aggregate, head.version, "the aggregate was removed from the log")
            )
        elif chain.version < head.version:
            problem = f"the log ends at version {chain.version}: later commits were removed"
            found.defects.append(Defect(head.seq, aggregate, head.version, problem))
        elif chain.at_version.get(head.version, head.sha256) != head.sha256:
            found.defects.append(
                Defect(head.seq, aggregate, head.version, "the commit is not the one that was written")
            )


async def replay(book: Book, kind: str, id: str) -> Replayed:  # noqa: A002
    """Fold the history with today's code, decide and react again, and name the first divergence."""
    how = KINDS[kind]
    state = how.decider.initial(id)
    found = Replayed(id)
    async for stored, commit in book.commits(kind, id):
        found.commits += 1
        found.events += len(commit.events)
        commands = [given.command for given in commit.inputs]
        state, events, causes = await asyncio.to_thread(_decide_again, how.decider, state, commands)
        found.divergence = _differs(stored.seq, commit, events, causes)
        if found.divergence:
            return found
        how.mark(state, commit.version)
    if not found.commits:
        raise Refused(f"{kind}_not_found", f"there is no {kind} {id} on the log")
    return found


def _decide_again(
    decider: Decider[Any, Any, Any], state: Any, commands: list[Any]
) -> tuple[Any, list[Any], list[int]]:
    """Take the commands of one commit in order; a command that is refused now decides nothing."""
    events: list[Any] = []
    causes: list[int] = []
    for index, command in enumerate(commands):
        try:
            state, more, why = step(decider, state, command, index, len(events))
        except Refused:
            continue
        events += more
        causes += why
    return state, events, causes


def _differs(seq: int, commit: AnyCommit, events: list[Any], causes: list[int]) -> Divergence | None:
    for index in range(max(len(commit.events), len(events))):
        expected = commit.events[index] if index < len(commit.events) else None
        actual = events[index] if index < len(events) else None
        if expected != actual or commit.causes[index] != causes[index]:
            return Divergence(
                seq, commit.version, index, msgspec.to_builtins(expected), msgspec.to_builtins(actual)
            )
    return None


async def at(book: Book, kind: str, id: str, version: int, index: int | None = None) -> Any:  # noqa: A002
    """Return the aggregate's state after a commit, or after the event `index` of it; raises Refused."""
    how = KINDS[kind]
    state = how.decider.initial(id)
    async for _, commit in book.commits(kind, id):
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
