"""Unknown query parameters and values are refused, and HEAD works where GET does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from histories.made import example
from histories.served import Site, site


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over two pipelines, a job that failed and one that runs."""
    async with site(await example(), tmp_path / "readmodel.db") as found:
        found.logs.write("tb-running-job-0-1", b"one\ntwo\n")
        yield found


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/api/pipelines/RAG-vs-nonRGA", "Did you mean 'RAG-vs-nonRAG'?"),
        ("/api/pipelines/OTHER", "Did you mean 'other'?"),
        ("/api/jobs/failed-job/tasks/NFCORE.ALIGN.SORT_8", "Did you mean 'NFCORE.ALIGN.SORT_7'?"),
        ("/api/jobs/failed-job/tasks/quite", "Its tasks: a, NFCORE.ALIGN.SORT_7."),
    ],
)
async def test_a_name_that_nothing_has_is_answered_with_a_near_one(served: Site, path: str, hint: str) -> None:
    """Or with the names of the tasks that there are."""
    answer = await served.client.get(path)

    assert answer.status_code == 404
    assert hint in answer.json()["error"]["hint"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        (
            "/api/jobs?stat=failed",
            "Did you mean 'state'? Known here: after, cursor, limit, pipeline, state, total.",
        ),
        ("/api/pipelines?limit=3&nme=x", "Did you mean 'name'?"),
        ("/api/audit?typ=JobFailed", "Did you mean 'type'?"),
        ("/api/jobs/failed-job?x=1", "Known here: after."),
        ("/api/events?jobs=failed-job", "Did you mean 'job'?"),
        ("/api/jobs/failed-job/tasks/a/logs?tial=3", "Did you mean 'tail'?"),
    ],
)
async def test_an_unknown_query_parameter_is_refused(served: Site, path: str, hint: str) -> None:
    """It would be ignored otherwise: 400, with the known ones and the one that was meant."""
    answer = await served.client.get(path)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unknown_parameter"
    assert hint in answer.json()["error"]["hint"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/api/audit?type=JobFaild", "JobFailed"),
        ("/api/audit?kind=jobs", "job"),
        ("/api/events?kind=pipelin", "pipeline"),
        ("/api/jobs/failed-job/events?type=TaskFaild", "TaskFailed"),
        ("/api/pipelines/PIPELINE/events?type=TaskAded", "TaskAdded"),
    ],
)
async def test_a_type_or_kind_that_does_not_exist_is_refused(served: Site, path: str, meant: str) -> None:
    """An empty list would say that nothing of it ever happened."""
    pipeline = (await served.get("/api/pipelines"))["items"][0]["id"]
    answer = await served.client.get(path.replace("PIPELINE", pipeline))

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_parameter")
    assert f"Did you mean {meant!r}?" in answer.json()["error"]["hint"]


@pytest.mark.parametrize(
    "path",
    ["/", "/api/pipelines", "/api/jobs?limit=1", "/api/jobs/failed-job", "/health/live", "/metrics",
     "/api/jobs/no-such-job", "/api/jobs?nope=1"],
)  # fmt: skip
async def test_head_is_answered_as_get_is_without_a_body(served: Site, path: str) -> None:
    """Status and type are the same, also those of errors."""
    head, get = await served.client.head(path), await served.client.get(path)

    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert get.content != b""


async def test_head_of_a_stream_ends(served: Site) -> None:
    """What GET would follow for ever is answered at once, and the connection serves what comes next."""
    async with asyncio.timeout(60):
        events = await served.client.head("/api/events")
        log = await served.client.head("/api/jobs/running-job/tasks/a/logs", params={"follow": "true"})

    assert (events.status_code, events.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert log.status_code == 200
    assert (await served.client.get("/health/live")).status_code == 200


async def test_head_is_no_way_around_a_method(served: Site) -> None:
    """Where there is no GET, HEAD is refused as GET is."""
    answer = await served.client.head("/api/commands/job/start")

    assert answer.status_code == (await served.client.get("/api/commands/job/start")).status_code == 405
