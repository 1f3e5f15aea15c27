"""The owner of aggregates: decisions over several of them, conflicts, bounded memory, back-pressure."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from office import CHAIN, Office, opened, start_job, until_launched, wide
from structlog.testing import capture_logs

from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.engine import kinds
from trackbook.engine.job import CancelJob, ReportTaskStatus, ResumeJob
from trackbook.engine.ports import Append
from trackbook.events.commit import Input
from trackbook.runtime import mailboxes
from trackbook.testing.executor import Play
from trackbook.testing.store import MemoryEventStore


class Held(MemoryEventStore):
    """Appends nothing between `hold` and `release`; `asked` is set once somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self._open = asyncio.Event(), asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Let appends wait from now on."""
        self.asked.clear()
        self._open.clear()

    def release(self) -> None:
        """Let them through."""
        self._open.set()

    async def append(self, *commits: Append) -> list[int]:
        """Append all or none."""
        self.asked.set()
        await self._open.wait()
        return await super().append(*commits)


def batches(office: Office) -> list[list[str]]:
    """Return the kinds in each atomic batch of the log."""
    commits = [json.loads(stored.data) for stored in office.store.commits]
    found = {tuple(commit["batch"]): commit for commit in commits if commit.get("batch")}
    return [[member.split("/")[0] for member in batch] for batch in found]


async def _together(office: Office, *asked: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    async with asyncio.timeout(60):
        return await asyncio.gather(*(office.ask(command, **payload) for command, payload in asked))


async def test_a_pipeline_and_its_names_are_one_batch(tmp_path: Path) -> None:
    """A rename takes the new name, frees the old one and edits the pipeline, or does none of it."""
    office = await opened(tmp_path)
    await office.must("pipeline.create", name="a")
    await office.must("pipeline.rename", pipeline="a", name="b")

    assert batches(office) == [["name", "pipeline"], ["name", "name", "pipeline"]]
    await office.close()


async def test_names_that_change_hands_crosswise_wait_for_each_other_in_order(tmp_path: Path) -> None:
    """Renames that need each other's names at once all come to an end, and each name has one bearer."""
    office = await opened(tmp_path)
    made = [(await office.must("pipeline.create", name=name))["pipeline"] for name in "abcd"]

    renames = [("pipeline.rename", {"pipeline": id_, "name": to}) for id_, to in zip(made, "bcda", strict=True)]
    replies = await _together(
        office, *renames, *(("pipeline.rename", {"pipeline": i, "name": "z"}) for i in made)
    )

    assert {reply["error"]["code"] for reply in replies if "error" in reply} <= {"name_taken"}
    states = [(await office.owner.state("pipeline", id_)).state for id_ in made]
    assert len({state.name for state in states}) == 4
    await office.close()


async def test_a_refused_rename_leaves_the_pipeline_as_it_was(tmp_path: Path) -> None:
    """What was folded for a decision that its companion refuses is forgotten."""
    office = await opened(tmp_path)
    made = await office.must("pipeline.create", name="a")
    await office.must("pipeline.create", name="b")

    refused = await office.ask("pipeline.rename", pipeline="a", name="b")
    edit = {"op": "set_variable", "variable": "V", "value": "1"}
    reply = await office.must("pipeline.edit", pipeline="a", changes=[edit])

    assert refused["error"]["code"] == "name_taken"
    assert (reply["name"], reply["version"]) == ("a", 2)
    assert (await office.history.content(made["pipeline"], 2))["name"] == "a"
    await office.close()


async def test_two_applies_of_a_new_name_at_once_make_one_pipeline(tmp_path: Path) -> None:
    """Both find no pipeline of that name: one creates it, the other edits it."""
    office = await opened(tmp_path)

    other = CHAIN.replace("echo two", "echo three")
    replies = await _together(office, ("pipeline.apply", {"yaml": CHAIN}), ("pipeline.apply", {"yaml": other}))

    assert [reply["status"] for reply in replies] == ["accepted"] * 2
    assert replies[0]["pipeline"] == replies[1]["pipeline"]
    assert {reply["version"] for reply in replies} == {1, 2}
    await office.close()


async def test_a_name_means_the_pipeline_that_bears_it_when_it_is_decided(tmp_path: Path) -> None:
    """A delete by name that is decided behind a rename does not delete what has another name by then."""
    office = await opened(tmp_path)
    made = await office.must("pipeline.create", name="old")

    rename = ("pipeline.rename", {"pipeline": "old", "name": "new"})
    renamed, deleted = await _together(office, rename, ("pipeline.delete", {"pipeline": "old"}))

    assert renamed["status"] == "accepted"
    assert deleted["error"]["code"] == "pipeline_not_found"
    assert not (await office.owner.state("pipeline", made["pipeline"])).state.deleted
    await office.close()


async def test_a_command_that_another_engine_carried_out_meanwhile_is_not_repeated(tmp_path: Path) -> None:
    """A pause that the other engine made, and that somebody undid, is not made again after the conflict."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    store = Held()
    one = await opened(tmp_path / "one", store, script=lambda _: Play(hold=True))
    two = await opened(tmp_path / "two", MemoryEventStore(), one.blobs, lambda _: Play(hold=True))
    job = await start_job(one)
    await until_launched(one, 1)
    store.hold()
    paused = asyncio.create_task(one.ask("job.pause", job=job, command_id="c1"))
    await store.asked.wait()
    await two.close()
    two = await opened(tmp_path / "two", _view(store), one.blobs, lambda _: Play(hold=True))
    first = await two.must("job.pause", job=job, command_id="c1")
    await two.owner.submit("job", job, Input("test", ResumeJob()))
    store.release()

    assert await paused == first
    assert (await one.aggregates.load("job", job)).state.status == "running"
    await one.close()
    await two.close()


def _view(store: MemoryEventStore) -> MemoryEventStore:
    """Return the same log for another engine, which is not held."""
    view = MemoryEventStore()
    view.__dict__ = store.__dict__
    return view


async def test_more_inputs_than_a_mailbox_holds_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that find no room are answered as well, and the inbox never grows beyond its bound."""
    monkeypatch.setattr(mailboxes, "WAITING", 8)
    store = Held()
    office = await opened(tmp_path, store, script=lambda _: Play(hold=True, silent=True))
    job = await start_job(office, wide(1))
    await until_launched(office, 1)
    store.hold()

    reports = [ReportTaskStatus("t0", 1, f"status {number}") for number in range(100)]
    given = [asyncio.create_task(office.jobs.report("local", job, report)) for report in reports]
    await store.asked.wait()
    mailbox = office.owner._mailboxes.get("job", job)
    assert mailbox is not None
    assert len(mailbox.inbox) == 8
    store.release()
    await asyncio.gather(*given)

    assert (await office.jobs.state(job)).state.tasks["t0"].executor_status == "status 99"
    await office.close()


async def test_memory_holds_a_bounded_number_of_idle_aggregates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest idle ones are read again when they are wanted; of a job that has ended nothing stays."""
    for kind in ("pipeline", "name"):
        monkeypatch.setitem(kinds.KINDS, kind, _keeping(kind, 3))
    office = await opened(tmp_path)
    for number in range(10):
        await office.must("pipeline.create", name=f"p{number}")
    job = await start_job(office)
    await office.ended(job)
    await office.jobs.all_ended()

    held = [kind for kind, _ in office.owner._mailboxes.all()]
    assert held.count("pipeline") <= 3
    assert held.count("name") <= 3
    assert held.count("job") == 0
    assert (await office.must("pipeline.rename", pipeline="p0", name="q"))["version"] == 2
    await office.close()


def _keeping(kind: str, kept: int) -> kinds.Kind:
    how = kinds.KINDS[kind]
    return kinds.Kind(**{name: getattr(how, name) for name in how.__struct_fields__} | {"kept": kept})


async def test_an_unknown_aggregate_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """Reports about jobs that never were don't fill it."""
    office = await opened(tmp_path)

    for number in range(10):
        report = ReportTaskStatus("t", 1, "RUNNING")
        await office.jobs.report("local", f"job{number}", report)

    assert office.owner._mailboxes.all() == []
    await office.close()


async def test_a_worker_that_dies_is_logged_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the owner itself delays an aggregate, and stops neither it nor others."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True))
    job = await start_job(office)
    await until_launched(office, 1)
    try_commit, faults = office.owner._try_commit, [ValueError("a fault of ours")]

    async def faulty(*given: Any) -> bool:
        if faults:
            raise faults.pop()
        return await try_commit(*given)

    monkeypatch.setattr(office.owner, "_try_commit", faulty)
    with capture_logs() as logs:
        answered = await office.owner.submit("job", job, Input("test", CancelJob()))

    assert answered.changed
    assert [log["task"] for log in logs if log["event"] == "task.restarted"] == [f"job/{job}"]
    await office.close()


async def test_a_task_that_fails_is_not_forgotten() -> None:
    """Its failure is logged under its name, though nobody waits for it; closing ends the others."""
    tasks = TaskSupervisor()

    async def fails() -> None:
        raise ValueError(f"at {datetime.now(UTC)}")

    with capture_logs() as logs:
        failing = tasks.spawn(fails(), "failing")
        waiting = tasks.spawn(asyncio.Event().wait(), "waiting")
        await asyncio.wait([failing])
        await tasks.close()

    assert [(log["event"], log["task"]) for log in logs] == [("task.failed", "failing")]
    assert waiting.cancelled()
