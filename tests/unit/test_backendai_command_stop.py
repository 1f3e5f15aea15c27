"""Asking the command of a session on a cluster to stop, where the folder can't be written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.session.command_stop import CommandStop
from trackbook.engine.ports import SessionSpec

SPEC = SessionSpec("tb-j1-0-1", "j1", "p1", "pipeline", "a", 0, 1, "true")


class Folder:
    """A pipeline's folder that answers in its own way."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: list[tuple[str, bytes]] = []

    async def write(self, spec: SessionSpec, suffix: str, data: bytes) -> None:
        """Take what is written, refuse it, or never answer."""
        if self.answer == "refuses":
            raise ClusterError("main", "infrastructure", "unreachable", "it can't be reached")
        if self.answer == "hangs":
            await asyncio.Event().wait()
        self.asked.append((suffix, data))


@pytest.mark.parametrize(("answer", "stop_timeout"), [("refuses", 600.0), ("hangs", 0.2), ("takes", 0.2)])
async def test_what_is_waited_for_has_an_end(answer: str, stop_timeout: float) -> None:
    """A folder that can't be written does not keep the session from being ended."""
    folder: Any = Folder(answer)
    stop, wake = CommandStop(SPEC, folder, stop_timeout), asyncio.Event()
    stop.begin(wake)
    async with asyncio.timeout(30):
        await wake.wait()
    assert not stop.waits


async def test_the_command_is_asked_once_and_reported_its_time() -> None:
    """Half of the cluster's `stop_timeout` lies between SIGTERM and SIGKILL."""
    folder: Any = Folder("takes")
    stop, wake = CommandStop(SPEC, folder, 61.0), asyncio.Event()
    for _ in range(2):
        stop.begin(wake)
        await asyncio.sleep(0)
    assert folder.asked == [("stop", b"30\n")]
    assert stop.waits
    stop.cancel()
    async with asyncio.timeout(30):
        await wake.wait()
    assert not stop.waits
