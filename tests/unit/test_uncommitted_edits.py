"""What is decided on a pipeline whose edit is not on the log yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from office import CHAIN, opened

from trackbook.engine.ports import Append
from trackbook.testing.store import MemoryEventStore


class Gate(MemoryEventStore):
    """Keeps appends waiting while it is closed, then stores them or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()
        self.opened = asyncio.Event()
        self.opened.set()
        self.fails = False

    async def append(self, *commits: Append) -> list[int]:
        """Append once the gate is open."""
        if not self.opened.is_set():
            self.waiting.set()
            await self.opened.wait()
            if self.fails:
                self.fails = False
                raise OSError("no answer")
        return await super().append(*commits)


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize(
    ("kind", "change"),
    [("pipeline.delete", {}), ("pipeline.rename", {"name": "other"})],
    ids=["delete", "rename"],
)
async def test_a_job_is_started_from_what_is_on_the_log(
    tmp_path: Path, kind: str, change: dict[str, str], fails: bool
) -> None:
    """An edit under way neither hides the pipeline nor shows it under a new name before it is stored."""
    store = Gate()
    office = await opened(tmp_path, store)
    await office.must("pipeline.apply", yaml=CHAIN)
    store.opened.clear()
    store.fails = fails
    editing = asyncio.create_task(office.ask(kind, pipeline="chain", **change))
    await store.waiting.wait()

    starting = [asyncio.create_task(office.ask("job.start", pipeline=each)) for each in ("chain", "other")]
    for _ in range(100):
        await asyncio.sleep(0)
    store.opened.set()
    edited, by_old, by_new = await asyncio.gather(editing, *starting)

    assert edited["status"] == ("rejected" if fails else "accepted")
    assert by_old["status"] == ("accepted" if fails else "rejected")
    assert by_new["status"] == ("accepted" if kind == "pipeline.rename" and not fails else "rejected")
    await office.close()
