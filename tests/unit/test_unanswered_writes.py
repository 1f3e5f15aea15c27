"""Commands whose commits wait for a broker that is away: clients are answered, and nothing happens twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conditions import holds
from office import CHAIN, Office, opened

from trackbook.adapters.nats import pending_writes
from trackbook.adapters.nats.pending_writes import PendingWrites
from trackbook.engine.ports import Append, StoreUnanswered
from trackbook.runtime.commands import idempotency
from trackbook.testing.store import MemoryEventStore


class Stalling(MemoryEventStore):
    """Stores nothing while its gate is closed; `silent` says that it leaves reads of its end unanswered."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.appends = 0
        self.given_up = ""
        self.silent = False
        self.heads = 0

    async def append(self, *commits: Append) -> list[int]:
        """Append once the gate is open."""
        self.appends += 1
        await self.gate.wait()
        return await super().append(*commits)

    def unanswered(self, waited: float) -> str:
        """Say what the test wants to be said."""
        return self.given_up

    async def head(self) -> int:
        """Return the last sequence, unless it keeps silent."""
        self.heads += 1
        await asyncio.sleep(0)
        if self.silent:
            raise StoreUnanswered("no answer for 20 s")
        return await super().head()


@pytest.fixture
async def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    """An engine whose store is about to stall."""
    monkeypatch.setattr(idempotency, "_LOOK_EVERY", 0.01)
    office = await opened(tmp_path, Stalling())
    yield office
    await office.close()


def stalling(office: Office) -> Stalling:
    """Return the office's store."""
    assert isinstance(office.store, Stalling)
    return office.store


async def test_a_command_that_waits_for_the_store_is_neither_accepted_nor_rejected(office: Office) -> None:
    """Once the store answers it is carried out, once, and the same id has its outcome."""
    store = stalling(office)
    store.gate.clear()
    asked = asyncio.create_task(office.ask("pipeline.apply", yaml=CHAIN, command_id="c1"))
    await holds(lambda: store.appends)
    store.given_up = "a write has waited"

    replies = [await asked, await office.ask("pipeline.apply", yaml=CHAIN, command_id="c1")]
    store.gate.set()
    store.given_up = ""
    accepted = await office.must("pipeline.apply", yaml=CHAIN, command_id="c1")

    for reply in replies:
        assert (reply["status"], reply["error"]["code"]) == ("unknown", "outcome_unknown")
        assert "a write has waited" in reply["error"]["message"]
        assert "same command_id" in reply["error"]["hint"]
    assert accepted["version"] == 1
    assert office.kinds() == ["name", "pipeline"]


async def test_a_job_s_input_that_waits_is_decided_on_once_the_store_answers(office: Office) -> None:
    """A cancel that its client gave up is committed all the same, with what else waited for the job."""
    store = stalling(office)
    made = await office.must("pipeline.apply", yaml=CHAIN)
    store.gate.clear()
    asked = asyncio.create_task(office.ask("job.start", pipeline=made["pipeline"], command_id="c2"))
    before = store.appends
    await holds(lambda: store.appends > before)
    store.given_up = "a write has waited"
    assert (await asked)["status"] == "unknown"

    store.gate.set()
    store.given_up = ""
    started = await office.must("job.start", pipeline=made["pipeline"], command_id="c2")

    await office.ended(started["job"])
    assert office.kinds().count("job") == len([c for c in store.commits if c.id == started["job"]])


async def test_no_command_takes_its_client_s_time_for_ever(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it waits for, its client is answered after some minutes, and may ask for the outcome."""
    store = stalling(office)
    monkeypatch.setattr(idempotency, "_LONGEST", 0.0)
    store.gate.clear()

    reply = await office.ask("pipeline.apply", yaml=CHAIN, command_id="c5")

    assert (reply["status"], reply["error"]["code"]) == ("unknown", "outcome_unknown")
    store.gate.set()
    monkeypatch.undo()
    await office.must("pipeline.apply", yaml=CHAIN, command_id="c5")


async def test_what_comes_while_nothing_is_stored_is_refused_before_it_begins(office: Office) -> None:
    """Nothing was done and nothing will be: a reply of `rejected` is the truth, and no work piles up."""
    store = stalling(office)
    store.given_up = "a write has waited"

    refused = await office.ask("pipeline.apply", yaml=CHAIN, command_id="c3")

    assert (refused["status"], refused["error"]["code"]) == ("rejected", "store_unanswered")
    assert (store.appends, store.commits) == (0, [])
    store.given_up = ""
    await office.must("pipeline.apply", yaml=CHAIN, command_id="c3")


async def test_a_client_whose_command_failed_after_it_left_leaves_no_unretrieved_error(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """What became of a command whose client was answered is nobody's error."""
    store = stalling(office)
    store.gate.clear()
    asked = asyncio.create_task(office.ask("pipeline.apply", yaml=CHAIN, command_id="c4"))
    await holds(lambda: store.appends)
    store.given_up = "a write has waited"
    await asked
    store.silent = True  # the outcome can't be looked up
    store.given_up = ""

    store.gate.set()
    await holds(lambda: store.commits)
    store.silent = False
    await office.must("pipeline.apply", yaml=CHAIN, command_id="c4")

    assert "never retrieved" not in caplog.text


async def test_a_look_that_failed_is_not_shared(office: Office) -> None:
    """Those who waited for a look at the log's end that found nothing out have not looked either."""
    store = stalling(office)
    store.silent = True

    found = await asyncio.gather(*(office.aggregates.keep_up() for _ in range(5)), return_exceptions=True)

    assert [type(each) for each in found] == [StoreUnanswered] * 5
    store.silent = False
    await asyncio.gather(*(office.aggregates.keep_up() for _ in range(5)))


def test_a_client_waits_for_its_own_write_while_others_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """One write that is stuck ends no other client's patience; where nothing is stored, all are answered."""
    monkeypatch.setattr(pending_writes, "PATIENCE", 0.0)
    pending = PendingWrites()
    assert pending.unanswered(1.0) == ""

    with pending.write() as stuck:
        stuck.why = "no answer in time"
        assert pending.unanswered(0.0).endswith("no answer in time")
        with pending.write():
            pass
        monkeypatch.setattr(pending_writes, "PATIENCE", 1e-9)
        assert pending.unanswered(0.0) == ""
        assert pending.unanswered(1.0).startswith("a write has waited for the broker since ")

    assert pending.unanswered(1.0) == ""
