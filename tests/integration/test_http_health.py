"""Errors, health and figures over HTTP."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from histories.made import example, world
from histories.served import Site, caught_up, site, until
from sqlalchemy import Connection, text

from trackbook.adapters.nats.errors import StoreFull
from trackbook.events.job import TaskShape
from trackbook.projections.errors import DiskFullError
from trackbook.projections.write.stall_detector import Progress


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over two pipelines, a job that failed and one that runs."""
    async with site(await example(), tmp_path / "readmodel.db") as found:
        found.logs.write("tb-running-job-0-1", b"one\ntwo\n")
        yield found


ERRORS = (
    ("/api/jobs/none", 404, "job_not_found"),
    ("/api/jobs/none/tasks", 404, "job_not_found"),
    ("/api/jobs/running-job/tasks/none", 404, "task_not_found"),
    ("/api/jobs/running-job/at/99", 404, "job_version_not_found"),
    ("/api/jobs/running-job/at/1.99", 404, "job_version_not_found"),
    ("/api/jobs/running-job/at/0", 404, "job_version_not_found"),
    ("/api/jobs/running-job/at/now", 400, "invalid_parameter"),
    ("/api/jobs/running-job/at/1.", 400, "invalid_parameter"),
    ("/api/jobs?cursor=xyz", 400, "invalid_cursor"),
    ("/api/jobs?limit=0", 400, "invalid_request"),
    ("/api/jobs?limit=many", 400, "invalid_request"),
    ("/api/jobs?state=asleep", 400, "invalid_request"),
    ("/api/jobs?after=-1", 400, "invalid_request"),
    ("/api/audit?since=yesterday", 400, "invalid_request"),
    ("/api/pipelines/none", 404, "pipeline_not_found"),
    ("/api/pipelines/p", 409, "ambiguous_id"),
    ("/api/pipelines/p1/versions/9", 404, "pipeline_version_not_found"),
    ("/api/pipelines/p1/versions/0", 400, "invalid_request"),
    ("/api/pipelines/p1/diff?from=1&to=9", 404, "pipeline_version_not_found"),
    ("/api/pipelines/p1/diff?to=1", 400, "invalid_request"),
    ("/api/events?last_event_id=x", 400, "invalid_parameter"),
    ("/api/events?job=none", 404, "job_not_found"),
    ("/nowhere", 404, "not_found"),
)


async def test_errors_have_a_code_and_words(served: Site) -> None:
    """What can't be shown is answered with a fitting status, a stable code and words."""
    for path, status, code in ERRORS:
        answer = await served.client.get(path)

        assert (path, answer.status_code, answer.json()["error"]["code"]) == (path, status, code), answer.text
        assert len(answer.json()["error"]["message"]) > 5
        assert answer.headers["x-content-type-options"] == "nosniff"


FULL = (
    OSError(errno.ENOSPC, "no space"),
    OSError(errno.EDQUOT, "quota"),
    DiskFullError("full"),
    StoreFull("full"),
)


async def test_a_full_disk_is_named(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that needs room is answered with a code of its own and a hint, not as a fault of the server."""
    for problem in FULL:
        monkeypatch.setattr(served.read, "job", AsyncMock(side_effect=problem))

        answer = await served.client.get("/api/jobs/x")

        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_full")
        assert "Free some space" in answer.json()["error"]["hint"]


async def test_an_unexpected_failure_tells_nothing_of_the_inside(
    served: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours is answered with 500 and no more; the server's log has the rest."""

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(served.read, "job", broken)

    answer = await served.client.get("/api/jobs/x")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "a secret" in caplog.text


async def test_health_says_in_words_what_is_wrong(served: Site) -> None:
    """Ready is 200 when all is well, and 503 with every problem in words when it isn't; live is always 200."""
    assert (await served.get("/health/ready")) == {
        "status": "ready",
        "problems": [],
        "checkpoint": await served.head(),
        "head": await served.head(),
        "quarantined": 0,
    }
    served.status.wrong = ["the broker at 127.0.0.1:4222 doesn't answer"]
    served.read.projector.problem = "the disk that holds readmodel.db is full"

    answer = await served.client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["problems"] == [
        "the broker at 127.0.0.1:4222 doesn't answer",
        "the disk that holds readmodel.db is full",
    ]
    assert (await served.get("/health/live")) == {"status": "live"}


async def test_a_configuration_that_cannot_be_used_is_a_warning(served: Site) -> None:
    """The system works on with what it had loaded: degraded, and no 503."""
    served.executors.problem = "executors.toml is not TOML. The configuration from before stays in use"

    found = await served.get("/health/ready")

    assert found["status"] == "degraded"
    assert found["warnings"] == ["executors.toml is not TOML. The configuration from before stays in use"]


async def test_a_read_model_that_does_not_move_is_named(served: Site, tmp_path: Path) -> None:
    """One that has work and made no progress for 10 s is a problem, with how far it is behind, until it moves."""
    projector, now = served.read.projector, [0.0]
    projector.progress = Progress(lambda: now[0])

    def wait_long(connection: Connection) -> None:
        connection.execute(text("PRAGMA busy_timeout=600000"))

    await projector.database.write(wait_long)
    with closing(sqlite3.connect(tmp_path / "readmodel.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await served.history.start("late", "p1", [TaskShape("a")])
        assert (await served.get("/health/ready"))["status"] == "ready"
        now[0] = 9.9
        assert (await served.get("/health/ready"))["status"] == "ready"
        now[0] = 12.0

        answer = await served.client.get("/health/ready")

        assert answer.status_code == 503
        [problem] = answer.json()["problems"]
        assert "1 behind the log, and has not moved for 12 s" in problem
        other.execute("ROLLBACK")
    await caught_up(served.read, served.history)
    assert (await served.get("/health/ready"))["status"] == "ready"


async def test_a_log_that_is_not_delivered_is_no_progress_either(
    served: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the projector never hears of a commit, the log's own end tells that there is work."""
    projector, now = served.read.projector, [0.0]
    projector.progress = Progress(lambda: now[0])
    monkeypatch.setattr(served.history.store, "head", AsyncMock(return_value=await served.head() + 3))
    assert (await served.get("/health/ready"))["status"] == "ready"
    now[0] = 10.0

    [problem] = (await served.client.get("/health/ready")).json()["problems"]

    assert "3 behind the log" in problem


async def test_a_file_that_another_program_locks_is_named(served: Site, tmp_path: Path) -> None:
    """Once the write gave up, the problem says that another program has the file locked; then it goes on."""
    projector = served.read.projector

    def give_up_soon(connection: Connection) -> None:
        connection.execute(text("PRAGMA busy_timeout=1"))

    await projector.database.write(give_up_soon)
    with closing(sqlite3.connect(tmp_path / "readmodel.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await served.history.start("late", "p1", [TaskShape("a")])
        await until(projector, lambda: projector.problem)

        assert f"another program has {tmp_path / 'readmodel.db'} locked" in projector.problem
        assert "1 behind the log" in projector.problem
        other.execute("ROLLBACK")
    await caught_up(served.read, served.history)
    assert (await served.get("/health/ready"))["status"] == "ready"


async def test_metrics_are_in_prometheus_form(served: Site) -> None:
    """Metrics tell the projection's place, jobs by state and what the rest of the system adds, with types."""
    text = (await served.client.get("/metrics")).text
    lines = text.splitlines()

    assert f"trackbook_projection_checkpoint {await served.head()}" in lines
    assert 'trackbook_jobs{state="failed"} 1' in lines
    assert "trackbook_sessions_running 3" in lines
    names = {re.split(r"[ {]", line)[0] for line in lines if not line.startswith("#")}
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == names
    assert text.endswith("\n")


async def test_the_rows_can_be_rebuilt_over_http(tmp_path: Path) -> None:
    """A rebuild asked for over HTTP answers with the checkpoint, and everything reads as before."""
    history = await world(8)
    async with site(history, tmp_path / "r.db") as served:
        before = await served.get("/api/jobs")

        answer = await served.client.post("/api/projection/rebuild")

        assert (answer.status_code, answer.json()) == (200, {"checkpoint": await served.head()})
        assert await served.get("/api/jobs") == before
