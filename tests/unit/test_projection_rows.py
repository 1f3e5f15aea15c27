"""Given events, then rows: what the read model makes of commits."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from histories.made import History
from histories.served import projected
from msgspec import UNSET
from sqlalchemy.schema import CreateIndex, CreateTable

from trackbook.engine import job
from trackbook.events import pipeline as edits
from trackbook.events.commit import Input
from trackbook.events.job import TaskShape
from trackbook.projections.read.finders import CommitFilter, ReadModel
from trackbook.projections.read.paging import ReadError
from trackbook.projections.tables import MODEL, metadata
from trackbook.projections.views import JobView, TaskView

CHAIN = [TaskShape("a"), TaskShape("b", ["a"]), TaskShape("c", ["a", "b"])]
ANN = Input("user:ann", {"type": "Asked"}, "cmd-1", "corr-1")


async def shown(history: History, path: Path, id: str = "j") -> tuple[JobView, list[TaskView]]:  # noqa: A002
    """Return a job and its tasks as they are shown once all is projected."""
    async with projected(history, path / "readmodel.db") as read:
        await read.settled(await history.store.head())
        return await read.job(id), (await read.tasks(id, 1000)).items


async def at_end(history: History, read: ReadModel) -> None:
    """Wait until all of the history is projected."""
    await read.settled(await history.store.head())


async def test_a_new_job_shows_what_is_launched_and_what_waits(tmp_path: Path) -> None:
    """A job that was just started shows its first task launching and the others pending."""
    history = History()
    seq = await history.start("j", "p1", CHAIN, parameters={"rate": "0.1"})

    found, tasks = await shown(history, tmp_path)

    assert (found.state, found.pipeline, found.pipeline_name) == ("pending", "p1", "name of p1")
    assert (found.actor, found.seq, found.revision) == ("user:ann", seq, 1)
    assert found.parameters == {"rate": "0.1"}
    assert found.created_at == "2026-01-02T03:04:05.678901Z"
    assert found.started_at is None
    assert (found.tasks.total, found.tasks.running, found.tasks.waiting) == (3, 1, 2)
    assert [task.state for task in tasks] == ["launching", "pending", "pending"]
    assert tasks[0].session == "tb-j-0-1"
    assert tasks[1].session is None
    assert tasks[2].dependencies == ["a", "b"]


async def test_a_task_tells_when_it_ran_and_how_it_ended(tmp_path: Path) -> None:
    """A finished task has its times in microseconds, its run time, and exit code 0; its job has started."""
    history = History()
    await history.start("j", "p1", CHAIN)
    began = history.now
    await history.tell("j", job.ReportTaskStarted("a", 1, began))
    await history.tell("j", job.ReportTaskStatus("a", 1, "PREPARING", "", "https://web.example.org/a"))
    await history.tell("j", job.ReportTaskStatus("a", 1, "PULLING"))
    ended = began + timedelta(seconds=2, microseconds=5)
    await history.tell("j", job.ReportTaskEnded("a", 1, "succeeded", ended, began, 0))

    found, tasks = await shown(history, tmp_path)

    assert (found.state, found.tasks.done, found.tasks.running) == ("running", 1, 1)
    assert found.started_at == tasks[0].started_at
    assert tasks[0].state == "succeeded"
    assert tasks[0].run_time == pytest.approx(2.000005)
    assert (tasks[0].exit_code, tasks[0].error, tasks[0].executor_status) == (0, None, "PULLING")
    assert (tasks[0].link, tasks[1].link) == ("https://web.example.org/a", None)
    assert tasks[1].state == "launching"


async def test_a_task_shows_what_is_wrong_with_its_success(tmp_path: Path) -> None:
    """A result that can't be used is a warning of the task, and no error."""
    history = History()
    await history.start("j", "p1", CHAIN)
    ends = history.now
    await history.tell("j", job.ReportTaskEnded("a", 1, "succeeded", ends, ends, 0, message="no JSON"))

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)
        task = await read.task("j", "a")

    assert (task.state, task.warning, task.error) == ("succeeded", "no JSON", None)


@pytest.mark.parametrize("result", [{"loss": 0.5}, [], "", 0, False, None])
async def test_a_task_shows_its_result_apart_from_its_service(tmp_path: Path, result: Any) -> None:
    """Any JSON value is shown as it was left, even an empty one; how a service is reached is another field."""
    history = History()
    await history.start("j", "p1", CHAIN)
    ends = history.now
    service = {"url": "http://there/"}
    await history.tell(
        "j", job.ReportTaskEnded("a", 1, "succeeded", ends, ends, 0, service=service, result=result)
    )

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)
        listed, single = (await read.tasks("j", 1000)).items, await read.task("j", "a")
        moment = await read.job_at("j", 2)

    assert (single.result, single.service) == (result, service)
    assert listed[0] == moment.tasks[0] == single
    assert (listed[1].result, listed[1].service) == (None, None)


async def test_a_long_result_is_shown_with_its_task_alone(tmp_path: Path) -> None:
    """A list of tasks leaves out a result of more than 4 KiB, so that a list of many stays short."""
    history = History()
    await history.start("j", "p1", CHAIN)
    ends = history.now
    await history.tell("j", job.ReportTaskEnded("a", 1, "succeeded", ends, ends, 0, result="x" * 4095))

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)
        listed, single = (await read.tasks("j", 1000)).items, await read.task("j", "a")
        moment = await read.job_at("j", 2)

    assert single.result == "x" * 4095
    assert listed[0].result is UNSET
    assert moment.tasks[0].result is UNSET


async def test_a_failure_stands_on_the_task_and_on_the_job(tmp_path: Path) -> None:
    """The cause of a failure, exit code and last lines are reported on the task and on the job."""
    history = History()
    await history.start("j", "p1", CHAIN)
    report = job.ReportTaskEnded("a", 1, "failed", history.now, history.now, 3, None, "exit code 3", "boom\n")
    await history.tell("j", report)

    found, tasks = await shown(history, tmp_path)

    assert (found.state, found.error, found.failed_task) == ("failed", "task a failed: exit code 3", "a")
    assert (found.exit_code, found.signal, found.tail) == (3, None, "boom\n")
    assert found.finished_at is not None
    assert (tasks[0].state, tasks[0].error, tasks[0].exit_code, tasks[0].tail) == (
        "failed",
        "exit code 3",
        3,
        "boom\n",
    )
    assert [task.state for task in tasks[1:]] == ["cancelled", "cancelled"]
    assert (found.tasks.failed, found.tasks.cancelled, found.tasks.waiting) == (1, 2, 0)


async def test_a_cancelled_job_says_why(tmp_path: Path) -> None:
    """A job that a user cancelled is cancelling until its session is gone, and keeps the reason."""
    history = History()
    await history.start("j", "p1", CHAIN)
    await history.tell("j", job.CancelJob("enough"), actor="user:bob")

    cancelling, _ = await shown(history, tmp_path / "before")
    await history.tell("j", job.ReportTaskEnded("a", 1, "cancelled", history.now, None, None, 15))
    cancelled, tasks = await shown(history, tmp_path / "after")

    assert (cancelling.state, cancelling.reason) == ("cancelling", "enough")
    assert (cancelled.state, cancelled.error, cancelled.reason) == ("cancelled", None, "enough")
    assert (tasks[0].state, tasks[0].signal, tasks[0].run_time) == ("cancelled", 15, None)


async def test_what_is_ready_shows_as_ready(tmp_path: Path) -> None:
    """A task whose dependencies are done but that was not launched yet is ready, not pending."""
    history = History()
    wide = [TaskShape(f"t{number}") for number in range(300)]
    await history.start("j", "p1", wide)

    _, tasks = await shown(history, tmp_path)

    states = [task.state for task in tasks]
    launched = states.count("launching")
    assert 0 < launched < 300
    assert states == ["launching"] * launched + ["ready"] * (300 - launched)


async def test_skipped_tasks_count_as_done(tmp_path: Path) -> None:
    """A skipped task releases its successors and has no session."""
    history = History()
    await history.start("j", "p1", [TaskShape("a", skip=True), TaskShape("b", ["a"])])

    found, tasks = await shown(history, tmp_path)

    assert [task.state for task in tasks] == ["skipped", "launching"]
    assert (found.tasks.done, tasks[0].session) == (1, None)


async def test_pipelines_and_their_versions(tmp_path: Path) -> None:
    """Every commit of a pipeline is a version that tells who changed what; the pipeline shows the last one."""
    history = History()
    await history.pipeline("p1", "train", CHAIN, blob=True)
    changes = [edits.SettingChanged(["description"], "more"), edits.TaskAdded({"name": "d"}, "c")]
    await history.commit("pipeline", "p1", [Input("user:bob", {"type": "Asked"})], changes)
    await history.commit("pipeline", "p1", [ANN], [edits.PipelineRestored(1), edits.TaskRemoved("d")])

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)
        found = await read.pipeline("train")
        versions = (await read.versions("p1", 10)).items
        second = await read.version("p1", 2)
        with pytest.raises(ReadError, match="no version 4: the last one is 3"):
            await read.version("p1", 4)

    assert (found.id, found.name, found.description, found.version, found.tasks) == ("p1", "train", "more", 3, 3)
    assert [version.version for version in versions] == [3, 2, 1]
    assert (versions[0].restored, versions[0].actor) == (1, "user:ann")
    assert (second.tasks, second.actor, second.events) == (4, "user:bob", 2)
    assert second.changes == ["SettingChanged", "TaskAdded"]


async def test_deleted_pipelines_leave_the_list_and_the_name(tmp_path: Path) -> None:
    """A deleted pipeline is listed only when asked for; its name leads to the one that bears it now."""
    history = History()
    await history.pipeline("old", "train", CHAIN)
    await history.commit("pipeline", "old", [ANN], [edits.PipelineDeleted()])
    await history.pipeline("new", "train", CHAIN)

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)
        active = (await read.pipelines(10)).items
        every = (await read.pipelines(10, state="all")).items
        named = await read.pipeline("train")

    assert [each.id for each in active] == ["new"]
    assert [(each.id, each.state) for each in every] == [("new", "active"), ("old", "deleted")]
    assert named.id == "new"


async def test_the_audit_tells_who_did_what(tmp_path: Path) -> None:
    """Commits are found by aggregate, pipeline, actor and type of event; of several actors none is hidden."""
    history = History()
    await history.pipeline("p1", "train", CHAIN)
    await history.start("j", "p1", CHAIN)
    await history.answered("refused")
    start = job.ReportTaskStarted("a", 1, history.now)
    cancel = job.CancelJob()
    await history.tell("j", start, actor="executor:local")
    both = [Input("executor:local", {"type": "x"}, "1"), Input("user:bob", {"type": "y"}, "2")]
    state = history.jobs["j"]
    events = job.decide(state, cancel)
    await history.commit("job", "j", both, events, [1])

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)

        async def found(**only: Any) -> list[int]:
            return [commit.seq for commit in (await read.commits(10, None, CommitFilter(**only))).items]

        assert await found() == [5, 4, 3, 2, 1]
        assert await found(kind="job") == [5, 4, 2]
        assert await found(pipeline="p1") == [5, 4, 2, 1]
        assert await found(actor="user:bob") == [5]
        assert await found(actor="executor:local") == [5, 4]
        assert await found(type="JobStarted") == [4]
        assert await found(type="Job") == []
        last = (await read.commits(1, None, CommitFilter())).items[0]
        assert (last.actor, last.actors) == ("executor:local", ["executor:local", "user:bob"])


async def test_ids_may_be_shortened_while_they_are_unique(tmp_path: Path) -> None:
    """A unique beginning of an id is enough; of several, candidates are named; an id is never ambiguous."""
    history = History()
    for name in ("abc1", "abc2", "abc", "xyz"):
        await history.start(name, "p1", CHAIN)

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)

        assert (await read.job("x")).id == "xyz"
        assert (await read.job("abc")).id == "abc"
        with pytest.raises(ReadError, match="abc, abc1, abc2") as ambiguous:
            await read.job("ab")
        with pytest.raises(ReadError, match="no job 'q'") as missing:
            await read.job("q")
        with pytest.raises(ReadError, match="no job ''"):
            await read.job("")

    assert (ambiguous.value.code, missing.value.code) == ("ambiguous_id", "job_not_found")


async def test_lists_go_on_from_their_cursor(tmp_path: Path) -> None:
    """Pages join without gap or overlap although the list grows at its top; strangers' cursors are refused."""
    history = History()
    for number in range(7):
        await history.start(f"j{number}", f"p{number % 2}", CHAIN)

    async with projected(history, tmp_path / "r.db") as read:
        await at_end(history, read)
        first = await read.jobs(3)
        await history.start("later", "p0", CHAIN)
        await at_end(history, read)
        second = await read.jobs(3, first.next)
        third = await read.jobs(3, second.next)
        for wrong in ("zzz", "e30", "WzEsMl0", "ä"):
            with pytest.raises(ReadError, match="not a cursor"):
                await read.jobs(3, wrong)

    assert [found.id for page in (first, second, third) for found in page.items] == [
        f"j{number}" for number in reversed(range(7))
    ]
    assert third.next is None


def test_the_tables_have_a_number_of_their_own() -> None:
    """Whoever changes a table raises MODEL, so that older files are rebuilt, and records both here."""
    ddl = [str(CreateTable(table)) for table in metadata.sorted_tables]
    ddl += [
        str(CreateIndex(index))
        for table in metadata.sorted_tables
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    ]
    digest = hashlib.sha256("\n".join(ddl).encode()).hexdigest()
    assert (MODEL, digest[:16]) == (9, "0459ca87c3d8085b")
