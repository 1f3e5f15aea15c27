"""Jobs in motion: from a start to an end, through restarts, races and late reports."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from office import Office, event_types, opened, start_job, until_launched, wide
from structlog.testing import capture_logs

from trackbook.engine import job as jobs
from trackbook.engine.ports import Append, AppendConflict
from trackbook.testing.executor import Play
from trackbook.testing.store import MemoryEventStore


async def test_a_tasks_end_and_its_successors_launch_are_one_commit(tmp_path: Path) -> None:
    """No crash can come between a task's end and what follows from it."""
    office = await opened(tmp_path)

    job = await start_job(office)
    ended = await office.ended(job)

    assert ended.state.status == "succeeded"
    assert any({"TaskSucceeded", "TaskLaunchRequested"} <= set(types) for types in event_types(office, job))
    await office.close()


async def test_a_failure_stops_what_runs_and_the_job_ends_once_it_is_gone(tmp_path: Path) -> None:
    """The cause stands on the job; nothing else is launched."""
    yaml = "name: f\ntasks:\n" + "".join(f"- {{name: {n}, command: x}}\n" for n in ("bad", "long"))
    yaml += "- {name: after, command: x, dependencies: [bad]}\n"

    def script(spec: Any) -> Play:
        return Play(exit_code=3, message="exit code 3", tail="boom") if spec.task == "bad" else Play(hold=True)

    office = await opened(tmp_path, script=script)

    job = await start_job(office, yaml)
    ended = await office.ended(job)

    assert ended.state.status == "failed"
    assert ended.state.cause is not None
    task, error = ended.state.cause
    assert (task, error.exit_code, error.tail) == ("bad", 3, "boom")
    assert {spec.task for spec in office.executor.launches} == {"bad", "long"}
    assert not office.executor.live
    await office.close()


async def test_what_is_not_on_the_log_is_not_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor that attaches while a commit waits for the broker gets nothing that stands in that commit."""
    office = await opened(tmp_path, script=lambda spec: Play(hold=spec.task == "first"))
    job = await start_job(office)
    await until_launched(office, 1)
    append, asked, answers = office.store.append, asyncio.Event(), asyncio.Event()

    async def slow(*commits: Append) -> list[int]:
        asked.set()
        await answers.wait()
        return await append(*commits)

    monkeypatch.setattr(office.store, "append", slow)
    office.executor.finish(f"tb-{job}-0-1")
    await asked.wait()
    await office.jobs.recover("local")
    state = (await office.jobs.state(job)).state
    before = [spec.task for spec in office.executor.launches]
    answers.set()
    ended = await office.ended(job)

    assert set(before) == {"first"}
    assert state.tasks["second"].status == "pending"
    assert ended.state.status == "succeeded"
    await office.close()


async def test_a_job_has_not_ended_before_its_end_is_on_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that waits for all jobs waits for the commit of the last end as well."""
    office = await opened(tmp_path, script=lambda spec: Play(hold=spec.task == "second"))
    job = await start_job(office)
    await until_launched(office, 2)
    append, asked, answers = office.store.append, asyncio.Event(), asyncio.Event()

    async def slow(*commits: Append) -> list[int]:
        asked.set()
        await answers.wait()
        return await append(*commits)

    monkeypatch.setattr(office.store, "append", slow)
    office.executor.finish(f"tb-{job}-1-1")
    await asked.wait()
    waiting = asyncio.create_task(office.jobs.all_ended())
    for _ in range(10):
        await asyncio.sleep(0)
    early = waiting.done()
    answers.set()
    await waiting

    assert not early
    assert (await office.aggregates.load("job", job)).state.status == "succeeded"
    await office.close()


async def test_a_paused_job_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    """Whatever ends meanwhile, and across a restart, nothing is launched before somebody resumes the job."""
    office = await opened(tmp_path, script=lambda spec: Play(hold=spec.task == "first"))
    job = await start_job(office)
    await until_launched(office, 1)
    await office.must("job.pause", job=job, reason="at night")
    office.executor.finish(f"tb-{job}-0-1")
    async with asyncio.timeout(60):
        while (await office.jobs.state(job)).state.tasks["second"].status != "ready":  # noqa: ASYNC110 - as turns go
            await asyncio.sleep(0)
    await office.close()
    office = await opened(tmp_path, office.store, office.blobs)

    paused = (await office.jobs.state(job)).state.status
    reply = await office.must("job.resume", job=job)
    ended = await office.ended(job)

    assert paused == "paused"
    assert reply["job"] == job
    assert ended.state.status == "succeeded"
    assert [spec.task for spec in office.executor.launches] == ["second"]
    assert (await office.ask("job.pause", job=job))["error"]["code"] == "job_ended"
    await office.close()


async def test_cancel_ends_the_job_once_every_session_is_gone(tmp_path: Path) -> None:
    """Accepted at once; cancelled when confirmed; a second cancel finds it ended."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True))
    job = await start_job(office)
    await until_launched(office, 1)

    reply = await office.must("job.cancel", job=job[:1], reason="enough")
    ended = await office.ended(job)
    again = await office.ask("job.cancel", job=job)

    assert reply["job"] == job
    assert ended.state.status == "cancelled"
    assert again["error"]["code"] == "job_ended"
    await office.close()


async def test_a_new_engine_takes_up_what_the_old_one_left(tmp_path: Path) -> None:
    """After a restart each outstanding session is handed on again under its name, and the job goes on."""
    office = await opened(tmp_path, script=lambda spec: Play(hold=spec.task == "first"))
    job = await start_job(office)
    await until_launched(office, 1)
    await office.close()

    later = Office(tmp_path, office.store, office.blobs, office.executors)
    await later.open()
    office.executor.finish(f"tb-{job}-0-1")
    ended = await later.ended(job)

    assert ended.state.status == "succeeded"
    assert office.executor.runs == {f"tb-{job}-0-1": 1, f"tb-{job}-1-1": 1}
    await later.close()


async def test_late_and_doubled_reports_change_nothing(tmp_path: Path) -> None:
    """Once a job has ended, reports are taken without a commit."""
    office = await opened(tmp_path)
    job = await start_job(office)
    await office.ended(job)
    before = list(office.store.commits)

    late = jobs.ReportTaskEnded("first", 1, "failed", datetime.now(UTC), exit_code=1)
    await office.jobs.report("local", job, late)
    await office.jobs.report("local", "nosuchjob", late)

    assert office.store.commits == before
    await office.close()


async def test_reports_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    """A busy job's rate is that of its reports per commit, not of its commits."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True, silent=True))
    job = await start_job(office, wide(50))
    await until_launched(office, 50)

    for n in range(50):
        office.executor.finish(f"tb-{job}-{n}-1", Play())
    await office.ended(job)

    assert len(event_types(office, job)) < 10
    await office.close()


async def test_more_ready_tasks_than_a_commit_launches_follow_in_the_next(tmp_path: Path) -> None:
    """A fan-out of 700 is launched whole, at most 256 to a commit."""
    office = await opened(tmp_path)

    job = await start_job(office, wide(700))
    ended = await office.ended(job)

    assert ended.state.status == "succeeded"
    assert max(types.count("TaskLaunchRequested") for types in event_types(office, job)) <= 256
    assert len(office.executor.runs) == 700
    await office.close()


@pytest.mark.parametrize("problem", [AppendConflict("another was first"), TimeoutError("no answer")])
async def test_what_is_due_is_launched_although_a_commit_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """Nobody says anything to a job that launches the rest of a fan-out: its owner itself tries again."""
    office = await opened(tmp_path)
    append, fails = office.store.append, [problem]

    async def failing(*commits: Append) -> list[int]:
        if b'"command":null' in commits[0].data and b"JobCreated" not in commits[0].data and fails:
            raise fails.pop()
        return await append(*commits)

    monkeypatch.setattr(office.store, "append", failing)
    job = await start_job(office, wide(700))
    ended = await office.ended(job)

    assert not fails
    assert ended.state.status == "succeeded"
    await office.close()


async def test_a_cancel_does_not_wait_for_all_that_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a wide fan-out is launched commit by commit, what is said to the job comes into the next one."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True, silent=True))
    append, asked, answers = office.store.append, asyncio.Event(), asyncio.Event()

    async def slow(*commits: Append) -> list[int]:
        if commits[0].kind == "job" and commits[0].expected_seq:
            asked.set()
            await answers.wait()
        return await append(*commits)

    monkeypatch.setattr(office.store, "append", slow)
    job = await start_job(office, wide(2000))
    await asked.wait()
    cancelled = asyncio.create_task(office.must("job.cancel", job=job))
    for _ in range(50):
        await asyncio.sleep(0)
    answers.set()
    await cancelled
    await office.ended(job)

    assert sum(types.count("TaskLaunchRequested") for types in event_types(office, job)) == 512
    await office.close()


async def test_a_refusal_is_answered_once_what_it_rests_on_is_stored(tmp_path: Path) -> None:
    """A cancel that waits behind the job's last report, refused since the job has ended, is decided again when
    that report's commit is lost to another writer."""
    office = await opened(tmp_path, _Contested(0), script=lambda _: Play(hold=True, silent=True))
    one = "name: one\ntasks:\n- {name: only, command: x}\n"
    job = await start_job(office, one)
    await until_launched(office, 1)
    assert isinstance(office.store, _Contested)
    office.store.times = 1

    office.executor.finish(f"tb-{job}-0-1", Play())
    report = jobs.ReportTaskEnded("only", 1, "succeeded", datetime.now(UTC))
    ended, cancelled = await asyncio.gather(
        office.jobs.report("local", job, report), office.ask("job.cancel", job=job), return_exceptions=True
    )

    assert ended is None
    assert isinstance(cancelled, dict)
    assert cancelled["error"]["code"] == "job_ended"
    assert (await office.ended(job)).state.status == "succeeded"
    await office.close()


async def test_what_follows_from_a_start_carries_its_correlation(tmp_path: Path) -> None:
    """Every event of a job leads back to the command that began it, across restarts of the engine."""
    office = await opened(tmp_path)
    job = await start_job(office, correlation_id="order-66")
    await office.ended(job)

    commits = [json.loads(stored.data) for stored in office.store.commits if stored.id == job]
    correlations = {given["correlation"] for commit in commits for given in commit["inputs"]}

    assert correlations == {"order-66"}
    assert len(commits) > 1
    await office.close()


class _Contested(MemoryEventStore):
    """Refuses the n-th append about a job as a conflict, although nobody else wrote."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def append(self, *commits: Append) -> list[int]:
        if commits[0].kind == "job" and self.times:
            self.times -= 1
            raise AppendConflict("another was first")
        return await super().append(*commits)


async def test_a_lost_race_loses_no_report(tmp_path: Path) -> None:
    """Inputs stay in the job's inbox until their commit is acknowledged."""
    office = await opened(tmp_path, _Contested(3))

    job = await start_job(office)
    ended = await office.ended(job)

    assert ended.state.status == "succeeded"
    await office.close()


async def test_an_unknown_event_stops_its_own_job_only(tmp_path: Path) -> None:
    """An engine that meets an event of a later version leaves that job alone, says so, and runs the others."""
    office = await opened(tmp_path, script=lambda _: Play(hold=True))
    strange, sound = await start_job(office), await start_job(office)
    await until_launched(office, 2)
    await office.close()
    last = [stored for stored in office.store.commits if stored.id == strange][-1]
    commit = json.loads(last.data) | {"events": [{"type": "JobTeleported"}], "causes": [0]}
    commit |= {"version": commit["version"] + 1, "prev": hashlib.sha256(last.data).hexdigest()}
    await office.store.append(Append("job", strange, last.seq, json.dumps(commit).encode(), "m"))

    later = Office(tmp_path, office.store, office.blobs, office.executors)
    with capture_logs() as logs:
        await later.open()
    for task in (0, 1):
        await until_launched(later, 3 + task)
        office.executor.finish(f"tb-{sound}-{task}-1")
    ended = await later.ended(sound)

    assert ended.state.status == "succeeded"
    assert [log["job"] for log in logs if log["event"] == "job.quarantined"] == [strange]
    assert any("JobTeleported" in log["found"] for log in logs if log["event"] == "history.damaged")
    await later.close()
