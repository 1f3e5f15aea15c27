"""What an operator decided about the log holds for the read model as well."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from histories.made import History
from histories.served import caught_up, until

from trackbook.engine.ports import Append
from trackbook.events.commit import Commit, Input
from trackbook.events.job import TaskShape, TaskStarted
from trackbook.events.log import LossAccepted
from trackbook.projections.read.finders import ReadModel
from trackbook.projections.write.projector import Projector

ONE = [TaskShape("a")]


class Decided:
    """Decisions of an operator, to be changed by the test."""

    def __init__(self) -> None:
        self.dismissed: set[int] = set()

    def is_dismissed(self, seq: int, data: bytes) -> bool:
        """Return whether the test says so."""
        return bool(data) and seq in self.dismissed

    def is_accepted(self, first: int, last: int) -> bool:
        """Return that nothing is missing."""
        return first > last


async def test_what_an_operator_left_out_is_not_in_the_read_model(tmp_path: Path) -> None:
    """A decision on the log makes the read model again; the history continues behind its last intact commit."""
    history, decided = History(), Decided()
    await history.start("j", "p1", ONE)
    seq, _, digest = history.head_of("job", "j")
    foreign = await history.store.append(Append("job", "j", seq, b"garbage", "x"))

    async def decisions() -> Decided:
        return decided

    projector = Projector(tmp_path / "r.db", history.store, history.blobs, decisions)
    await projector.start()
    running = asyncio.create_task(projector.run())
    await until(projector, lambda: projector.quarantined == 1)
    decided.dismissed.update(foreign)
    accepted = Commit[Any, Any](
        1, "log", "log", 1, history.now, "", [Input("user:ann", {})], [LossAccepted([])], [0]
    )
    await history.store.append(Append("log", "log", 0, msgspec.json.encode(accepted), "y"))
    await until(projector, lambda: projector.quarantined == 0 and projector.checkpoint == foreign[0] + 1)
    later = Commit[Any, Any](
        1, "job", "j", 2, history.now, digest, [Input("executor:local", {})],
        [TaskStarted("a", 1, history.now)], [0],
    )  # fmt: skip
    await history.store.append(Append("job", "j", foreign[0], msgspec.json.encode(later), "z"))

    read = ReadModel(projector, history.store, history.blobs)
    await caught_up(read, history)
    assert (await read.tasks("j", 10)).items[0].state == "running"
    assert projector.quarantined == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await projector.close()


async def test_a_decision_is_met_again_until_the_read_model_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where making it again failed, or the process ended meanwhile, the next turn or the next start does it."""
    history, decided = History(), Decided()
    await history.start("j", "p1", ONE)
    seq, _, _ = history.head_of("job", "j")
    foreign = await history.store.append(Append("job", "j", seq, b"garbage", "x"))

    async def decisions() -> Decided:
        return decided

    async def full() -> int:
        raise OSError("no space left")

    projector = Projector(tmp_path / "r.db", history.store, history.blobs, decisions)
    await projector.start()
    running = asyncio.create_task(projector.run())
    await until(projector, lambda: projector.quarantined == 1)
    monkeypatch.setattr(projector, "rebuild", full)
    decided.dismissed.update(foreign)
    accepted = Commit[Any, Any](
        1, "log", "log", 1, history.now, "", [Input("user:ann", {})], [LossAccepted([])], [0]
    )
    await history.store.append(Append("log", "log", 0, msgspec.json.encode(accepted), "y"))
    await until(projector, lambda: "no space left" in projector.problem)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await projector.close()

    again = Projector(tmp_path / "r.db", history.store, history.blobs, decisions)
    await again.start()
    running = asyncio.create_task(again.run())
    await until(again, lambda: again.checkpoint == foreign[0] + 1)
    assert again.quarantined == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await again.close()
