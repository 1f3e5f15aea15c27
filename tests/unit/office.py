"""An engine over a log in memory, all of it real but for a scripted executor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trackbook.adapters.local.backend import LocalBackend
from trackbook.adapters.sql.ledger import Ledger
from trackbook.engine.job_state import JobState
from trackbook.runtime.aggregate import Aggregate
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.commands.handlers import new_gateway
from trackbook.runtime.executors.registry import Backends
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.owner import Owner
from trackbook.runtime.pipeline_contents import History
from trackbook.runtime.session_dispatcher import SessionDispatcher
from trackbook.testing.executor import Play, ScriptedExecutor
from trackbook.testing.store import MemoryBlobs, MemoryEventStore

Played = Mapping[str, ScriptedExecutor]
CHAIN = """\
name: chain
environment: {envs: {COLOUR: red}}
tasks:
- {name: first, command: echo one}
- {name: second, command: echo two, dependencies: [first]}
"""


class Office:
    """An engine; `restarted` gives another one on the same log and ledger file."""

    def __init__(
        self,
        folder: Path,
        store: MemoryEventStore,
        blobs: MemoryBlobs,
        executors: Played,
        default: str = "local",
    ) -> None:
        self.folder, self.store, self.blobs = folder, store, blobs
        self.executors, self.executor = executors, executors["local"]
        self.ledger = Ledger(folder / "engine.db")
        self.aggregates = AggregateStore(store, blobs, self.ledger)
        self.history = History(self.aggregates)
        data = {name: folder if name == "local" else folder / name for name in executors}  # as other machines
        made = {name: LocalBackend(name, data[name], partial(executors.__getitem__, name)) for name in executors}
        self.backends = Backends(made, default)
        self.sessions = SessionDispatcher(executors, blobs, self.backends)
        self.owner = Owner(self.aggregates)
        self.jobs = Jobs(self.owner, self.sessions)
        self.gateway = new_gateway(self.owner, self.jobs, self.history, self.backends, executors)

    async def open(self) -> Office:
        """Catch up with the log, take reports, and take up what has not ended."""
        try:
            await self.aggregates.catch_up()
        except BaseException:
            self.ledger.close()
            raise
        for name, executor in self.executors.items():
            await executor.start(partial(self.jobs.report, name))
        await self.jobs.recover()
        return self

    async def close(self) -> None:
        """Stop as a clean stop would."""
        for executor in self.executors.values():
            await executor.close()
        await self.owner.close()
        await self.sessions.close()
        self.ledger.close()

    async def ask(self, command: str, **payload: Any) -> dict[str, Any]:
        """Give a command and return its reply, as a client would see it."""
        kind, verb = command.split(".")
        reply = await self.gateway.handle(kind, verb, json.dumps(payload).encode(), "test")
        return dict(json.loads(json.dumps(reply)))

    async def must(self, command: str, **payload: Any) -> dict[str, Any]:
        """Give a command that has to be accepted."""
        reply = await self.ask(command, **payload)
        assert reply["status"] == "accepted", reply
        return reply

    async def ended(self, job: str) -> Aggregate[JobState]:
        """Return the job once it has ended."""
        async with asyncio.timeout(60):
            async for batch in self.store.tail(1):
                if any(stored.id == job for stored in batch):
                    found = await self.aggregates.load("job", job)
                    if found.state.ended:
                        return found
        raise AssertionError("the tail ended")

    def kinds(self) -> list[str]:
        """Return the kinds of the commits on the log, in order."""
        return [stored.kind for stored in self.store.commits]


async def opened(
    folder: Path,
    store: MemoryEventStore | None = None,
    blobs: MemoryBlobs | None = None,
    script: Callable[[Any], Play] = lambda _: Play(),
    *,
    executors: Sequence[str] = ("local",),
    played: Played | None = None,
    default: str = "local",
) -> Office:
    """Open an office, on a log and with executors of its own unless they are given."""
    cast = played or {name: ScriptedExecutor(script) for name in executors}
    office = Office(folder, store or MemoryEventStore(), blobs or MemoryBlobs(), cast, default)
    return await office.open()


async def start_job(office: Office, yaml: str = CHAIN, **payload: Any) -> str:
    """Apply a pipeline and start it; return the job's id."""
    made = await office.must("pipeline.apply", yaml=yaml)
    started = await office.must("job.start", pipeline=made["pipeline"], **payload)
    return str(started["job"])


async def until_launched(office: Office, count: int) -> None:
    """Wait until so many sessions were launched."""
    async with asyncio.timeout(60):
        while len(office.executor.launches) < count:  # noqa: ASYNC110 - each turn of the loop may launch
            await asyncio.sleep(0)


def wide(count: int) -> str:
    """Return a pipeline of so many tasks that depend on nothing."""
    return "name: wide\ntasks:\n" + "".join(f"- {{name: t{n}, command: x}}\n" for n in range(count))


def event_types(office: Office, job: str) -> list[list[str]]:
    """Return the types of a job's events, commit by commit."""
    commits = [json.loads(stored.data) for stored in office.store.commits if stored.id == job]
    return [[event["type"] for event in commit["events"]] for commit in commits]
