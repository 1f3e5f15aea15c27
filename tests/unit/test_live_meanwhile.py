"""The server answers `/health/live` while it does what takes long: no supervisor takes it for dead."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from histories.made import History
from histories.served import Site, Tools, site
from msgspec import to_builtins
from office import opened

from trackbook.adapters.sql.ledger import Ledger
from trackbook.cli.commands.up import _SWITCH_INTERVAL
from trackbook.events.job import TaskShape
from trackbook.runtime import log_checks
from trackbook.runtime.aggregate_store import AggregateStore

LEAST = 5
"""Answers in the course of the work; a loop that is held gives none."""
TASKS = 16_000
UNKNOWN = 100_000


@pytest.fixture(autouse=True)
def interval_of_a_server() -> Iterator[None]:
    """Let threads take turns as often as `trackbook up` has them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    yield
    sys.setswitchinterval(before)


class Work:
    """Counts what is asked and answered while a piece of work goes on."""

    def __init__(self) -> None:
        self.begun, self.under_way, self.answered = asyncio.Event(), False, 0

    async def do(self, work: Awaitable[Any]) -> Any:
        """Do it."""
        self.under_way = True
        self.begun.set()
        try:
            return await work
        finally:
            self.under_way = False

    async def watched(self, served: Site, request: Awaitable[httpx.Response]) -> httpx.Response:
        """Send the request that begins the work, ask meanwhile whether the server lives; return the answer."""
        asked = asyncio.ensure_future(request)
        await self.begun.wait()
        while self.under_way:
            assert (await served.client.get("/health/live")).status_code == 200
            self.answered += self.under_way
        return await asked


async def test_the_server_lives_while_it_reads_a_large_document(tmp_path: Path) -> None:
    """1.2 MB of YAML with 100,000 unknown keys, which are refused once all is read."""
    office, work = await opened(tmp_path), Work()
    unknown = "".join(f"  odd{number}: 1\n" for number in range(UNKNOWN))
    document = f"name: large\ntasks:\n- name: a\n  command: 'true'\n{unknown}"

    async def handle(kind: str, verb: str, payload: bytes, actor: str) -> dict[str, Any]:
        reply = await work.do(office.gateway.handle(kind, verb, payload, actor))
        return {**reply, "seq": 0}  # the read model is of another log

    async with site(History(), tmp_path / "r.db") as served:
        served.gateway.handle = handle  # type: ignore[method-assign]
        command = served.client.post("/api/commands/pipeline/apply", json={"yaml": document})
        answer = await work.watched(served, command)
    await office.close()

    assert len(document) > 1_200_000
    assert answer.json()["error"]["code"] == "too_many_unknown_keys"
    assert work.answered >= LEAST


async def test_the_server_lives_while_it_replays_a_large_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of thousands of tasks, all launched, is decided again."""
    history, work = History(), Work()
    await history.start("large", "p1", [TaskShape(f"t{number}") for number in range(TASKS)])
    await history.launch_rest("large")
    ledger = Ledger(tmp_path / "engine.db")
    aggregates = AggregateStore(history.store, history.blobs, ledger)

    async def replay(_: Tools, job: str) -> dict[str, Any]:
        return to_builtins(await work.do(log_checks.replay(aggregates, "job", job)))  # type: ignore[no-any-return]

    monkeypatch.setattr(Tools, "replay", replay)
    async with site(history, tmp_path / "r.db") as served:
        answer = await work.watched(served, served.client.get("/api/jobs/large/replay"))
    ledger.close()

    assert answer.json()["divergence"] is None
    assert work.answered >= LEAST
