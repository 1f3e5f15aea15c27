"""Files that are replaced whole, though several write them at once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from trackbook.adapters.backendai.service.attempt_state import ServiceState, load, save
from trackbook.private_files import write_private

_WRITERS, _ROUNDS = 8, 50


def test_a_file_that_many_write_at_once_is_always_whole(tmp_path: Path) -> None:
    """Each of the writers succeeds, what a reader finds is one writer's, and nothing else is left."""
    path = tmp_path / "record.json"
    barrier = Barrier(_WRITERS)

    def write(number: int) -> None:
        barrier.wait()
        for _ in range(_ROUNDS):
            write_private(path, bytes([number]) * 5_000)
            assert len(set(path.read_bytes())) == 1

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write, range(_WRITERS)))
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]
    assert len(path.read_bytes()) == 5_000


def test_the_notes_of_a_service_survive_writers_at_once(tmp_path: Path) -> None:
    """No note is lost because two threads of one process wrote it: `save` would hide the error."""
    barrier = Barrier(_WRITERS)

    def write(number: int) -> None:
        barrier.wait()
        for _ in range(_ROUNDS):
            save(tmp_path, ServiceState(id=str(number)))
            assert load(tmp_path).id

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write, range(_WRITERS)))


def test_a_file_is_private_and_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """The mode is 0600 whatever the umask; without room for the new content the old one is kept, and no rest."""
    path = tmp_path / "record.json"
    write_private(path, b"old", synced=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(TypeError):
        write_private(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]
