"""Our copy of a session's output."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.session.exit_record import SessionRecord
from trackbook.adapters.backendai.session.output import Output
from trackbook.adapters.execution.logs import TAIL

LIMIT = 4096


class Source:
    """Output on the cluster."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.reads = 0

    async def read(self, start: int, size: int) -> bytes | None:
        """Return a part of it."""
        self.reads += 1
        return self.data[start : start + size]

    def record(self, tail: int = 64) -> SessionRecord:
        """Return the exit record."""
        now = datetime.now(UTC)
        return SessionRecord(
            attempt=1, ended_at=now, exit_code=0, size=len(self.data), tail=self.data[-tail:] if tail else b""
        )


async def test_following(tmp_path: Path) -> None:
    """What comes is copied, nothing twice."""
    source = Source(b"one\n")
    output = Output(tmp_path / "s/log", source.read)
    await output.catch_up()
    source.data += b"two\n"
    await output.catch_up()
    await output.catch_up()
    assert (tmp_path / "s/log").read_bytes() == b"one\ntwo\n"
    source.data += b"three\n"
    await output.complete(source.record())
    assert (tmp_path / "s/log").read_bytes() == source.data


async def test_two_copies_at_once_write_nothing_twice(tmp_path: Path) -> None:
    """A copy that is under way when the command ends, and the one made at its end, leave one output."""
    source = Source(b"one\ntwo\n")
    reading, may_go_on = asyncio.Event(), asyncio.Event()

    async def slowly(start: int, size: int) -> bytes | None:
        reading.set()
        await may_go_on.wait()
        return await source.read(start, size)

    output = Output(tmp_path / "log", slowly)
    followed = asyncio.create_task(output.catch_up())
    await reading.wait()
    ended = asyncio.create_task(output.complete(source.record(tail=0)))
    again = asyncio.create_task(output.catch_up())
    await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.gather(followed, ended, again)
    assert (tmp_path / "log").read_bytes() == source.data


async def test_a_short_output_needs_no_read(tmp_path: Path) -> None:
    """The exit record has it all."""
    source = Source(b"short\n")
    await Output(tmp_path / "log", source.read).complete(source.record())
    assert (tmp_path / "log").read_bytes() == b"short\n"
    assert source.reads == 0


async def test_going_on_with_a_copy(tmp_path: Path) -> None:
    """The next executor copies what is missing; a copy with something left out is copied again."""
    source = Source(b"one\n")
    await Output(tmp_path / "log", source.read).catch_up()
    source.data += b"two\n"
    again = Output(tmp_path / "log", source.read)
    assert again.offset == 4
    await again.catch_up()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    (tmp_path / "log").write_bytes(b"one\n[trackbook: 7 bytes of output are left out here]\ntwo\n")
    third = Output(tmp_path / "log", source.read)
    assert third.offset == 0
    await third.complete(source.record())
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


async def test_an_empty_output(tmp_path: Path) -> None:
    """Of a command that says nothing there is an empty file or none, and an empty end."""
    output = Output(tmp_path / "log", Source().read)
    await output.complete(Source().record())
    assert output.tail() == ""


async def test_output_that_began_anew(tmp_path: Path) -> None:
    """Where what was copied is gone on the cluster, the copy goes on with what is there now, and says so."""
    source = Source(b"x" * 500)
    output = Output(tmp_path / "log", source.read)
    await output.catch_up()
    source.data = b"later\n"
    await output.complete(source.record())
    copied = (tmp_path / "log").read_bytes()
    assert copied.startswith(b"x" * 500)
    assert b"[trackbook: " in copied
    assert copied.endswith(b"later\n")


async def test_what_can_not_be_read(tmp_path: Path) -> None:
    """Where the rest can't be had, the record's part is behind a line that says how much is missing."""

    async def away(start: int, size: int) -> bytes | None:
        raise ClusterError("main", "infrastructure", "storage", "it is away")

    source = Source(b"a" * 1000 + b"end\n")
    output = Output(tmp_path / "log", away)
    with pytest.raises(ClusterError):
        await output.complete(source.record(4))
    output.finish(source.record(4))
    assert (tmp_path / "log").read_bytes() == b"\n[trackbook: 1000 bytes of output are left out here]\nend\n"


async def test_the_tail(tmp_path: Path) -> None:
    """Reports carry the end, from the start of a line."""
    source = Source(b"0123456789abcde\n" * 1000)
    output = Output(tmp_path / "log", source.read)
    assert output.tail() == ""
    await output.catch_up()
    assert len(output.tail()) == TAIL - 16
    assert output.tail().startswith("0123")


@given(st.lists(st.tuples(st.integers(0, 5000), st.booleans()), max_size=12), st.integers(0, 500))
async def test_the_copy_is_bounded(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bool]], tail: int
) -> None:
    """However output comes, the copy is never longer than its limit and a line, and has its beginning and end."""
    log = tmp_path_factory.mktemp("output") / "log"
    source = Source()
    output = Output(log, source.read, LIMIT)
    for number, (size, read) in enumerate(pieces):
        source.data += bytes([65 + number]) * size
        if read:
            await output.catch_up()
            assert not log.exists() or log.stat().st_size <= LIMIT
    await output.complete(source.record(tail))
    copied = log.read_bytes() if log.exists() else b""
    assert len(copied) <= LIMIT
    if len(source.data) <= LIMIT:
        assert copied == source.data
    else:
        assert copied[: LIMIT // 2] == source.data[: LIMIT // 2]
        assert copied.endswith(source.data[-500:])
        assert b"bytes of output are left out here]" in copied
