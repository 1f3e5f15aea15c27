"""What the projector does when the log, the file or the disk are not as they should be."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from histories.made import History, graph, world
from histories.served import all_rows, begun_anew, caught_up, projected, until, written
from sqlalchemy import Connection, text

from trackbook.engine import job
from trackbook.engine.ports import Append
from trackbook.events.commit import Commit, Input
from trackbook.events.job import TaskShape, TaskStarted
from trackbook.projections.errors import DamagedError
from trackbook.projections.read.finders import CommitFilter
from trackbook.projections.read.paging import ReadError
from trackbook.projections.write.projector import NotProjectedError

ONE = [TaskShape("a")]


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


async def test_a_commit_without_its_body_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit whose body is stored nowhere is listed with these words, and the others are projected."""

    async def get(sha256: str) -> bytes:
        raise LookupError(f"blob {sha256[:4]} is not stored")

    history = History()
    await history.pipeline("p1", "train", ONE, blob=True)
    await history.start("j", "p1", ONE)
    monkeypatch.setattr(history.blobs, "get", get)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        [listed] = (await read.quarantine(10)).items

        assert "is not stored" in listed.reason
        assert (await read.job("j")).id == "j"


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

    assert listed.reason == "version 3 can't follow version 1"


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
    assert "made again from the log" in caplog.text


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


async def test_a_full_disk_is_reported_in_words_and_outlived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk is full the problem is reported in words and reads go on; with space again so do writes."""
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


async def test_a_log_that_is_away_is_reported_and_outlived(tmp_path: Path) -> None:
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


async def test_a_commit_with_another_hash_of_the_one_before_is_put_aside(tmp_path: Path) -> None:
    """The read model checks the chain as well, also of an aggregate that it has to look up again."""
    history = History()
    await history.start("j", "p1", ONE)
    seq, _, _ = history.head_of("job", "j")
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
    wrong = Commit[Any, Any](
        1, "job", "j", 2, history.now, "0" * 64, [Input("executor:local", {})],
        [TaskStarted("a", 1, history.now)], [0],
    )  # fmt: skip
    await history.store.append(Append("job", "j", seq, msgspec.json.encode(wrong), "z"))

    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        [listed] = (await read.quarantine(10)).items
        shown = (await read.tasks("j", 10)).items[0].state

    assert "hash" in listed.reason
    assert shown == "launching"


async def test_a_row_that_the_log_does_not_say_is_found(tmp_path: Path) -> None:
    """SQLite sees no changed value; compared with a new read model, each row is named, ten of a table at most."""
    history = await world(3)
    for number in range(15):
        await history.start(f"more{number}", "p1", ONE)
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        assert await read.projector.compare() == []

        def damage(connection: Connection) -> None:
            connection.execute(text("UPDATE jobs SET error = 'none'"))
            connection.execute(text("UPDATE pipelines SET version = 99, actor = 'user:eve' WHERE no = 1"))
            connection.execute(text("DELETE FROM commits WHERE seq = 3"))

        await read.projector.database.write(damage)
        pipeline = (await read.pipelines(100)).items[-1]
        number = len((await read.jobs(100)).items)
        found = await read.projector.compare()

    commits, jobs, pipelines = sorted(found)
    assert "table commits, 1 row: seq=3 (missing)" in commits
    assert f"table pipelines, 1 row: no=1 id={pipeline.id} name={pipeline.name} (version, actor)" in pipelines
    assert f"table jobs, {number} rows: no=" in jobs
    assert jobs.count("(error)") == 10
    assert jobs.endswith(f" and {number - 10} more")
    assert not list(tmp_path.glob("*.compared*"))


async def test_the_first_fault_of_each_history_is_known_after_a_restart(tmp_path: Path) -> None:
    """What can't be folded has no broken chain that a check of the log would see: the projector tells."""
    history = History()
    await history.start("good", "p1", ONE)
    foreign = Commit[Any, Any](
        1, "job", "bad", 1, history.now, "", [Input("user:eve", {})], [TaskStarted("a", 1, history.now)], [0]
    )
    [seq] = await history.store.append(Append("job", "bad", 0, msgspec.json.encode(foreign), "x"))
    for _ in range(2):
        async with projected(history, tmp_path / "r.db") as read:
            await caught_up(read, history)
            [(kind, id_, at, reason)] = read.projector.first_faults()
            assert (kind, id_, at) == ("job", "bad", seq)
            assert "begins with JobCreated" in reason
