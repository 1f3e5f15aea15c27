"""What every executor does: a suite that the tests of an executor take over.

A test module imports the tests (`from trackbook.testing.executor_contract import *`) and has a fixture `world`,
which gives a World upon the executor. The suite needs pytest, and pytest-asyncio in its mode `auto`. Its commands
are run by a shell: `true`, `exit 3`, `sleep 1000`, and some with `echo`, `grep` and `test`.
"""

from __future__ import annotations

from typing import Protocol
from unittest import SkipTest

from msgspec.structs import replace

from trackbook.engine.ports import Executor, SessionInput, SessionSpec
from trackbook.testing.reports import Reports

__all__ = [
    "test_a_command_that_looks_like_an_option",
    "test_a_result_is_reported",
    "test_a_result_of_a_failure_does_not_count",
    "test_a_result_that_can_not_be_used_is_a_warning",
    "test_attempts_are_sessions_of_their_own",
    "test_close_with_cancel",
    "test_failure",
    "test_launch_again_reports_again",
    "test_limit_and_order",
    "test_outputs_of_attempts_are_kept_apart",
    "test_previous_attempt_that_never_began",
    "test_previous_outputs_are_read_only",
    "test_previous_outputs_are_seen",
    "test_refused_reports_are_repeated",
    "test_sessions_outlive_the_executor",
    "test_start_of_a_long_session_is_reported",
    "test_stop_before_launch",
    "test_stop_is_idempotent",
    "test_success",
]


_RESULT = '"$PIPELINE_OUTPUTS/result.json"'


class World(Protocol):
    """An executor that can be closed and opened again upon the same sessions.

    `protects_inputs`, known once it is open, says whether a session can't change the outputs that it reads.
    """

    reports: Reports
    protects_inputs: bool

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


def second_attempt(first: SessionSpec, command: str) -> SessionSpec:
    """Return a second attempt, which sees the outputs of the first one."""
    session = first.session.removesuffix("1") + "2"
    return replace(first, session=session, attempt=2, command=command, previous=outputs_of(first))


def outputs_of(spec: SessionSpec) -> SessionInput:
    """Return an attempt as one whose outputs another session reads."""
    return SessionInput(spec.job, spec.task, spec.index, spec.attempt)


def keep(text: str) -> str:
    """Return a command that writes a line to a file of its outputs."""
    return f'echo {text} >"$PIPELINE_OUTPUTS/kept"'


def has(place: str, text: str) -> str:
    """Return a command that fails unless that file of the outputs at a place has this line."""
    return f'grep -qx {text} "$PIPELINE_{place}/kept"'


async def test_success(world: World) -> None:
    """A command that exits with 0 is reported as succeeded, with its times and no message."""
    executor = await world.open()
    await executor.launch(spec("a", "true"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.exit_code, end.signal, end.message) == ("succeeded", 0, None, "")
    assert end.result is None
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


async def test_outputs_of_attempts_are_kept_apart(world: World) -> None:
    """A second attempt begins with empty outputs, and an input names the attempt that it reads."""
    executor = await world.open()
    first = spec("a", keep("one"))
    second = second_attempt(first, f'test ! -e "$PIPELINE_OUTPUTS/kept" && {keep("two")}')
    reading = f"{has('INPUT1', 'one')} && {has('INPUT2', 'two')}"
    reader = replace(spec("b", reading), inputs=[outputs_of(first), outputs_of(second)])
    await executor.launch(first)
    await world.reports.ended("a")
    await executor.launch(second)
    assert (await world.reports.ended("a", 2)).exit_code == 0
    await executor.launch(reader)
    assert (await world.reports.ended("b")).exit_code == 0


async def test_previous_outputs_are_seen(world: World) -> None:
    """What an attempt left, the next one finds at $PIPELINE_PREVIOUS, however it ended; the first has no such."""
    executor = await world.open()
    first = spec("a", f'test -z "$PIPELINE_PREVIOUS" && {keep("one")} && exit 3')
    await executor.launch(first)
    assert (await world.reports.ended("a")).exit_code == 3
    await executor.launch(second_attempt(first, has("PREVIOUS", "one")))
    assert (await world.reports.ended("a", 2)).exit_code == 0


async def test_previous_outputs_are_read_only(world: World) -> None:
    """An attempt can't change what the one before it left."""
    executor = await world.open()
    if not world.protects_inputs:
        raise SkipTest("this executor can't keep a session from changing what it reads")
    first = spec("a", keep("one"))
    await executor.launch(first)
    await world.reports.ended("a")
    await executor.launch(second_attempt(first, 'echo two >"$PIPELINE_PREVIOUS/kept"'))
    assert (await world.reports.ended("a", 2)).outcome == "failed"
    await executor.launch(replace(spec("b", has("INPUT1", "one")), inputs=[outputs_of(first)]))
    assert (await world.reports.ended("b")).exit_code == 0


async def test_previous_attempt_that_never_began(world: World) -> None:
    """After an attempt that left nothing, $PIPELINE_PREVIOUS is an empty folder."""
    executor = await world.open()
    first = spec("a", keep("one"))
    await executor.stop(first)
    await world.reports.ended("a")
    empty = 'test -d "$PIPELINE_PREVIOUS" && test ! -e "$PIPELINE_PREVIOUS/kept"'
    await executor.launch(second_attempt(first, empty))
    assert (await world.reports.ended("a", 2)).exit_code == 0


async def test_a_result_is_reported(world: World) -> None:
    """The JSON value that a command leaves as result.json in its outputs is in the report of its success."""
    executor = await world.open()
    await executor.launch(spec("a", f"""echo '{{"loss": 0.5, "epochs": [1, 2]}}' >{_RESULT}"""))
    end = await world.reports.ended("a")
    assert (end.outcome, end.result, end.message) == ("succeeded", {"loss": 0.5, "epochs": [1, 2]}, "")


async def test_a_result_of_a_failure_does_not_count(world: World) -> None:
    """What a command left before it failed is no result."""
    executor = await world.open()
    await executor.launch(spec("a", f"echo 1 >{_RESULT} && exit 3"))
    end = await world.reports.ended("a")
    assert (end.outcome, end.result, end.message) == ("failed", None, "the command ended with exit code 3")


async def test_a_result_that_can_not_be_used_is_a_warning(world: World) -> None:
    """A result that is too large, or no strict JSON, is left out of the report of a success, which says so."""
    executor = await world.open()
    commands = {
        "large": f"head -c 1048577 /dev/zero | tr '\\0' 1 >{_RESULT}",
        "broken": f"""echo '{{"loss":' >{_RESULT}""",
        "twice": f"""echo '{{"loss": 1, "loss": 2}}' >{_RESULT}""",
        "nan": f"echo NaN >{_RESULT}",
    }
    for task, command in commands.items():
        await executor.launch(spec(task, command))
    for task in commands:
        end = await world.reports.ended(task)
        assert (end.outcome, end.exit_code, end.result) == ("succeeded", 0, None), task
        assert end.message.startswith("result.json is not used: "), (task, end.message)
