"""Reading over HTTP, on a real connection: the contract's endpoints, fields, orders and errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from histories.made import History, example, graph
from histories.served import Site, site

from trackbook.events.job import TaskShape
from trackbook.projections.write.projector import NotProjectedError

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
JOB_FIELDS = {"id", "pipeline", "version", "state", "created_at", "started_at", "finished_at", "error"}
TASK_FIELDS = {
    "name",
    "state",
    "attempt",
    "session",
    "started_at",
    "finished_at",
    "run_time",
    "exit_code",
    "error",
}
EVENT_FIELDS = {"seq", "aggregate", "version", "type", "at", "actor", "correlation_id", "causation_id", "data"}
CHAIN = [TaskShape("a"), TaskShape("NFCORE.ALIGN.SORT_7", ["a"])]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over two pipelines, a job that failed and one that runs."""
    async with site(await example(), tmp_path / "readmodel.db") as found:
        found.logs.write("tb-running-job-0-1", b"one\ntwo\n")
        of_job = (await found.read.job("running-job")).pipeline
        for file in ("p1/vfroot/note", f"{of_job}/jobs/running-job/0-a/1/outputs/result"):
            path = tmp_path / "pipelines" / file
            path.parent.mkdir(parents=True)
            path.write_text("written")
        yield found


PATHS: dict[str, dict[str, str | int]] = {
    "/api/pipelines": {},
    "/api/pipelines/{pipeline}": {},
    "/api/pipelines/{pipeline}/versions": {},
    "/api/pipelines/{pipeline}/versions/{version}": {},
    "/api/pipelines/{pipeline}/versions/{version}/yaml": {},
    "/api/pipelines/{pipeline}/diff": {"from": 1, "to": 2},
    "/api/pipelines/{pipeline}/events": {},
    "/api/pipelines/{pipeline}/folder": {},
    "/api/pipelines/{pipeline}/folders": {},
    "/api/pipelines/{pipeline}/files": {},
    "/api/pipelines/{pipeline}/files/content": {"path": "vfroot/note"},
    "/api/pipelines/{pipeline}/files/archive": {"path": "vfroot"},
    "/api/jobs": {},
    "/api/jobs/{job}": {},
    "/api/jobs/{job}/tasks": {},
    "/api/jobs/{job}/tasks/{name}": {},
    "/api/jobs/{job}/tasks/{name}/logs": {},
    "/api/jobs/{job}/tasks/{name}/files": {},
    "/api/jobs/{job}/tasks/{name}/files/content": {"path": "result"},
    "/api/jobs/{job}/tasks/{name}/files/archive": {},
    "/api/jobs/{job}/events": {},
    "/api/jobs/{job}/at/{moment}": {},
    "/api/jobs/{key}/replay": {},
    "/api/audit": {},
    "/api/audit/verify": {},
    "/api/log": {},
    "/api/quarantine/{kind}/{name}": {},
    "/api/quarantine": {},
    "/api/executors": {},
    "/api/code/{sha256}": {},
    "/health/live": {},
    "/health/ready": {},
    "/metrics": {},
}
ELSEWHERE = {"/api/events", "/api/commands/{kind}/{verb}", "/api/projection/rebuild", "/api/backup"}
"""Paths that have tests of their own."""

FILLED = {
    "{pipeline}": "RAG-vs-nonRAG",
    "{version}": "1",
    "{job}": "running-job",
    "{key}": "running-job",
    "{name}": "a",
    "{kind}": "job",
    "{moment}": "1.0",
    "{sha256}": "0" * 64,
}


def fill(path: str) -> str:
    """Return a path with all of its parameters filled in."""
    for name, value in FILLED.items():
        path = path.replace(name, value)
    return path


async def test_every_route_answers_and_is_in_the_openapi_document(served: Site) -> None:
    """The document lists exactly the routes that are tried here; each answers with 200 and guarding headers."""
    document = await served.get("/schema/openapi.json")

    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == set(PATHS) | ELSEWHERE
    assert set(REFERENCE.findall(msgspec.json.encode(document).decode())) <= set(
        document["components"]["schemas"]
    )
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for path, query in PATHS.items():
        answer = await served.client.get(fill(path), params=query)
        assert (answer.status_code, path) == (200, path), answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_read_waits_for_what_it_is_asked_to_show(
    served: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read of the model takes `after`; a sequence that doesn't come in time is answered 504, in words."""

    async def never(after: int | None, timeout: float = 0) -> None:
        if after is not None:
            raise NotProjectedError(f"sequence {after} was not projected within 10 s: the read model is at 7")

    monkeypatch.setattr(served.read, "settled", never)
    document = await served.get("/schema/openapi.json")
    waiting = {
        path
        for path, methods in document["paths"].items()
        if any(parameter["name"] == "after" for parameter in methods.get("get", {}).get("parameters", ()))
    }

    assert waiting == {path for path in PATHS if path.startswith("/api")} - {
        "/api/audit/verify",
        "/api/log",
        "/api/quarantine/{kind}/{name}",
        "/api/jobs/{key}/replay",
        "/api/executors",
        "/api/code/{sha256}",
    }
    for path in waiting:
        answer = await served.client.get(fill(path), params={**PATHS[path], "after": 99})
        assert answer.status_code == 504
        assert answer.json()["error"] == {
            "code": "not_projected",
            "message": "sequence 99 was not projected within 10 s: the read model is at 7",
            "hint": "Read again later; /health/ready shows the state of the system.",
        }


async def test_a_sequence_beyond_the_log_is_refused(served: Site) -> None:
    """A read `after` a sequence that the log does not have is answered 400, not waited for."""
    head = await served.head()
    answers = [await served.client.get("/api/jobs", params={"after": head + more}) for more in (0, 1, 2**60)]

    assert [each.status_code for each in answers] == [200, 400, 400]
    assert answers[1].json()["error"] == {
        "code": "sequence_unknown",
        "message": f"the log has no sequence {head + 1} yet: it ends at {head}",
        "hint": "`after` is the `seq` of a command's reply.",
    }


async def test_a_sequence_that_the_log_has_is_waited_for(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence that the projector has not heard of is waited for if the log has it, or can't be read."""
    waited: list[int] = []
    head = await served.head()

    async def wait_for(seq: int, timeout: float | None = None) -> None:
        waited.append(seq)

    async def ends_later() -> int:
        return head + 1

    async def unreadable() -> int:
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(served.read.projector, "wait_for", wait_for)
    for answer in (ends_later, unreadable):
        monkeypatch.setattr(served.read.pages.log, "head", answer)
        await served.read.settled(head + 1)

    assert waited == [head + 1, head + 1]


async def test_jobs_and_tasks_have_the_fields_of_the_contract(served: Site) -> None:
    """Jobs come newest first and tasks in the pipeline's order, with the contract's fields and times."""
    jobs = (await served.get("/api/jobs"))["items"]
    tasks = (await served.get("/api/jobs/failed-job/tasks"))["items"]

    assert [each["id"] for each in jobs] == ["running-job", "failed-job"]
    assert [each["state"] for each in jobs] == ["running", "failed"]
    assert [each["name"] for each in tasks] == ["a", "NFCORE.ALIGN.SORT_7"]
    assert set(jobs[0]) >= JOB_FIELDS
    assert set(tasks[0]) >= TASK_FIELDS
    assert jobs[1]["error"] == "task a failed: exit code 3"
    assert (tasks[0]["exit_code"], tasks[0]["error"], tasks[0]["run_time"]) == (3, "exit code 3", 0.0)
    for moment in (jobs[1]["created_at"], jobs[1]["started_at"], jobs[1]["finished_at"], tasks[0]["finished_at"]):
        assert MOMENT.fullmatch(moment)
    assert (jobs[0]["finished_at"], jobs[0]["error"]) == (None, None)


async def test_filters_of_jobs(served: Site) -> None:
    """Jobs are filtered by pipeline (name, id or beginning of the id) and by one state or several."""

    async def ids(**query: Any) -> list[str]:
        return [each["id"] for each in (await served.get("/api/jobs", **query))["items"]]

    assert await ids(pipeline="RAG-vs-nonRAG") == ["failed-job"]
    assert await ids(pipeline="p2") == ["running-job"]
    assert await ids(state="failed") == ["failed-job"]
    assert await ids(state=["failed", "running"]) == ["running-job", "failed-job"]
    assert await ids(state="pending") == []


async def test_events_say_who_caused_them(served: Site) -> None:
    """Events have the contract's fields; each is caused by an event, its command or report, or being due."""
    events = (await served.get("/api/jobs/failed-job/events", order="oldest"))["items"]
    newest = (await served.get("/api/jobs/failed-job/events"))["items"]

    assert set(events[0]) >= EVENT_FIELDS
    assert newest == events[::-1]
    assert [event["type"] for event in events[:2]] == ["JobCreated", "TaskLaunchRequested"]
    assert events[0]["actor"] == "user:ann"
    assert events[0]["causation_id"] == "failed-job-0-0"
    assert (events[0]["id"], events[1]["actor"]) == ("job/failed-job/1/0", "engine")
    assert events[1]["causation_id"] == "job/failed-job/1/input-1"
    assert events[-1]["causation_id"] == events[-2]["id"]
    assert events[1]["correlation_id"] == events[0]["correlation_id"] == "corr-failed-job-0-0"
    assert events[-1]["type"] == "JobFailed"
    assert events[-1]["actor"] == "executor:local"
    assert events[-1]["data"]["error"]["exit_code"] == 3
    assert MOMENT.fullmatch(events[0]["at"])
    assert await events_of_type(served, "TaskFailed") == ["TaskFailed"]


async def events_of_type(served: Site, type: str) -> list[str]:  # noqa: A002
    """Return the types of the events that a filter leaves."""
    found = await served.get("/api/jobs/failed-job/events", type=type)
    return [event["type"] for event in found["items"]]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_of_events_join(tmp_path: Path, limit: int) -> None:
    """Events read page by page, whatever size and order, are all events once, commits of many included."""
    history = History()
    tasks = graph(Random(3), 9)
    await history.pipeline("p0", "wide", tasks, blob=True)
    await history.start("j", "p0", [TaskShape(f"t{number}") for number in range(6)])
    await history.finish(Random(3), "j")
    async with site(history, tmp_path / "r.db") as served:
        for path in ("/api/jobs/j/events", "/api/pipelines/wide/events"):
            whole = (await served.get(path, limit=1000))["items"]
            for order in ("newest", "oldest"):
                pages = await all_pages(served, path, limit=limit, order=order)

                assert [event for page in pages for event in page] == (
                    whole if order == "newest" else whole[::-1]
                )
                assert all(len(page) <= limit for page in pages)


async def all_pages(served: Site, path: str, **query: Any) -> list[list[dict[str, Any]]]:
    """Return a list page by page."""
    pages, cursor = [], None
    while True:
        page = await served.get(path, **query, **({"cursor": cursor} if cursor else {}))
        pages.append(page["items"])
        if (cursor := page["next"]) is None:
            return pages


async def test_pipelines_versions_and_contents(served: Site) -> None:
    """A pipeline is found by name or id, its versions newest first, with content, YAML and difference."""
    [other, found] = (await served.get("/api/pipelines"))["items"]
    versions = (await served.get("/api/pipelines/RAG-vs-nonRAG/versions"))["items"]
    content = await served.get("/api/pipelines/p1/versions/2")
    yaml = await served.client.get("/api/pipelines/p1/versions/2/yaml")
    difference = await served.get("/api/pipelines/p1/diff", **{"from": 1})

    assert (found["id"], found["name"], found["version"], found["tasks"]) == ("p1", "RAG-vs-nonRAG", 2, 2)
    assert other["id"] == "p2"
    assert [(each["version"], each["actor"]) for each in versions] == [(2, "user:bob"), (1, "user:ann")]
    assert content["content"] == {"name": "p1", "version": 2, "tasks": []}
    assert (yaml.text, yaml.headers["content-type"].partition(";")[0]) == (
        "name: p1\nversion: 2\n",
        "application/yaml",
    )
    assert difference == {
        "pipeline": "p1",
        "from": 1,
        "to": 2,
        "changes": [{"type": "TaskAdded", "pipeline": "p1", "span": 1}],
    }


async def test_a_job_is_shown_at_any_event(served: Site) -> None:
    """A job is shown as it stood after a commit and after one event of it, in the shape that it has now."""
    created = await served.get("/api/jobs/failed-job/at/1.0")
    launched = await served.get("/api/jobs/failed-job/at/1")
    last = await served.get("/api/jobs/failed-job/at/2")

    assert [task["state"] for task in created["tasks"]] == ["ready", "pending"]
    assert [task["state"] for task in launched["tasks"]] == ["launching", "pending"]
    assert last["job"] == await served.get("/api/jobs/failed-job")
    assert last["tasks"] == (await served.get("/api/jobs/failed-job/tasks"))["items"]


@pytest.mark.parametrize("path", ["/api/audit", "/api/jobs", "/api/pipelines", "/api/pipelines/p1/versions"])
async def test_a_list_is_counted_if_that_is_wanted(served: Site, path: str) -> None:
    """`total` is the size of the whole list, whatever part of it is asked for, and is left out otherwise."""
    whole = await served.get(path, limit=1000)
    first = await served.get(path, limit=1, total="true")

    assert "total" not in whole
    assert first["total"] == len(whole["items"])
    if first["next"]:
        assert (await served.get(path, limit=1, total="true", cursor=first["next"]))["total"] == first["total"]


async def test_the_audit_is_filtered_and_paged(served: Site) -> None:
    """The audit lists commits newest first, by actor, aggregate and time."""
    whole = (await served.get("/api/audit"))["items"]
    pages = await all_pages(served, "/api/audit", limit=2)

    assert [each["seq"] for each in whole] == list(range(await served.head(), 0, -1))
    assert [commit for page in pages for commit in page] == whole
    assert [each["actor"] for each in (await served.get("/api/audit", actor="user:bob"))["items"]] == ["user:bob"]
    assert {each["kind"] for each in (await served.get("/api/audit", id="p1"))["items"]} == {"pipeline"}
    middle = whole[3]["at"]
    assert (await served.get("/api/audit", since=middle))["items"] == whole[:4]
    assert (await served.get("/api/audit", until=middle))["items"] == whole[4:]
