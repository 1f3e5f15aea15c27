"""How a local session ends: one SIGTERM to what runs at that moment, later SIGKILL to the rest."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conditions import holds
from trainings import COUNT, DIES, WAITS

from trackbook.adapters.local.cleanup import find
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.ports import SessionSpec
from trackbook.testing.reports import Reports

DEAF = """
cat >daemon <<'END'
trap '' TERM HUP
echo $$ >"$1/daemon"
while :; do sleep 1000; done
END
trap 'setsid -f env -i bash daemon "$PIPELINE_OUTPUTS"; while :; do sleep 1000; done' TERM
sleep 1000 &
echo ready
wait
"""
"""A command whose handler never ends, and starts a daemon that sheds its variables and ignores SIGTERM."""


@pytest.fixture
async def reports() -> Reports:
    """Give a sink."""
    return Reports()


@pytest.fixture
async def executor(tmp_path: Path, reports: Reports) -> AsyncIterator[LocalExecutor]:
    """Give an executor whose grace is longer than any test."""
    executor = LocalExecutor(tmp_path, grace=120, durable=False)
    await executor.start(reports)
    yield executor
    await executor.close()


def spec(task: str, command: str) -> SessionSpec:
    """Return a session of the test's job."""
    return SessionSpec(f"tb-j1-{task}-{os.getpid()}", "j1", "p1", "pipe", task, 0, attempt=1, command=command)


async def said(executor: LocalExecutor, session: SessionSpec, word: str, times: int = 1) -> None:
    """Wait until the session has written a line so often."""
    log = executor.log_path(session.session)
    await holds(lambda: log.exists() and log.read_text().split("\n").count(word) >= times)


@pytest.mark.parametrize("command", [WAITS, DIES], ids=["waits", "dies"])
async def test_what_a_handler_starts_is_left_alone(
    command: str, executor: LocalExecutor, reports: Reports, tmp_path: Path
) -> None:
    """Programs that handlers of SIGTERM start to save their work get to their end, every one of them."""
    session = spec("a", command)
    await executor.launch(session)
    await said(executor, session, "ready", COUNT)
    await executor.stop(session)
    await said(executor, session, "saving", COUNT)
    (tmp_path / "pipelines/p1/vfroot/save").touch()
    assert (await reports.ended("a")).outcome == "cancelled"
    checkpoints = executor.outputs_dir(session).glob("checkpoint-*")
    assert [path.read_text() for path in checkpoints] == ["saved\n"] * COUNT


async def test_another_stop_changes_nothing(executor: LocalExecutor, reports: Reports, tmp_path: Path) -> None:
    """A stop that is asked for again, of the session's launcher too, sends no second SIGTERM to the handlers."""
    session = spec("a", WAITS)
    await executor.launch(session)
    await said(executor, session, "ready", COUNT)
    await executor.stop(session)
    await said(executor, session, "saving", COUNT)
    for _ in range(3):
        await executor.stop(session)
    (tmp_path / "pipelines/p1/vfroot/save").touch()
    await reports.ended("a")
    assert len(list(executor.outputs_dir(session).glob("checkpoint-*"))) == COUNT


async def test_a_handler_that_never_ends_is_killed(tmp_path: Path, reports: Reports) -> None:
    """After the grace nothing is left: neither a deaf handler, nor its daemon in a session of its own."""
    executor = LocalExecutor(tmp_path, grace=0.5, durable=False)
    await executor.start(reports)
    session = spec("a", DEAF)
    await executor.launch(session)
    await said(executor, session, "ready")
    await executor.stop(session)
    end = await reports.ended("a")
    assert (end.outcome, end.signal) == ("cancelled", 9)
    assert not find(session.session)
    daemon = int((executor.outputs_dir(session) / "daemon").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)
    await executor.close()
