"""The projector on a real file: following, waiting, rebuilding, and rest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from histories.made import History, graph, world
from histories.served import all_rows, caught_up, projected, written
from progress import loop_turns

from trackbook.events.job import TaskShape
from trackbook.projections.database import Database
from trackbook.projections.feed import Feed
from trackbook.projections.write.projector import NotProjectedError, Projector

ONE = [TaskShape("a")]


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


async def test_a_job_whose_log_was_lost_meanwhile_stands_still(tmp_path: Path) -> None:
    """After a restart the log has not what was projected of a job: it is put aside, the others go on."""
    random = Random(3)
    history = History()
    for id in ("lost", "whole"):  # noqa: A001
        await history.start(id, "p1", graph(random, 6))
        await history.advance(random, history.jobs[id])
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
    history.store.commits[:] = [c for c in history.store.commits if (c.id, c.seq) != ("lost", 2)]
    for id in ("lost", "whole"):  # noqa: A001
        await history.finish(random, id)

    async with projected(history, tmp_path / "r.db") as read:
        await read.settled(await history.store.head())
        problem = (await read.job("lost")).problem
        whole = await read.job("whole")

    assert problem is not None
    assert "its history is not what was projected before" in problem
    assert whole.state == "succeeded"
    assert whole.problem is None


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


async def test_rebuilds_at_once_are_made_one_after_the_other(tmp_path: Path) -> None:
    """Whoever asks while the read model is being rebuilt waits, and gets one as well."""
    history = await world(5, jobs=2, size=5)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        made = await asyncio.gather(*(read.projector.rebuild() for _ in range(4)))

        assert made == [await history.store.head()] * 4


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
    from trackbook.projections.decoded_commit import DecodedCommit

    feed = Feed()
    feed.publish([DecodedCommit(seq, "job", "j", seq, 0, b"x" * 1000) for seq in range(1, 6001)], 6000)

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


async def test_stopping_in_the_middle_of_a_write_leaves_a_sound_file(tmp_path: Path) -> None:
    """Stopped at any step of a write, it ends at once, and together the runs project everything once."""
    random = Random(12)
    history = History()
    await history.start("j", "p1", graph(random, 40))
    while history.open_jobs():
        await history.advance(random, history.jobs["j"], trouble=0.0)
        projector = Projector(tmp_path / "r.db", history.store, history.blobs)
        await projector.start()
        running = asyncio.create_task(projector.run())
        await loop_turns(random.randrange(250))
        running.cancel()
        async with asyncio.timeout(60):
            await asyncio.gather(running, return_exceptions=True)
            await projector.close()
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        rows = await all_rows(read.projector.database)

    assert rows == await written(history, tmp_path / "other.db")


async def test_a_read_that_is_given_up_harms_no_other(tmp_path: Path) -> None:
    """Readers that go away in the middle of a query leave connections that serve the next ones."""
    history = await world(12, jobs=5, size=12)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        random = Random(1)
        for _ in range(40):
            reading = [asyncio.create_task(read.tasks("job00", 100)) for _ in range(6)]
            await loop_turns(random.randrange(250))
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
        async with asyncio.timeout(60):
            assert (await read.tasks("job00", 100)).items
