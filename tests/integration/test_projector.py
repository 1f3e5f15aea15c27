"""The projector on a real file: following, waiting, rebuilding, and what it does when file, disk or log fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest
from histories.made import History, graph, world
from histories.served import all_rows, projected, written
from sqlalchemy import Connection, text

from trackbook.engine import job
from trackbook.engine.ports import Append
from trackbook.events.job import TaskShape
from trackbook.projections.database import DamagedError, Database
from trackbook.projections.feed import Feed
from trackbook.projections.find import CommitFilter, ReadModel
from trackbook.projections.paging import ReadError
from trackbook.projections.projector import NotProjectedError, Projector

ONE = [TaskShape("a")]


async def caught_up(read: ReadModel, history: History) -> None:
    """Wait until all of the history is projected."""
    await read.settled(await history.store.head())


async def until(projector: Projector, condition: Callable[[], object]) -> None:
    """Wait until a condition on the projector holds."""
    async with asyncio.timeout(10):
        while not condition():
            await projector.moved()


def begun_anew(projector: Projector) -> bool:
    """Whether the projector has made its file anew."""
    return projector.restarts == 1


async def test_a_read_waits_for_what_it_asks_for(tmp_path: Path) -> None:
    """A read that names a sequence sees it, however soon after the commit it comes."""
    history = History()
    async with projected(history, tmp_path / "r.db") as read:
        for number in range(20):
            seq = await history.start(f"j{number:02}", "p1", ONE)
            await read.settled(seq)

            assert (await read.job(f"j{number:02}")).seq == seq


async def test_a_read_of_what_never_comes_says_so(tmp_path: Path) -> None:
    """A sequence beyond the log's end isn't waited for without end, and the words say where the log ends."""
    history = History()
    await history.start("j", "p1", ONE)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)

        with pytest.raises(NotProjectedError, match="no sequence 5 yet: it ends at 1"):
            await read.settled(5, timeout=0.01)


async def test_it_goes_on_where_it_stood(tmp_path: Path) -> None:
    """Stopped and started at any moment, it ends with the rows of one that was never stopped."""
    random = Random(11)
    history = History()
    tasks = graph(random, 12)
    await history.start("j", "p1", tasks)
    while history.open_jobs():
        async with projected(history, tmp_path / "r.db") as read:
            for _ in range(3):
                if history.open_jobs():
                    await history.advance(random, history.jobs["j"])
            await read.settled(await history.store.head() - random.randint(0, 2))
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        rows = await all_rows(read.projector.database)

    assert rows == await written(history, tmp_path / "other.db")


async def test_a_rebuild_gives_the_same_rows_while_work_goes_on(tmp_path: Path) -> None:
    """A rebuild under load loses no commit, serves reads meanwhile, and equals the model that it replaces."""
    history = await world(5, jobs=6, size=20)
    random = Random(5)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        before = await all_rows(read.projector.database)

        async def work() -> None:
            for number in range(10):
                await history.start(f"more{number}", "p1", graph(random, 5))
                await history.finish(random, f"more{number}")
                assert (await read.jobs(1)).items

        rebuilding = asyncio.create_task(read.projector.rebuild())
        await asyncio.gather(rebuilding, work())
        await caught_up(read, history)
        rows = await all_rows(read.projector.database)

    assert rows == await written(history, tmp_path / "other.db")
    assert rows["commits"][: len(before["commits"])] == before["commits"]
    assert not (tmp_path / "r.db.new").exists()


async def test_a_rebuild_may_overtake_the_model_that_it_replaces(tmp_path: Path) -> None:
    """Followers of a model that was behind get from the log what the rebuilt one has already."""
    history = await world(4)
    projector = Projector(tmp_path / "r.db", history.store, history.blobs)
    await projector.start()
    assert projector.feed.since(0) == []

    await projector.rebuild()

    assert projector.checkpoint == projector.feed.head == await history.store.head()
    assert projector.feed.since(0) is None
    assert projector.feed.since(projector.checkpoint) == []
    await projector.close()


async def test_an_unreadable_commit_stops_its_job_only(tmp_path: Path) -> None:
    """A commit that can't be read is listed and its job says that it stands still; other jobs go on."""
    history = History()
    await history.start("bad", "p1", ONE)
    await history.start("good", "p1", ONE)
    version = history.head_of("job", "bad")
    unknown = {
        "schema": 1,
        "kind": "job",
        "id": "bad",
        "version": 2,
        "at": history.now,
        "prev": version[2],
        "inputs": [{"actor": "user:eve", "command": {}}],
        "events": [{"type": "TaskTeleported"}],
        "causes": [0],
    }
    wrong = await history.append("job", "bad", msgspec.json.encode(unknown), version[0], 2)
    later = await history.tell("bad", job.ReportTaskStarted("a", 1, history.now))
    await history.tell("good", job.ReportTaskEnded("a", 1, "succeeded", history.now, history.now, 0))

    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        listed = (await read.quarantine(10)).items
        bad, good = await read.job("bad"), await read.job("good")
        events = (await read.events.of("job", "bad", 10)).items
        with pytest.raises(ReadError, match="TaskTeleported"):
            await read.job_at("bad", 2)

    assert [(each.seq, each.aggregate_id) for each in listed] == [(later, "bad"), (wrong, "bad")]
    assert "TaskTeleported" in listed[1].reason
    assert f"sequence {wrong}" in listed[0].reason
    assert bad.state == "pending"
    assert bad.problem is not None
    assert f"sequence {wrong}" in bad.problem
    assert (good.state, good.problem) == ("succeeded", None)
    assert [event.type for event in events] == [
        "JobStarted",
        "TaskStarted",
        "TaskTeleported",
        "TaskLaunchRequested",
        "JobCreated",
    ]


async def test_a_missing_version_is_noticed(tmp_path: Path) -> None:
    """A commit whose version doesn't follow the one before is put aside with these words."""
    history = History()
    await history.start("j", "p1", ONE)
    seq, version, digest = history.head_of("job", "j")
    report = job.ReportTaskStarted("a", 1, history.now)
    await history.tell("j", report)
    stored = history.store.commits.pop()
    history.store._last["job", "j"] = seq
    data = stored.data.replace(b'"version":2', b'"version":3')
    await history.store.append(Append("job", "j", seq, data, "x"))
    assert (version, digest) != (2, "")

    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        [listed] = (await read.quarantine(10)).items

    assert listed.reason == "version 3 follows version 1"


async def test_a_gap_in_the_stream_is_listed(tmp_path: Path) -> None:
    """Sequences that the stream doesn't have are listed as a range, and what stands behind them is projected."""
    history = await world(2)
    number = len(history.store.commits)
    commit = history.store.commits[-1]
    shifted = msgspec.structs.replace(commit, seq=number + 5)
    history.store.commits[-1] = shifted

    rows = await written(history, tmp_path / "r.db")

    assert rows["quarantine"][0][:2] == (number, number + 4)
    assert rows["commits"][-1][0] == number + 5


async def test_a_damaged_file_is_moved_aside_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is no database any more is kept beside a new one that the log fills, and a warning says so."""
    history = await world(1)
    path = tmp_path / "r.db"
    async with projected(history, path) as read:
        await caught_up(read, history)
        rows = await all_rows(read.projector.database)
    path.write_bytes(b"not a database" * 1000)

    async with projected(history, path) as read:
        await caught_up(read, history)
        again = await all_rows(read.projector.database)

    assert again == rows
    assert (tmp_path / "r.db.damaged").read_bytes().startswith(b"not a database")
    assert "made anew from the log" in caplog.text


async def test_a_file_that_is_damaged_while_it_serves_is_made_anew(tmp_path: Path) -> None:
    """When a reader meets a damaged page, the projector rebuilds the file without being restarted."""
    history = await world(4, jobs=6, size=20)
    path = tmp_path / "r.db"
    async with projected(history, path) as read:
        await caught_up(read, history)
        rows = await all_rows(read.projector.database)

        def flush(connection: Connection) -> None:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))

        await read.projector.database.write(flush)
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        with pytest.raises(DamagedError):
            await read.commits(100, None, CommitFilter())
        await until(read.projector, lambda: read.projector.restarts == 1)
        await caught_up(read, history)

        assert await all_rows(read.projector.database) == rows


async def test_another_log_under_the_same_file_is_noticed(tmp_path: Path) -> None:
    """A read model of another log, shorter or as long, isn't taken for one of this log."""
    first, second = await world(1), await world(6)
    for one, other in ((first, second), (second, first)):
        path = tmp_path / f"{id(one)}.db"
        async with projected(one, path) as read:
            await caught_up(read, one)
        async with projected(other, path) as read:
            await until(read.projector, partial(begun_anew, read.projector))
            await caught_up(read, other)

            assert await all_rows(read.projector.database) == await written(other, tmp_path / f"{id(other)}.new")


async def test_a_full_disk_is_told_in_words_and_outlived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk is full the problem is told in words and reads go on; with space again so do writes."""
    history = await world(3)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        projector = read.projector

        def no_more_pages(connection: Connection) -> None:
            pages = connection.execute(text("PRAGMA page_count")).scalar()
            connection.execute(text(f"PRAGMA max_page_count={pages}"))

        def many_pages(connection: Connection) -> None:
            connection.execute(text("PRAGMA max_page_count=1000000"))

        await projector.database.write(no_more_pages)
        await history.start("large", "p1", graph(Random(1), 2000))
        await until(projector, lambda: projector.problem)

        assert "the disk that holds" in projector.problem
        assert "is full" in projector.problem
        assert "1 behind the log" in projector.problem
        assert "is full" in caplog.text
        assert (await read.jobs(1)).items
        with pytest.raises(NotProjectedError, match="is full"):
            await read.settled(await history.store.head(), timeout=0.01)

        await projector.database.write(many_pages)
        await caught_up(read, history)

        assert not projector.problem
        assert (await read.job("large")).tasks.total == 2000


async def test_a_log_that_is_away_is_told_and_outlived(tmp_path: Path) -> None:
    """While the log can't be read the problem says so; when it is back the rows follow."""
    history = await world(3)
    head = history.store.head
    away = True

    async def unsteady() -> int:
        if away:
            raise TimeoutError("no answer from the broker")
        return await head()

    history.store.head = unsteady  # type: ignore[method-assign]
    async with projected(history, tmp_path / "r.db") as read:
        await until(read.projector, lambda: read.projector.problem)

        assert "no answer from the broker" in read.projector.problem

        away = False
        await caught_up(read, history)

        assert (await read.jobs(1)).items


async def test_a_file_of_another_form_is_made_anew(tmp_path: Path) -> None:
    """A file that an older version of the program wrote isn't read as if it were of this one."""
    history = await world(1)
    path = tmp_path / "r.db"
    async with projected(history, path) as read:
        await caught_up(read, history)
        await read.projector.database.write(lambda c: c.execute(text("UPDATE checkpoint SET model = 0")))

    async with projected(history, path) as read:
        await caught_up(read, history)

        assert read.projector.restarts == 1


async def test_a_reader_waits_while_the_file_is_exchanged(tmp_path: Path) -> None:
    """Reads that come while the file is closed are answered once it is open again."""
    database = Database(tmp_path / "r.db")
    await database.open()
    await database.close()
    reading = asyncio.create_task(all_rows(database))
    await asyncio.sleep(0)

    await database.open()

    assert (await reading)["commits"] == []
    await database.close()


def test_the_feed_forgets_what_is_old() -> None:
    """The feed holds a bounded number of commits, and says so to a reader that is further behind."""
    from trackbook.projections.decode import Fact

    feed = Feed()
    feed.publish([Fact(seq, "job", "j", seq, 0, b"x" * 1000) for seq in range(1, 6001)], 6000)

    assert feed.since(0) is None
    assert feed.since(feed.begin - 2) is None
    held = feed.since(feed.begin - 1)
    assert held is not None
    assert [held[0].seq, held[-1].seq] == [feed.begin, 6000]
    assert feed.since(6000) == []
    assert len(held) <= 4096


async def test_nothing_is_asked_of_the_disk_or_the_log_while_nothing_happens(tmp_path: Path) -> None:
    """At rest the projector has nothing scheduled: no timer, no query."""
    history = await world(3)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)

        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]
