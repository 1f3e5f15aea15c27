"""The live stream over a real connection: complete, in order, and resumable wherever it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from histories.made import History, graph, world
from histories.served import Site, site
from msgspec import Struct

from trackbook.engine import job
from trackbook.events.job import TaskShape
from trackbook.http.endpoints import event_stream

ONE = [TaskShape("a")]


class Sent(Struct):
    """One server-sent event; a block without an event has the type ''."""

    id: str = ""
    event: str = ""
    data: Any = None


async def sent(served: Site, last: str | None = None, **only: str) -> AsyncGenerator[Sent, None]:
    """Yield what the stream sends, from after the event `last` on."""
    headers = {} if last is None else {"last-event-id": last}
    async with served.client.stream("GET", "/api/events", params=only, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        block = Sent()
        async for line in answer.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                block.id = value
            elif field == "event":
                block.event = value
            elif field == "data":
                block.data = msgspec.json.decode(value)
            elif not line and (block.id or block.event):
                yield block
                block = Sent()


async def take(served: Site, number: int, last: str | None = None, **only: str) -> list[Sent]:
    """Return the next events."""
    found: list[Sent] = []
    async with asyncio.timeout(60), aclosing(sent(served, last, **only)) as blocks:
        async for block in blocks:
            if block.event:
                found.append(block)
            if len(found) == number:
                return found
    raise AssertionError("the stream ended")


async def listed(served: Site, path: str) -> list[dict[str, Any]]:
    """Return a whole list of events, oldest first."""
    events: list[dict[str, Any]] = []
    query: dict[str, Any] = {"order": "oldest", "limit": 1000}
    while True:
        page = await served.get(path, **query)
        events += page["items"]
        if page["next"] is None:
            return events
        query["cursor"] = page["next"]


@pytest.mark.parametrize("seed", range(5))
async def test_random_disconnects_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """However often the connection breaks while jobs run, what came is exactly what the lists say, in order."""
    random = Random(seed)
    history = History()
    async with site(history, tmp_path / "r.db") as served:
        running = asyncio.create_task(_work(history, random))
        got: list[Sent] = []
        last = "0.0"
        while not running.done() or len(got) < _total(history):
            breaks_after = random.randint(1, 40)
            number = 0
            async with aclosing(sent(served, last)) as blocks:
                async for block in blocks:
                    got.append(block)
                    last, number = block.id, number + 1
                    if number == breaks_after or (running.done() and len(got) >= _total(history)):
                        break
        await running
        expected: list[dict[str, Any]] = []
        for id in history.jobs:  # noqa: A001
            expected += await listed(served, f"/api/jobs/{id}/events")
        one_job = await take(served, len(await listed(served, "/api/jobs/j0/events")), job="j0")

        assert [block.id for block in got] == [f"{block.data['seq']}.{block.data['index']}" for block in got]
        assert [block.data for block in got] == sorted(expected, key=lambda event: (event["seq"], event["index"]))
        assert [block.data for block in one_job] == await listed(served, "/api/jobs/j0/events")


def _total(history: History) -> int:
    return sum(len(msgspec.json.decode(commit.data)["events"]) for commit in history.store.commits)


async def _work(history: History, random: Random) -> None:
    for number in range(4):
        await history.start(f"j{number}", "p1", graph(random, 8))
    while open_jobs := history.open_jobs():
        await history.advance(random, random.choice(open_jobs), trouble=0.02)
        if random.random() < 0.2:
            await asyncio.sleep(0)


async def test_an_event_is_sent_once_it_can_be_read(tmp_path: Path) -> None:
    """By the time an event arrives, every read shows what it says."""
    history = History()
    async with site(history, tmp_path / "r.db") as served, aclosing(sent(served)) as blocks:
        await anext(blocks)
        await history.start("j", "p1", ONE)
        created, launched = await anext(blocks), await anext(blocks)
        await history.tell("j", job.ReportTaskEnded("a", 1, "succeeded", history.now, history.now, 0))
        types = [(await anext(blocks)).event for _ in range(5)]
        found = await served.get("/api/jobs/j")

    assert (created.event, launched.event) == ("JobCreated", "TaskLaunchRequested")
    assert (created.id, launched.id) == ("1.0", "1.1")
    assert types[-1] == "JobSucceeded"
    assert found["state"] == "succeeded"


async def test_a_new_follower_begins_now_and_learns_where_that_is(tmp_path: Path) -> None:
    """Without an id nothing old is sent, and a connection that breaks before the first event can be resumed."""
    history = await world(2)
    async with site(history, tmp_path / "r.db") as served:
        async with aclosing(sent(served)) as blocks:
            first = await anext(blocks)
        await history.start("new", "p1", ONE)

        resumed = await take(served, 2, first.id)

    assert (first.event, first.data) == ("", None)
    assert first.id.startswith(f"{len(history.store.commits) - 1}.")
    assert [(block.event, block.data["aggregate_id"]) for block in resumed] == [
        ("JobCreated", "new"),
        ("TaskLaunchRequested", "new"),
    ]


async def test_filters(tmp_path: Path) -> None:
    """A follower of a job, a pipeline or a kind gets these events only, from the log and live alike."""
    history = await world(9)
    async with site(history, tmp_path / "r.db") as served:
        every = await take(served, _total(history), "0")

        async def follows(number: int, **only: str) -> list[str]:
            return [block.id for block in await take(served, number, "0", **only)]

        of_job = [block.id for block in every if block.data["aggregate"] == "job/job01"]
        of_kind = [block.id for block in every if block.data["kind"] == "outcome"]
        jobs = {each["id"] for each in (await served.get("/api/jobs", pipeline="p1"))["items"]}
        of_pipeline = [block.id for block in every if block.data["aggregate_id"] in jobs | {"p1"}]

        assert await follows(len(of_job), job="job01") == of_job
        assert await follows(len(of_kind), kind="outcome") == of_kind
        assert await follows(len(of_pipeline), pipeline="p1") == of_pipeline

        async with aclosing(sent(served, "0", pipeline="p1")) as blocks:
            for _ in of_pipeline:
                await anext(blocks)
            await history.start("other", "p0", ONE)
            await history.start("mine", "p1", ONE)
            assert (await anext(blocks)).data["aggregate_id"] == "mine"


async def test_an_id_beyond_the_log_is_reset(tmp_path: Path) -> None:
    """A client that knows of more than the log has is asked to read again, and follows from the log's end."""
    history = await world(1)
    head = len(history.store.commits)
    async with site(history, tmp_path / "r.db") as served, aclosing(sent(served, "100000.0")) as blocks:
        reset = await anext(blocks)
        await history.start("new", "p1", ONE)
        following = await anext(blocks)

    assert (reset.event, reset.data) == ("reset", {"head": head})
    assert reset.id.startswith(f"{head}.")
    assert following.data["aggregate_id"] == "new"


async def test_an_id_in_the_middle_of_a_commit_continues_there(tmp_path: Path) -> None:
    """Resuming after the first of a commit's events sends the others of it."""
    history = History()
    await history.start("j", "p1", [TaskShape(f"t{number}") for number in range(5)])
    async with site(history, tmp_path / "r.db") as served:
        events = await take(served, 3, "1.2")
        by_query = await take(served, 3, last_event_id="1.2")

    assert [block.id for block in events] == ["1.3", "1.4", "1.5"]
    assert by_query == events


async def test_many_followers_share_one_reading_of_the_log(tmp_path: Path) -> None:
    """Followers who are up to date cost no reads of the log, however many they are."""
    history = await world(1)
    async with site(history, tmp_path / "r.db") as served:
        reads = 0
        read_all = history.store.read_all

        def counted(from_seq: int) -> Any:
            nonlocal reads
            reads += 1
            return read_all(from_seq)

        history.store.read_all = counted  # type: ignore[method-assign]
        followers = [aclosing(sent(served)) for _ in range(20)]
        streams = [await follower.__aenter__() for follower in followers]
        for blocks in streams:
            await anext(blocks)
        await history.start("new", "p1", ONE)
        got = [await anext(blocks) for blocks in streams]
        for follower in followers:
            await follower.__aexit__(None, None, None)

    assert {block.data["aggregate_id"] for block in got} == {"new"}
    assert reads == 0


async def test_a_quiet_stream_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing happens a comment is sent now and then, and nothing is read for it."""
    monkeypatch.setattr(event_stream, "KEEP_ALIVE", 0.01)
    async with (
        site(History(), tmp_path / "r.db") as served,
        served.client.stream("GET", "/api/events") as answer,
    ):
        lines = aiter(answer.aiter_lines())
        async with asyncio.timeout(60):
            while await anext(lines) != ":":
                pass


async def test_what_cannot_be_read_is_asked_to_followers(tmp_path: Path) -> None:
    """A commit that can't be read stands in the stream as `quarantined`; one of an unknown type as it is."""
    history = History()
    await history.start("j", "p1", ONE)
    await history.append("job", "bad", b"\xff", 0, 1)
    odd = b'{"schema":1,"kind":"job","id":"odd","version":1,"at":"2026-01-02T03:04:05Z","prev":"",'
    odd += b'"inputs":[],"events":[{"type":"Odd\\nid: 9"}],"causes":[0]}'
    await history.append("job", "odd", odd, 0, 1)
    async with site(history, tmp_path / "r.db") as served:
        _, _, unreadable, unknown = await take(served, 4, "0")

    assert (unreadable.event, unreadable.data["aggregate"]) == ("quarantined", "job/bad")
    assert (unknown.event, unknown.data["type"], unknown.id) == ("unknown", "Odd\nid: 9", "3.0")
    assert unknown.data["actor"] == ""


async def test_followers_are_let_go_when_the_server_stops(tmp_path: Path) -> None:
    """A server that stops ends its streams instead of waiting for them."""
    async with site(History(), tmp_path / "r.db") as served:
        blocks = sent(served)
        await anext(blocks)
        async with asyncio.timeout(10):
            await served.server.stop()
            assert [block async for block in blocks] == []
        served.server.stop = _nothing  # type: ignore[method-assign]


async def _nothing() -> None:
    return None
