"""Logs of sessions, read by offsets that stay the same while the log is rotated."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackbook.adapters.backendai.session.exit_record import SessionRecord
from trackbook.adapters.backendai.session.output import Output
from trackbook.adapters.container.output import SessionLog
from trackbook.adapters.execution import output_log
from trackbook.adapters.execution.bounded_log import Log
from trackbook.adapters.execution.output_log import Kept, Piece
from trackbook.adapters.execution.session_logs import SessionLogs
from trackbook.http.endpoints import task_logs

LIMIT = 2048
STREAM = b"".join(b"%07d\n" % number for number in range(60_000))
"""Output in which every part says where it is."""


@contextmanager
def opened(path: Path, limit: int = LIMIT) -> Iterator[Log]:
    """A log as a launcher has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield Log(file, limit, folder)
    finally:
        os.close(file)
        os.close(folder)


def kept(path: Path) -> Kept:
    """Return what is there of a log that nobody writes."""
    found = output_log.find_kept(path)
    assert found is not None
    return found


def read(path: Path, offset: int, limit: int = 1 << 20) -> Piece:
    """Read a log that nobody writes."""
    piece = output_log.read(path, offset, limit)
    assert piece is not None
    return piece


def check(path: Path, end: int) -> None:
    """Whatever is read from any offset is what was written there, and the gap is where the log says."""
    found = kept(path)
    assert found.end == end
    for offset in {0, 1, found.head - 1, found.head, found.tail - 1, found.tail, end - 1} & set(range(end)):
        piece = read(path, offset)
        assert piece.data == STREAM[piece.start : piece.end]
        assert piece.start == (found.tail if found.head <= offset < found.tail else offset)
        assert piece.data
    assert read(path, end).data == b""
    assert found.size == path.stat().st_size


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=30))
def test_offsets_survive_rotation(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """However output comes, each retained byte is found at the offset at which it was written."""
    path = tmp_path_factory.mktemp("log") / "log"
    end = 0
    with opened(path) as log:
        for size in sizes:
            log.write(STREAM[end : end + size])
            end += size
            check(path, end)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=12), st.lists(st.integers(0, 3000), max_size=12))
def test_a_reopened_container_log_keeps_its_offsets(
    tmp_path_factory: pytest.TempPathFactory, before: list[int], later: list[int]
) -> None:
    """The log of a container is resumed after a crash with the same offsets."""
    path = tmp_path_factory.mktemp("log") / "log"
    end = 0
    for sizes in (before, later):
        log = SessionLog(path, LIMIT)
        for size in sizes:
            log.write(STREAM[end : end + size])
            end += size
            check(path, end)
        log.close()


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=12))
async def test_a_copy_from_a_cluster_has_offsets(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    """The copy of a cluster's output is read by the same offsets."""
    path = tmp_path_factory.mktemp("log") / "log"
    end = 0

    async def source(start: int, size: int) -> bytes:
        return STREAM[start : min(end, start + size)]

    copy = Output(path, source, LIMIT)
    for size in sizes:
        end += size
        await copy.catch_up()
        if end:
            check(path, end)


async def test_what_a_cluster_did_not_send_is_a_gap(tmp_path: Path) -> None:
    """Bytes that can't be had any more count as left out, also where the gap comes early."""
    path = tmp_path / "log"
    copy = Output(path, lambda start, size: asyncio.sleep(0, STREAM[start : min(100, start + size)]), LIMIT)
    await copy.catch_up()
    copy.finish(SessionRecord(attempt=1, ended_at=datetime.now(UTC), size=5000, tail=STREAM[4000:5000]))
    check(path, 5000)

    copy = Output(path, lambda start, size: asyncio.sleep(0, STREAM[start : min(80, start + size)]), LIMIT)
    await copy.catch_up()
    check(path, 80)


def test_a_reader_beside_a_writer_never_reads_nonsense(tmp_path: Path) -> None:
    """While a log is cut hundreds of times, a reader gets bytes of their offsets or is asked to look again."""
    path = tmp_path / "log"
    path.touch()
    done = threading.Event()
    wrong: list[Piece] = []
    seen: set[int] = set()

    def look() -> None:
        offset = 0
        while not (done.is_set() and offset >= len(STREAM)):
            piece = output_log.read(path, offset, 500)
            if piece is None:
                continue
            seen.add(piece.start)
            if piece.data != STREAM[piece.start : piece.end]:
                wrong.append(piece)
            offset = piece.end if piece.data else offset

    reader = threading.Thread(target=look)
    reader.start()
    with opened(path) as log:
        for start in range(0, len(STREAM), 100):
            log.write(STREAM[start : start + 100])
    done.set()
    reader.join()

    assert not wrong
    assert seen


async def test_a_follower_gets_each_kept_byte_once(tmp_path: Path) -> None:
    """What is followed over many cuts has every byte once and in order, with its gaps counted."""
    path = tmp_path / "sessions" / "s" / "log"
    path.parent.mkdir(parents=True)
    pieces: list[Piece] = []
    with opened(path) as log:
        log.write(STREAM[:1000])
        following = SessionLogs(tmp_path).follow("s", 0)
        end = 1000
        while end < 200_000 or pieces[-1].end < end:
            pieces.append(await anext(following))
            if end < 200_000:
                log.write(STREAM[end : end + 1700])
                end += 1700

    offset = 0
    for piece in pieces:
        assert piece.start >= offset
        assert piece.data == STREAM[piece.start : piece.end]
        offset = piece.end
    assert offset == end


async def test_a_writer_that_died_while_it_cut_leaves_the_beginning(tmp_path: Path) -> None:
    """Of a log that was cut and never completed, the beginning is shown, and nobody waits for more."""
    path = tmp_path / "sessions" / "s" / "log"
    path.parent.mkdir(parents=True)
    with opened(path) as log:
        log.write(STREAM[:5000])
    os.truncate(path, LIMIT // 2)

    assert await SessionLogs(tmp_path).extent("s") == Kept(1024, 1024, 1024)
    assert await SessionLogs(tmp_path).read("s", 0, 5000) == Piece(0, STREAM[:1024])
    assert await SessionLogs(tmp_path).read("s", 4000, 5000) == Piece(4000, b"")


async def test_the_last_lines_of_a_cut_log(tmp_path: Path) -> None:
    """The last lines are those of what is shown, in which the line about the gap counts."""
    path = tmp_path / "sessions" / "s" / "log"
    path.parent.mkdir(parents=True)
    with opened(path) as log:
        log.write(STREAM[:5000])
    source, found = SessionLogs(tmp_path), kept(path)
    shown = path.read_bytes()
    assert re.search(rb"\[trackbook: \d+ bytes", shown)
    for lines in range(1, 300):
        start = await task_logs._start_of_tail(source, "s", found, lines)
        text = b"".join([chunk async for chunk in task_logs._read_lines(source, "s", start, found.end)])
        wanted = b"".join(shown.splitlines(keepends=True)[-lines:])
        assert text in (wanted, b"\n" + wanted)


async def test_ranges_of_a_cut_log(tmp_path: Path) -> None:
    """A range counts the bytes of what is shown: beginning, line about the gap, and end."""
    path = tmp_path / "sessions" / "s" / "log"
    path.parent.mkdir(parents=True)
    with opened(path) as log:
        log.write(STREAM[:5000])
    source, found, shown = SessionLogs(tmp_path), kept(path), path.read_bytes()
    for first in range(0, len(shown), 7):
        offset, skip = found.offset(first)
        part = task_logs._part(task_logs._read_lines(source, "s", offset, found.end), skip, 40)
        assert b"".join([chunk async for chunk in part]) == shown[first : first + 40]
