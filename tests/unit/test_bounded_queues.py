"""Queues filled far beyond their bounds: nothing is lost or doubled, and everything else runs meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hard_deadline import hard_deadline
from histories.made import History
from histories.served import caught_up, projected
from office import opened
from progress import loop_turns

from trackbook.adapters.nats import tail
from trackbook.adapters.nats.tail import Mailbox, Position
from trackbook.adapters.sql import ledger as ledger_module
from trackbook.adapters.sql.ledger import Ledger
from trackbook.adapters.sql.rows import Head, Note, Outcome
from trackbook.engine.ports import Append, SessionSpec, Stored
from trackbook.events.job import TaskShape
from trackbook.http.endpoints.event_stream import EventFilter, _follow
from trackbook.projections import feed
from trackbook.runtime import owner
from trackbook.testing.executor import Play, ScriptedExecutor
from trackbook.testing.store import MemoryEventStore

WIDTH, FITS = 400, 64
FAN = json.dumps({"name": "fan", "tasks": [{"name": f"t{n}", "command": "true"} for n in range(WIDTH)]})


@asynccontextmanager
async def turning(least: int) -> AsyncIterator[None]:
    """Fail unless the event loop turns at least so often, and soon, while this is open."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(turn())
    with hard_deadline(120):
        yield
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)
    assert turns >= least


class SlowStore(MemoryEventStore):
    """Appends a commit only after many turns of the loop, so that much waits meanwhile."""

    async def append(self, *commits: Append) -> list[int]:
        """Append all or none, late."""
        await loop_turns(2 * WIDTH)
        return await super().append(*commits)


async def test_a_jobs_mailbox_takes_more_than_fits_into_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports of all tasks of a wide job at once go into several commits of bounded size, each report once."""
    monkeypatch.setattr(owner, "EVENTS_PER_COMMIT", FITS)
    office = await opened(tmp_path, SlowStore(), script=lambda _: Play(hold=True))
    made = await office.must("pipeline.apply", yaml=FAN)
    job = (await office.must("job.start", pipeline=made["pipeline"]))["job"]

    async with turning(WIDTH):
        await until(lambda: len(office.executor.launches) == WIDTH)
        for session in office.executor.live:
            office.executor.finish(session)
        await office.jobs.all_ended()

    commits = [json.loads(stored.data)["events"] for stored in office.store.commits if stored.id == job]
    ends = [[event["task"] for event in events if event["type"] == "TaskSucceeded"] for events in commits]
    assert (await office.jobs.state(job)).state.status == "succeeded"
    assert Counter(task for tasks in ends for task in tasks) == Counter(f"t{n}" for n in range(WIDTH))
    assert max(map(len, ends)) == FITS // 2  # the end of an attempt and its task's
    await office.close()


class SlowExecutor(ScriptedExecutor):
    """Takes one launch at a time, each after some turns of the loop; counts those that wait."""

    def __init__(self) -> None:
        super().__init__(lambda _: Play(silent=True), limit=WIDTH)
        self._turn = asyncio.Lock()
        self.most = self._waiting = 0

    async def launch(self, spec: SessionSpec) -> None:
        """Take the session once those before it are taken."""
        self._waiting += 1
        self.most = max(self.most, self._waiting)
        async with self._turn:
            await asyncio.sleep(0)
            await super().launch(spec)
        self._waiting -= 1


async def test_launches_wait_for_a_slow_executor(tmp_path: Path) -> None:
    """A wide job's sessions are each handed to a slow executor once."""
    slow = SlowExecutor()
    office = await opened(tmp_path, played={"local": slow})

    async with turning(WIDTH):
        made = await office.must("pipeline.apply", yaml=FAN)
        job = (await office.must("job.start", pipeline=made["pipeline"]))["job"]
        await office.jobs.all_ended()

    assert (await office.jobs.state(job)).state.status == "succeeded"
    assert slow.most > FITS
    assert Counter(spec.task for spec in slow.launches) == Counter(f"t{n}" for n in range(WIDTH))
    await office.close()


async def test_a_slow_follower_of_events_reads_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who reads far slower than is projected gets each event once, in order, from the log in between."""
    monkeypatch.setattr(feed, "_HELD_COMMITS", 16)
    history = History()
    async with projected(history, tmp_path / "r.db") as read:
        await history.start("first", "p1", [TaskShape("a")])
        await caught_up(read, history)
        following = _follow(Served(read), EventFilter(), (1, 0))  # type: ignore[arg-type]
        got = b""
        async with turning(100):
            for number in range(10):
                for part in range(40):
                    await history.start(f"j{number}-{part}", "p1", [TaskShape("a")])
                await caught_up(read, history)
                for _ in range(number):
                    got += await anext(following)
            head = await history.store.head()
            while f"id: {head}.".encode() not in got:
                got += await anext(following)
        await following.aclose()  # type: ignore[attr-defined]

    seqs = [int(line[4:].split(b".")[0]) for line in got.splitlines() if line.startswith(b"id: ")]
    assert list(dict.fromkeys(seqs)) == list(range(1, head + 1))
    ids = [line for line in got.splitlines() if line.startswith(b"id: ")]
    assert len(ids) == len(set(ids))


def test_a_full_mailbox_of_live_commits_is_read_from_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is not kept and not skipped: the follower is sent to the stream for all of it."""
    monkeypatch.setattr(tail, "MAILBOX", 8)
    mailbox, at = Mailbox(), Position(1)
    mailbox.stale = False

    for seq in range(1, 30):
        mailbox.put(Stored(seq, "job", f"j{seq}", b"{}"))
        assert len(mailbox.waiting) <= 8

    assert mailbox.stale
    assert at.take(mailbox) == []
    assert at.next == 1


def note(number: int) -> Note:
    """Return what a commit adds to the ledger."""
    head = Head("job", f"j{number}", 1, number, number, f"{number:064}", True)
    return Note(head, [Outcome(f"c{number}", "digest", {"seq": number})])


def test_the_ledger_writes_what_exceeds_its_buffer(tmp_path: Path) -> None:
    """Many times its buffer is noted without a flush: memory holds one buffer, and the file the rest."""
    total = 10 * ledger_module.WRITTEN_AT + 7
    ledger = Ledger(tmp_path / "engine.db")
    for number in range(1, total + 1):
        ledger.note(note(number))
        assert len(ledger._pending) < ledger_module.WRITTEN_AT
        assert len(ledger._heads) < ledger_module.WRITTEN_AT
        assert len(ledger._outcomes) < ledger_module.WRITTEN_AT
    killed = Ledger(tmp_path / "engine.db")

    assert killed.checkpoint()[0] == total - 7
    assert [head.seq for head in sorted(ledger.heads(), key=lambda head: head.seq)] == list(range(1, total + 1))
    assert all((found := ledger.outcome(f"c{n}")) and found.reply == {"seq": n} for n in range(1, total + 1))
    killed.close()
    ledger.close()


def test_the_ledger_keeps_what_arrives_out_of_order_until_the_gap_is_closed(tmp_path: Path) -> None:
    """Acknowledgements come out of order: once all are there, nothing of the order is kept."""
    ledger = Ledger(tmp_path / "engine.db")
    for number in [*range(2, 2000), 1]:
        ledger.note(note(number))

    assert ledger.seen == 1999
    assert not ledger._beyond
    ledger.close()


async def until(condition: Any) -> None:
    """Return once the condition holds; the loop runs meanwhile."""
    with hard_deadline(60):
        while not condition():
            await loop_turns(1)


class Served:
    """The part of Services that the stream uses."""

    def __init__(self, read: object) -> None:
        self.read = read
