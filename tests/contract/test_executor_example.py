"""The contract of executors once more, for the example of a package that adds one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trackbook_nice.executor import NiceExecutor

from trackbook.testing.executor_contract import *  # noqa: F403 - the suite's tests
from trackbook.testing.reports import Reports


class ExampleWorld:
    """The example's executors upon one data directory."""

    protects_inputs = False

    def __init__(self, data: Path) -> None:
        self.reports = Reports()
        self._data = data
        self._executors: list[NiceExecutor] = []

    async def open(self, limit: int = 8) -> NiceExecutor:
        """Open another executor on the same data directory."""
        self._executors.append(NiceExecutor(self._data, niceness=5, limit=limit, grace=1))
        await self._executors[-1].start(self.reports)
        return self._executors[-1]

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ExampleWorld]:
    """Give a world of the example, whose launchers find its package."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "examples/executor"))
    made = ExampleWorld(tmp_path)
    yield made
    await made.close()
