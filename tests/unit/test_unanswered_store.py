"""A broker that is connected and answers no reads of some histories: the rest goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from office import CHAIN, Office, opened

from trackbook.adapters.nats.reads import BrokerUnanswered
from trackbook.engine.ports import Stored, StoreUnanswered
from trackbook.errors import UserError
from trackbook.testing.executor import Play
from trackbook.testing.store import MemoryEventStore


class Silent(MemoryEventStore):
    """Answers no reads of the histories in `silent`."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[str] = set()

    async def read(self, kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        """Yield the aggregate's commits."""
        if id in self.silent:
            raise StoreUnanswered("no answer for 20 s")
        async for stored in super().read(kind, id, from_seq):
            yield stored


async def _two_running(folder: Path) -> tuple[Office, Silent, list[str]]:
    store = Silent()
    office = await opened(folder, store, script=lambda _: Play(hold=True))
    await office.must("pipeline.apply", yaml=CHAIN)
    return office, store, [(await office.must("job.start", pipeline="chain"))["job"] for _ in range(2)]


async def test_a_start_takes_up_the_jobs_that_can_be_read(tmp_path: Path) -> None:
    """A job whose history the broker does not give out is left alone: neither launched nor swept."""
    office, store, (one, other) = await _two_running(tmp_path)
    await office.close()
    store.silent = {one}

    office = await opened(tmp_path, store, office.blobs, script=lambda _: Play(hold=True))

    owned = await office.jobs.live("local")
    assert owned.sessions == {f"tb-{other}-0-1"}
    assert not owned.knows_job(one)
    assert owned.knows_job(other)
    await office.close()


async def test_a_command_on_what_can_t_be_read_is_refused_with_a_code_of_its_own(tmp_path: Path) -> None:
    """It says what to do, nothing is remembered, and the same id works once the broker answers."""
    office, store, (one, other) = await _two_running(tmp_path)
    await office.close()
    store.silent = {one}
    office = await opened(tmp_path, store, office.blobs, script=lambda _: Play(hold=True))

    refused = await office.ask("job.cancel", job=one, command_id="c1")
    await office.must("job.cancel", job=other)
    store.silent.clear()

    assert refused["error"]["code"] == "store_unanswered"
    assert "no answer for 20 s" in refused["error"]["message"]
    assert "Copy the data directory" in refused["error"]["hint"]
    await office.must("job.cancel", job=one, command_id="c1")
    await office.close()


def test_it_is_said_in_words_wherever_it_ends_a_command() -> None:
    """A start that needs the read prints no traceback."""
    assert issubclass(BrokerUnanswered, UserError)
    assert issubclass(BrokerUnanswered, StoreUnanswered)
