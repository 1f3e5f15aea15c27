"""An answer that is streamed to a fast reader lets the server do other work between its pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from histories.made import History
from histories.served import caught_up, projected

from trackbook.adapters.execution.session_logs import SessionLogs
from trackbook.events.job import TaskShape
from trackbook.http.endpoints.event_stream import EventFilter, _follow
from trackbook.http.endpoints.task_logs import _read_lines


async def turns_while(work: Callable[[], AsyncIterator[bytes]], pieces: int) -> int:
    """Return how many turns another task got while so many pieces were read without a pause."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    try:
        async for piece in work():
            pieces -= bool(piece)
            if not pieces:
                break
    finally:
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
    return turns


async def test_a_long_log_lets_others_run(tmp_path: Path) -> None:
    """The event loop runs between the parts of a log."""
    folder = tmp_path / "sessions" / "s"
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(b"x" * (64 * 65536))

    turns = await turns_while(lambda: _read_lines(SessionLogs(tmp_path), "s", 0, 64 * 65536), 64)

    assert turns >= 63


async def test_the_stream_of_events_lets_others_run(tmp_path: Path) -> None:
    """A follower who is far behind gets many commits at once; others run after each."""
    history = History()
    async with projected(history, tmp_path / "r.db") as read:
        for number in range(100):
            await history.start(f"j{number}", "p1", [TaskShape("a")])
        await caught_up(read, history)
        services = Served(read)

        turns = await turns_while(lambda: _follow(services, EventFilter(), (1, 0)), 50)  # type: ignore[arg-type]

        assert turns >= 49


class Served:
    """The part of Services that the stream uses."""

    def __init__(self, read: object) -> None:
        self.read = read
