"""Output of tasks over HTTP: parts, ends, ranges, and all of it as it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from histories.made import History
from histories.served import Site, site
from hypothesis import given
from hypothesis import strategies as st

from trackbook.adapters.execution.output_log import Kept, Piece
from trackbook.engine import job
from trackbook.events.job import TaskShape
from trackbook.http.endpoints import task_logs

SESSION = "tb-j-0-1"
PATH = "/api/jobs/j/tasks/a/logs"
TEXT = b"one\ntwo\nthree\n"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over a job whose first task runs and wrote some lines; its second one waits."""
    history = History()
    await history.start("j", "p1", [TaskShape("a"), TaskShape("b", ["a"])])
    async with site(history, tmp_path / "readmodel.db") as found:
        found.logs.write(SESSION, TEXT)
        yield found


async def end(served: Site, task: str = "a") -> None:
    """Let a task end."""
    now = served.history.now
    await served.history.tell("j", job.ReportTaskEnded(task, 1, "succeeded", now, now, 0))


PARTS: tuple[tuple[dict[str, int], dict[str, str], int, bytes], ...] = (
    ({}, {}, 200, TEXT),
    ({"offset": 4}, {}, 200, b"two\nthree\n"),
    ({"offset": 400}, {}, 200, b""),
    ({"tail": 1}, {}, 200, b"three\n"),
    ({"tail": 2}, {}, 200, b"two\nthree\n"),
    ({"tail": 0}, {}, 200, b""),
    ({"tail": 99}, {}, 200, TEXT),
    ({}, {"range": "bytes=4-6"}, 206, b"two"),
    ({}, {"range": "bytes=8-"}, 206, b"three\n"),
    ({}, {"range": "bytes=-6"}, 206, b"three\n"),
    ({}, {"range": "bytes=0-999"}, 206, TEXT),
)


async def test_parts_of_a_log(served: Site) -> None:
    """A log is read whole, from an offset, its last lines, or a range of bytes, as plain text."""
    for query, headers, status, body in PARTS:
        answer = await served.client.get(PATH, params=query, headers=headers)

        assert (query, headers, answer.status_code, answer.content) == (query, headers, status, body)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["trackbook-log-size"] == str(len(TEXT))
        assert ("content-range" in answer.headers) == (status == 206)


async def test_ranges_that_hold_nothing(served: Site) -> None:
    """A range that lies outside of the log is 416."""
    for wrong in ("bytes=99-", "bytes=-0"):
        answer = await served.client.get(PATH, headers={"range": wrong})

        assert (answer.status_code, answer.json()["error"]["code"]) == (416, "range_not_satisfiable")


async def test_ranges_that_cannot_be_honoured_are_ignored(served: Site) -> None:
    """Another unit, several ranges and what is no range leave the answer whole, as RFC 9110 says."""
    for odd in ("lines=1-2", "bytes=5-4", "bytes=-", "bytes=0-1,3-4", "bytes=a-b", "", "bytes=" + "9" * 40 + "-"):
        answer = await served.client.get(PATH, headers={"range": odd})

        assert (odd, answer.status_code, answer.content) == (odd, 200, TEXT)
        assert "content-range" not in answer.headers


async def test_a_task_without_output_says_so(served: Site) -> None:
    """A task that hasn't run has no log, and the answer tells its state."""
    answer = await served.client.get("/api/jobs/j/tasks/b/logs")

    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "task b has no output: it is pending"


async def test_a_log_is_followed_until_its_task_has_ended(served: Site) -> None:
    """A follower gets what is there, then what comes, and the end once the task has ended."""
    async with asyncio.timeout(60), served.client.stream("GET", PATH, params={"follow": 1}) as answer:
        chunks = aiter(answer.aiter_bytes())
        first = await anext(chunks)
        served.logs.write(SESSION, b"four\n")
        second = await anext(chunks)
        served.logs.write(SESSION, b"five\n")
        await end(served)
        rest = b"".join([chunk async for chunk in chunks])

    assert (first, second, rest) == (TEXT, b"four\n", b"five\n")


async def test_a_log_is_followed_from_its_last_lines(served: Site) -> None:
    """`tail` and `follow` together begin with the last lines."""
    await end(served)

    answer = await served.client.get(PATH, params={"follow": 1, "tail": 1})

    assert answer.content == b"three\n"


async def test_a_task_that_has_not_begun_is_awaited(served: Site) -> None:
    """Following a task that waits for others begins once its session has."""
    path = "/api/jobs/j/tasks/b/logs"
    async with asyncio.timeout(60), served.client.stream("GET", path, params={"follow": 1}) as answer:
        served.logs.write("tb-j-1-1", b"hello\n")
        await end(served)
        chunks = aiter(answer.aiter_bytes())
        first = await anext(chunks)
        await end(served, "b")
        rest = [chunk async for chunk in chunks]

    assert (first, rest) == (b"hello\n", [])


async def test_a_task_that_never_begins_ends_the_stream(served: Site) -> None:
    """Following a task that is cancelled before it began ends without output."""
    async with (
        asyncio.timeout(60),
        served.client.stream("GET", "/api/jobs/j/tasks/b/logs", params={"follow": 1}) as answer,
    ):
        await served.history.tell("j", job.CancelJob())
        chunks = [chunk async for chunk in answer.aiter_bytes()]

    assert chunks == []


@given(st.binary(max_size=60).map(lambda data: data.replace(b"x", b"\n")), st.integers(0, 9), st.integers(1, 70))
def test_the_last_lines_are_found_however_the_log_is_cut(data: bytes, lines: int, chunk: int) -> None:
    """The last lines found by reading backwards in pieces are those that splitting the whole gives."""

    class Source:
        async def read(self, session: str, offset: int, limit: int) -> Piece:
            return Piece(offset, data[offset : offset + limit])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_logs, "_CHUNK", chunk)
        start = asyncio.run(task_logs._start_of_tail(Source(), "s", Kept(*[len(data)] * 3), lines))  # type: ignore[arg-type]

    pieces = data.split(b"\n")
    whole = [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    assert data[start:] == b"".join(whole[max(0, len(whole) - lines) :])
