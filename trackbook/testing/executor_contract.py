"""What every executor does: a suite that the tests of an executor take over.

A test module imports the tests (`from trackbook.testing.executor_contract import *`) and has a fixture `world`,
which gives a World upon the executor. The suite needs pytest, and pytest-asyncio in its mode `auto`. Its commands
are run by a shell: `true`, `exit 3`, `sleep 1000`.
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from trackbook.engine.ports import Executor, SessionSpec
from trackbook.testing.reports import Reports

__all__ = [
    "test_a_command_that_looks_like_an_option",
    "test_attempts_are_sessions_of_their_own",
    "test_close_with_cancel",
    "test_failure",
    "test_launch_again_reports_again",
    "test_limit_and_order",
    "test_refused_reports_are_repeated",
    "test_sessions_outlive_the_executor",
    "test_start_of_a_long_session_is_reported",
    "test_stop_before_launch",
    "test_stop_is_idempotent",
    "test_success",
]


class World(Protocol):
    """An executor that can be closed and opened again upon the same sessions."""

    reports: Reports

    async def open(self, limit: int = 8) -> Executor:
        """Start an executor on the sessions of this world."""
        ...

    async def close(self) -> None:
        """End all sessions."""
        ...


def spec(task: str, command: str) -> SessionSpec:
    """Return a session of the test's job."""
    index = int.from_bytes(task.encode())
    return SessionSpec(f"tb-j1-{index}-1", "j1", "p1", "pipeline", task, index, 1, command)


async def test_success(world: World) -> None:
    """A command that exits with 0 is reported as succeeded, with its times and no message."""
    executor = await world.open()
    await executor.launch(spec("a", "true"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.exit_code, end.signal, end.message) == ("succeeded", 0, None, "")
    assert end.started_at
    assert end.started_at <= end.ended_at
    assert world.reports.all[-1][0] == "j1"


async def test_failure(world: World) -> None:
    """Another exit code is a failure that names the code."""
    executor = await world.open()
    await executor.launch(spec("a", "exit 3"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.exit_code, end.message) == ("failed", 3, "the command ended with exit code 3")


async def test_a_command_that_looks_like_an_option(world: World) -> None:
    """A command that begins with a dash is run as a command, and is none that there is."""
    executor = await world.open()
    await executor.launch(spec("a", "--version"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.exit_code) == ("failed", 127)


async def test_start_of_a_long_session_is_reported(world: World) -> None:
    """A session that keeps running is reported as started, and stopping it as cancelled."""
    executor = await world.open()
    await executor.launch(spec("a", "sleep 1000"))
    await world.reports.started("a")
    await executor.stop(spec("a", "sleep 1000"))
    assert (await world.reports.ended("a")).outcome == "cancelled"


async def test_stop_before_launch(world: World) -> None:
    """A session stopped before it was launched is reported as cancelled and never runs."""
    executor = await world.open()
    await executor.stop(spec("a", "exit 3"))
    assert (await world.reports.ended("a")).outcome == "cancelled"
    await executor.launch(spec("a", "exit 3"))
    end = await world.reports.ended("a", 2)
    assert (end.outcome, end.started_at, end.exit_code) == ("cancelled", None, None)


async def test_stop_is_idempotent(world: World) -> None:
    """Stopping what has ended reports that end, unchanged."""
    executor = await world.open()
    await executor.launch(spec("a", "exit 3"))
    first = await world.reports.ended("a")
    await executor.stop(spec("a", "exit 3"))
    assert await world.reports.ended("a", 2) == first


async def test_launch_again_reports_again(world: World) -> None:
    """A session launched again after its end is not run again: its end is reported again."""
    executor = await world.open()
    await executor.launch(spec("a", "true"))
    first = await world.reports.ended("a")
    await executor.launch(spec("a", "true"))
    assert await world.reports.ended("a", 2) == first


async def test_refused_reports_are_repeated(world: World) -> None:
    """A report that the sink refuses is sent again until it is taken."""
    world.reports.refusals = 3
    executor = await world.open()
    await executor.launch(spec("a", "exit 1"))
    assert (await world.reports.ended("a")).outcome == "failed"


async def test_sessions_outlive_the_executor(world: World) -> None:
    """After a close the session runs on; the next executor adopts it and can stop it."""
    first = await world.open()
    await first.launch(spec("a", "sleep 1000"))
    await world.reports.started("a")
    await first.close()
    second = await world.open()
    await second.launch(spec("a", "sleep 1000"))
    await world.reports.started("a", 2)
    await second.stop(spec("a", "sleep 1000"))
    assert (await world.reports.ended("a")).outcome == "cancelled"


async def test_close_with_cancel(world: World) -> None:
    """Closing with cancel ends what runs and what waits, and reports it."""
    executor = await world.open(limit=1)
    await executor.launch(spec("a", "sleep 1000"))
    await world.reports.started("a")
    await executor.launch(spec("b", "sleep 1000"))
    await executor.close(cancel=True)
    assert (await world.reports.ended("a")).outcome == "cancelled"
    waiting = await world.reports.ended("b")
    assert (waiting.outcome, waiting.started_at) == ("cancelled", None)


async def test_limit_and_order(world: World) -> None:
    """No more sessions than the limit run at once; the others begin in the order of their launch."""
    executor = await world.open(limit=1)
    await executor.launch(spec("first", "sleep 1000"))
    await world.reports.started("first")
    for name in ("b", "c", "d"):
        await executor.launch(spec(name, "true"))
    await executor.stop(spec("first", "sleep 1000"))
    ends = [await world.reports.ended(name) for name in ("first", "b", "c", "d")]
    begun = [end.started_at for end in ends if end.started_at]
    assert len(begun) == 4, ends
    assert begun == sorted(begun)
    assert begun[1] >= ends[0].started_at  # type: ignore[operator]


async def test_attempts_are_sessions_of_their_own(world: World) -> None:
    """A second attempt runs beside the memory of the first and is distinguished in its reports."""
    executor = await world.open()
    await executor.launch(spec("a", "exit 3"))
    await world.reports.ended("a")
    second = replace(spec("a", "true"), attempt=2)
    await executor.launch(replace(second, session=f"tb-j1-{second.index}-2"))
    end = await world.reports.ended("a", 2)
    assert (end.attempt, end.outcome) == (2, "succeeded")
