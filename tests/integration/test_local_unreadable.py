"""Sessions whose files are not files any more when the next executor looks for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from local_process import ExecutorProcess

from trackbook.adapters.container import attempt_state as container_state
from trackbook.adapters.execution import folders, output_log
from trackbook.adapters.local import attempt_state
from trackbook.adapters.local.cleanup import find
from trackbook.engine.ports import SessionSpec
from trackbook.private_files import is_lasting

INSTEAD: dict[str, Callable[[Path], None]] = {
    "directory": Path.mkdir,
    "pipe": os.mkfifo,
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("living", [True, False], ids=["living launcher", "dead launcher"])
@pytest.mark.parametrize("name", ["claim", "exit"])
@pytest.mark.parametrize("instead", INSTEAD)
async def test_an_attempt_whose_files_can_not_be_read_is_lost(
    tmp_path: Path, instead: str, name: str, living: bool
) -> None:
    """It is reported in words, nothing of it runs any more, and it is not run again; it was adopted for ever."""
    session = SessionSpec(f"tb-unread-{os.getpid()}", "j1", "p1", "pipe", "a", 0, 1, "sleep 600")
    folder = folders.session_folder(tmp_path, session.session)
    executor = ExecutorProcess(tmp_path)
    await executor.start()
    executor.ask("launch", session)
    await executor.report()
    launcher = attempt_state.examine(folder).pid
    await executor.kill()
    if not living:
        os.kill(launcher, signal.SIGKILL)
    (folder / name).unlink(missing_ok=True)
    INSTEAD[instead](folder / name)

    for _ in range(2):
        async with executor:
            executor.ask("launch", session)
            ended = await executor.ended("a")

            assert ended.outcome == "lost"
            assert "the session's files can't be read" in ended.message
            assert f"{folder / name}" in ended.message
            assert "it is not run again" in ended.message
            assert find(session.session) == []


@pytest.mark.parametrize("instead", INSTEAD)
async def test_an_end_is_reported_without_an_output_that_can_not_be_read(tmp_path: Path, instead: str) -> None:
    """The report says why there is none; the task stayed running for ever."""
    session = SessionSpec(f"tb-unread-{os.getpid()}", "j1", "p1", "pipe", "a", 0, 1, "sleep 600")
    folder = folders.session_folder(tmp_path, session.session)
    executor = ExecutorProcess(tmp_path)
    await executor.start()
    executor.ask("launch", session)
    await executor.report()
    os.kill(attempt_state.examine(folder).pid, signal.SIGKILL)
    await executor.kill()
    (folder / "log").unlink(missing_ok=True)
    INSTEAD[instead](folder / "log")

    async with executor:
        executor.ask("launch", session)
        ended = await executor.ended("a")

    assert ended.outcome == "lost"
    assert "the output can't be read" in ended.tail
    with pytest.raises(OSError, match=f"{folder / 'log'}"):
        output_log.read(folder / "log", 0, 10)


@pytest.mark.parametrize("instead", INSTEAD)
def test_a_container_whose_record_can_not_be_read_is_lost(tmp_path: Path, instead: str) -> None:
    """A note that can't be read may be that of a container."""
    INSTEAD[instead](tmp_path / "exit")
    INSTEAD[instead](tmp_path / "container")

    record = container_state.read(tmp_path)

    assert record
    assert record.lost
    assert container_state.read_note(tmp_path)


def test_what_may_pass_is_tried_again() -> None:
    """A process without descriptors or memory says nothing of the file."""
    assert not any(is_lasting(OSError(number, "")) for number in (24, 23, 12, 5, 28))
