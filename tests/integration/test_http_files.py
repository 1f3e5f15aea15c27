"""Files of pipelines over HTTP: listed, sent in parts, taken whole, deleted; and nothing that isn't theirs."""

from __future__ import annotations

import asyncio
import re
import shutil
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from folder_contract import UNSAFE
from histories.made import History
from histories.served import Contents, Site, site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.engine import job
from trackbook.engine.ports import FolderMissing, FolderState
from trackbook.events import pipeline as facts
from trackbook.events.commit import Input
from trackbook.events.job import TaskShape
from trackbook.http.endpoints.byte_ranges import byte_range

FILES = "/api/pipelines/p1/files"
CONTENT = f"{FILES}/content"
TASK = "/api/jobs/j/tasks/a b/files"
FOLDER = "/api/pipelines/p1/folder"
BYTES = {"content-type": "application/octet-stream"}
TEXT = b"0123456789"
NFC, NFD = (unicodedata.normalize(form, "données-훈련") for form in ("NFC", "NFD"))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Site]:
    """A server over a pipeline with a folder, and a job of it that runs."""
    history = History()
    tasks = [TaskShape("a b"), TaskShape("c", ["a b"])]
    await history.pipeline("p1", "train", tasks)
    await history.start("j", "p1", tasks)
    async with site(history, tmp_path / "readmodel.db") as found:
        yield found


def disk(served: Site) -> Path:
    """Return the pipeline's folder on disk."""
    return DataFolders(served.executors.data).root("p1")


def lay(served: Site, path: str, text: bytes = TEXT) -> None:
    """Put a file into the pipeline's folder."""
    place = disk(served) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of an error."""
    error = answer.json()["error"]
    assert error["message"]
    return answer.status_code, error["code"]


async def test_executors_are_listed(served: Site) -> None:
    """Each with its kind; one is the default."""
    assert (await served.get("/api/executors"))["items"] == [
        {"name": "local", "kind": "local", "default": True},
        {"name": "backendai/away", "kind": "backendai", "default": False},
    ]


async def test_a_file_lives_over_http(served: Site) -> None:
    """It is put, listed, sent, put again and deleted; folders above it come to be with it."""
    path = {"path": "vfroot/two words/파일.bin"}
    first = await served.client.put(CONTENT, params=path, content=TEXT, headers=BYTES)
    again = await served.client.put(CONTENT, params=path, content=b"new", headers=BYTES)
    shown = await served.get(FILES, path="vfroot/two words")
    (entry,) = shown["items"]
    sent = await served.client.get(CONTENT, params=path)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == entry
    assert (entry["name"], entry["path"], entry["type"], entry["size"]) == (
        "파일.bin", "vfroot/two words/파일.bin", "file", 3,
    )  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["modified_at"])
    assert shown["next"] is None
    assert sent.content == b"new"
    assert (await served.client.delete(CONTENT, params=path)).json() == path
    assert problem(await served.client.get(CONTENT, params=path)) == (404, "no_such_file")
    assert (await served.get(FILES, path="vfroot"))["items"][0]["type"] == "folder"


@pytest.mark.parametrize(("there", "asked"), [(NFD, NFC), (NFC, NFD)])
async def test_a_path_is_found_however_its_accents_are_composed(served: Site, there: str, asked: str) -> None:
    """Listed, sent, archived, written over and deleted: a file or folder of the other spelling is meant."""
    lay(served, f"vfroot/{there}/{there}.txt")
    file, spelled = {"path": f"vfroot/{asked}/{asked}.txt"}, f"vfroot/{there}/{there}.txt"

    for path in (f"vfroot/{asked}", file["path"]):
        assert [entry["path"] for entry in (await served.get(FILES, path=path))["items"]] == [spelled]
    assert (await served.client.get(CONTENT, params=file)).content == TEXT
    assert (await served.client.head(CONTENT, params=file)).headers["content-length"] == str(len(TEXT))
    packed = await served.client.get(f"{FILES}/archive", params={"path": f"vfroot/{asked}"})
    assert packed.status_code == 200
    put = await served.client.put(CONTENT, params=file, content=b"new", headers=BYTES)
    assert (put.status_code, put.json()["path"]) == (200, spelled)
    beside = {"path": f"vfroot/{asked}/{asked}/deep"}
    put = await served.client.put(CONTENT, params=beside, content=b"new", headers=BYTES)
    assert (put.status_code, put.json()["path"]) == (201, f"vfroot/{there}/{asked}/deep")
    assert (await served.client.delete(CONTENT, params=file)).status_code == 200
    assert problem(await served.client.get(CONTENT, params=file)) == (404, "no_such_file")
    everything = {"path": f"vfroot/{asked}", "recursive": "true"}
    assert (await served.client.delete(CONTENT, params=everything)).status_code == 200
    assert (await served.get(FILES, path="vfroot"))["items"] == []


async def test_an_exact_spelling_goes_first_and_two_others_are_refused(served: Site) -> None:
    """Nothing is guessed where two names differ in their spelling alone; the refusal names both."""
    half = "e\u0301\u00e9"  # the first accent is decomposed, the second is not
    for name in (unicodedata.normalize("NFD", half), half):
        lay(served, f"vfroot/{name}", name.encode())

    assert (await served.client.get(CONTENT, params={"path": f"vfroot/{half}"})).content == half.encode()
    composed = {"path": f"vfroot/{unicodedata.normalize('NFC', half)}"}
    for refused in (
        await served.client.get(CONTENT, params=composed),
        await served.client.get(FILES, params=composed),
        await served.client.put(CONTENT, params=composed, content=TEXT, headers=BYTES),
        await served.client.delete(CONTENT, params=composed),
    ):
        assert problem(refused) == (409, "ambiguous_path")
        assert "'e\\u0301\\xe9'" in refused.json()["error"]["message"]
        assert "'e\\u0301e\\u0301'" in refused.json()["error"]["message"]
    assert len((await served.get(FILES, path="vfroot"))["items"]) == 2


async def test_a_program_is_put_as_one(served: Site) -> None:
    """With `executable=true`, which the answer and the list then show."""
    path = {"path": "vfroot/program"}
    first = await served.client.put(CONTENT, params=path | {"executable": "true"}, content=TEXT, headers=BYTES)
    listed = (await served.get(FILES, path="vfroot/program"))["items"][0]
    again = await served.client.put(CONTENT, params=path, content=TEXT, headers=BYTES)

    assert first.json()["executable"] is listed["executable"] is True
    assert again.json()["executable"] is False


async def test_a_file_never_runs_in_our_origin(served: Site) -> None:
    """Whatever a task stored is sent as bytes to be saved, and no browser guesses otherwise."""
    lay(served, 'vfroot/pa"ge\n.html', b"<script>alert(1)</script>")
    answer = await served.client.get(CONTENT, params={"path": 'vfroot/pa"ge\n.html'})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''pa%22ge%0A.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


RANGES: tuple[tuple[str, int, bytes, str | None], ...] = (
    ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
    ("bytes=7-", 206, b"789", "bytes 7-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=-99", 206, TEXT, "bytes 0-9/10"),
    ("bytes=0-999", 206, TEXT, "bytes 0-9/10"),
    ("bytes=4-2", 200, TEXT, None),
    ("bytes=0-1,5-6", 200, TEXT, None),
    ("lines=1-2", 200, TEXT, None),
)


@pytest.mark.parametrize(("asked", "status", "body", "reported"), RANGES, ids=[each[0] for each in RANGES])
async def test_parts_of_a_file(served: Site, asked: str, status: int, body: bytes, reported: str | None) -> None:
    """One range of bytes is answered with 206 and its place; what isn't understood, with the whole."""
    lay(served, "vfroot/a")
    answer = await served.client.get(CONTENT, params={"path": "vfroot/a"}, headers={"range": asked})

    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, reported)
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(("text", "asked"), [(TEXT, "bytes=10-"), (TEXT, "bytes=-0"), (b"", "bytes=0-")])
async def test_a_part_that_is_not_there(served: Site, text: bytes, asked: str) -> None:
    """It is refused with 416 and the size that there is."""
    lay(served, "vfroot/a", text)
    answer = await served.client.get(CONTENT, params={"path": "vfroot/a"}, headers={"range": asked})

    assert problem(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(text)}"


async def test_a_part_of_a_file_that_has_changed_is_the_whole_new_one(served: Site) -> None:
    """With If-Range, a download that goes on never joins two files."""
    lay(served, "vfroot/a")
    tag = (await served.client.head(CONTENT, params={"path": "vfroot/a"})).headers["etag"]
    headers = {"range": "bytes=5-", "if-range": tag}
    same = await served.client.get(CONTENT, params={"path": "vfroot/a"}, headers=headers)
    lay(served, "vfroot/a", b"another file")
    changed = await served.client.get(CONTENT, params={"path": "vfroot/a"}, headers=headers)

    assert (same.status_code, same.content) == (206, b"56789")
    assert (changed.status_code, changed.content) == (200, b"another file")


async def test_head_tells_the_length(served: Site) -> None:
    """Of a file it has the headers that GET has; of what is no file the status."""
    lay(served, "vfroot/a")
    answer = await served.client.head(CONTENT, params={"path": "vfroot/a"})
    sent = await served.client.get(CONTENT, params={"path": "vfroot/a"})

    assert (answer.status_code, answer.content) == (200, b"")
    assert dict(answer.headers) == dict(sent.headers)
    assert answer.headers["content-length"] == "10"
    assert (await served.client.head(CONTENT, params={"path": "vfroot"})).status_code == 404


async def test_pages_of_a_folder_join(served: Site) -> None:
    """By name, each entry once, also where files come and go between two pages."""
    for name in ("a", "b", "c", "ä", "e" * 255):
        lay(served, f"vfroot/{name}")
    first = await served.get(FILES, path="vfroot", limit=2)
    (disk(served) / "vfroot" / "b").unlink()
    lay(served, "vfroot/aa")
    second = await served.get(FILES, path="vfroot", limit=2, cursor=first["next"])
    third = await served.get(FILES, path="vfroot", limit=2, cursor=second["next"])

    assert [[each["name"] for each in page["items"]] for page in (first, second, third)] == [
        ["a", "b"],
        ["c", "e" * 255],
        ["ä"],
    ]
    assert third["next"] is None
    answer = await served.client.get(FILES, params={"path": "vfroot", "cursor": "?"})
    assert problem(answer) == (400, "invalid_cursor")


async def test_a_file_is_listed_as_itself(served: Site) -> None:
    """As `ls` does; its path is the one that was asked for, which that of nothing in a folder is."""
    lay(served, "vfroot/a")

    assert [each["path"] for each in (await served.get(FILES, path="vfroot/a"))["items"]] == ["vfroot/a"]
    assert problem(await served.client.get(FILES, params={"path": "vfroot/b"})) == (404, "no_such_file")


async def test_a_folder_is_deleted_where_that_was_meant(served: Site) -> None:
    """Not by the way, and never the whole like a file."""
    lay(served, "vfroot/sub/a")
    path = {"path": "vfroot/sub"}

    assert problem(await served.client.delete(CONTENT, params=path)) == (409, "is_a_folder")
    assert problem(await served.client.delete(CONTENT, params={"path": "", "recursive": "true"})) == (
        400, "unsafe_path",
    )  # fmt: skip
    assert (await served.client.delete(CONTENT, params=path | {"recursive": "true"})).status_code == 200
    assert problem(await served.client.delete(CONTENT, params=path)) == (404, "no_such_file")


async def test_a_tasks_outputs_are_found_by_job_and_task(served: Site) -> None:
    """Paths begin at its outputs; the executor is the one that ran it."""
    answer = await served.client.get(TASK)
    assert problem(answer) == (404, "no_such_file")
    assert "it is launching" in answer.json()["error"]["message"]
    lay(served, "jobs/j/0-a-b/1/outputs/sub/model")

    assert [(each["path"], each["type"]) for each in (await served.get(TASK))["items"]] == [("sub", "folder")]
    assert (await served.get(TASK, path="sub"))["items"][0]["path"] == "sub/model"
    sent = await served.client.get(f"{TASK}/content", params={"path": "sub/model"}, headers={"range": "bytes=-1"})
    assert (sent.status_code, sent.content) == (206, b"9")
    assert (await served.client.head(f"{TASK}/content", params={"path": "sub/model"})).status_code == 200
    put = await served.client.put(f"{TASK}/content", params={"path": "note"}, content=b"x", headers=BYTES)
    assert (put.status_code, put.json()["path"]) == (201, "note")
    assert (await served.client.delete(f"{TASK}/content", params={"path": "note"})).json() == {"path": "note"}
    assert problem(await served.client.get(f"{TASK}/content", params={"path": "../../1-c/1/outputs/x"})) == (
        400, "unsafe_path",
    )  # fmt: skip


async def test_each_attempt_has_outputs_of_its_own(served: Site) -> None:
    """The latest attempt's are meant unless another one is named; one without any is not found."""
    lay(served, "jobs/j/0-a-b/1/outputs/first")
    lay(served, "jobs/j/0-a-b/2/outputs/second")

    assert [each["path"] for each in (await served.get(TASK))["items"]] == ["first"]
    assert [each["path"] for each in (await served.get(TASK, attempt=2))["items"]] == ["second"]
    sent = await served.client.get(f"{TASK}/content", params={"path": "second", "attempt": 2})
    assert (sent.status_code, sent.content) == (200, TEXT)
    answer = await served.client.get(TASK, params={"attempt": 3})
    assert problem(answer) == (404, "no_such_file")
    assert "attempt 3 of task a b has no outputs" in answer.json()["error"]["message"]
    assert (await served.client.get(TASK, params={"attempt": 0})).status_code == 400


@pytest.mark.parametrize("path", [path for path in UNSAFE if "\0" not in path] + ["a\0b", ".trackbook/uploads"])
@pytest.mark.parametrize("base", [CONTENT, f"{TASK}/content"])
async def test_unsafe_paths_are_refused_whatever_is_asked(served: Site, base: str, path: str) -> None:
    """Nothing outside is read, written or deleted."""
    lay(served, "vfroot/a")
    if base != CONTENT and path.startswith(".trackbook"):
        return
    query = {"path": path}
    for answer in (
        await served.client.get(base, params=query),
        await served.client.get(base.removesuffix("/content"), params=query),
        await served.client.put(base, params=query, content=TEXT, headers=BYTES),
        await served.client.delete(base, params=query | {"recursive": "true"}),
    ):
        assert problem(answer) == (400, "unsafe_path")
    assert (await served.client.head(base, params=query)).status_code == 400


@given(path=st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "", "out", "vfroot"])).map("/".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_path_breaks_the_server(served: Site, path: str) -> None:
    """Any path is answered with what is there or an error that was meant; nothing outside is ever sent."""
    lay(served, "vfroot/a")
    (served.executors.data / "secret").write_text("not yours")
    with suppress(FileExistsError):
        (disk(served) / "out").symlink_to(served.executors.data)
    for place in (CONTENT, FILES):
        answer = await served.client.get(place, params={"path": path})

        assert answer.status_code in (200, 400, 404), answer.text
        assert b"not yours" not in answer.content
        assert b"readmodel" not in answer.content


async def test_an_upload_that_breaks_leaves_nothing(served: Site) -> None:
    """A client that goes away in the middle leaves neither a file nor a part of one."""
    lay(served, "vfroot/old", b"old")
    url = served.client.base_url
    for name in ("old", "new"):
        _, writer = await asyncio.open_connection(url.host, url.port)
        head = f"PUT {CONTENT}?path=vfroot/{name} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 100\r\n"
        head += f"Authorization: {served.client.headers['authorization']}\r\n"
        writer.write(f"{head}Content-Type: application/octet-stream\r\n\r\nhalf of".encode())
        await writer.drain()
        await until(lambda: parts(served) != [])
        writer.close()
        await writer.wait_closed()
        await until(lambda: parts(served) == [])

    assert [each["name"] for each in (await served.get(FILES, path="vfroot"))["items"]] == ["old"]
    assert (disk(served) / "vfroot" / "old").read_bytes() == b"old"


def parts(served: Site) -> list[Path]:
    """Return the uploads that are under way."""
    return list((disk(served) / ".trackbook" / "uploads").glob("*"))


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds on the disk, which tells nobody."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a file system has no event
            await asyncio.sleep(0.005)


async def test_large_files_pass(served: Site) -> None:
    """Beyond the limit of commands; it comes back as it went, in one piece and by its parts."""
    text = bytes(range(256)) * 80_000
    path = {"path": "vfroot/large"}
    assert (await served.client.put(CONTENT, params=path, content=text, headers=BYTES)).status_code == 201
    assert (await served.client.get(CONTENT, params=path)).content == text
    part = await served.client.get(CONTENT, params=path, headers={"range": f"bytes={len(text) - 5}-"})
    assert part.content == text[-5:]


async def test_a_body_without_a_length_is_refused(served: Site) -> None:
    """How long the file is must be said first."""

    async def body() -> AsyncIterator[bytes]:
        yield TEXT

    answer = await served.client.put(CONTENT, params={"path": "vfroot/a"}, content=body(), headers=BYTES)
    assert problem(answer) == (411, "length_required")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"host": "evil.example"}, 421, "unknown_host"),
        ({"origin": "https://evil.example"}, 403, "foreign_origin"),
        ({"sec-fetch-site": "cross-site"}, 403, "foreign_origin"),
        ({"content-type": "text/plain"}, 415, "not_json"),
        ({"content-type": "multipart/form-data"}, 415, "not_json"),
    ],
)
async def test_strangers_write_nothing(served: Site, headers: dict[str, str], status: int, code: str) -> None:
    """What guards commands guards files; only a put takes bytes."""
    path = {"path": "vfroot/a"}
    answer = await served.client.put(CONTENT, params=path, content=TEXT, headers=BYTES | headers)
    assert problem(answer) == (status, code)
    posted = await served.client.post("/api/commands/job/start", content=TEXT, headers=BYTES)
    assert problem(posted) == (415, "not_json")
    if status != 415:
        assert problem(await served.client.delete(FOLDER, headers=headers)) == (status, code)
    assert not disk(served).exists()


async def test_an_executor_is_named_or_the_pipelines_own(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `executor=`, else by the pipeline's content, else the default; one that isn't there is reported."""
    answer = await served.client.get(FILES, params={"executor": "backendai/other"})
    assert problem(answer) == (422, "unknown_executor")
    answer = await served.client.get(FILES, params={"executor": "backendai/away"})
    assert problem(answer) == (503, "executor_unavailable")
    assert "connection refused" in answer.json()["error"]["message"]

    async def content(*_: Any) -> dict[str, Any]:
        return {"name": "train", "executor": "backendai/away"}

    monkeypatch.setattr(Contents, "content", content)
    for ask in (served.client.get, served.client.delete):
        assert problem(await ask(CONTENT, params={"path": "vfroot/a"})) == (503, "executor_unavailable")
    put = await served.client.put(CONTENT, params={"path": "vfroot/a"}, content=TEXT, headers=BYTES)
    assert problem(put) == (503, "executor_unavailable")
    lay(served, "vfroot/a")
    assert (await served.get(FILES, executor="local"))["items"][0]["name"] == "vfroot"


async def test_how_folders_are_is_reported_in_words(served: Site) -> None:
    """None yet, there, removed by somebody, or not to be had: each says so, and waits for nobody."""
    assert problem(await served.client.get(FILES)) == (404, "folder_missing")
    folder = await served.get(FOLDER)
    assert (folder["executor"], folder["state"]) == ("local", "none")
    assert "first run" in folder["message"]
    made = await served.client.post(FOLDER)
    assert (made.status_code, made.json()["state"]) == (200, "present")
    assert (await served.get(FOLDER))["state"] == "present"
    assert [each["name"] for each in (await served.get(FILES))["items"]] == ["vfroot"]

    await served.history.tell("j", job.ReportTaskStarted("a b", 1, served.history.now))
    shutil.rmtree(disk(served))
    folder = await served.get(FOLDER, after=await served.head())
    assert folder["state"] == "missing"
    assert "was removed" in folder["message"]
    local, away = (await served.get("/api/pipelines/p1/folders"))["items"]
    assert local == folder
    assert (away["executor"], away["state"]) == ("backendai/away", "unavailable")
    assert "connection refused" in away["message"]


async def test_an_executor_that_never_answers_is_given_up(served: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes in time, and says that none came."""

    class Silent:
        async def state(self, _: str) -> FolderState:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("trackbook.http.endpoints.folders._PATIENCE", 0.05)
    served.executors.away = Silent()
    answer = await served.client.get(FOLDER, params={"executor": "backendai/away"})

    assert problem(answer) == (503, "executor_unavailable")
    assert answer.json()["error"]["message"] == "backendai/away did not say within 0.05 s"


async def test_a_missing_folder_is_a_conflict_to_writers(served: Site) -> None:
    """An executor that does not make a removed folder again by itself answers a write with 409."""

    class Removed:
        async def stat(self, *_: Any) -> Any:
            raise FolderMissing("the folder tb-x was removed")

        async def write(self, *_: Any, **__: Any) -> None:
            raise FolderMissing("the folder tb-x was removed")

    served.executors.away = Removed()
    query = {"path": "vfroot/a", "executor": "backendai/away"}
    put = await served.client.put(CONTENT, params=query, content=TEXT, headers=BYTES)
    assert problem(put) == (409, "folder_missing")
    assert problem(await served.client.get(CONTENT, params=query)) == (404, "folder_missing")


async def test_a_folder_is_purged_when_no_job_uses_it(served: Site) -> None:
    """While one runs it is refused; afterwards it is deleted once; of a deleted pipeline as well."""
    lay(served, "vfroot/a")
    answer = await served.client.delete(FOLDER)
    assert problem(answer) == (409, "job_unfinished")
    assert "trackbook job cancel j" in answer.json()["error"]["hint"]
    assert disk(served).exists()

    now = served.history.now
    await served.history.tell("j", job.ReportTaskEnded("a b", 1, "failed", now, now, 1))
    await served.history.commit("pipeline", "p1", [Input("user:ann", {})], [facts.PipelineDeleted()])
    for expected in (True, False):
        purged = await served.client.delete(FOLDER)
        assert (purged.status_code, purged.json()) == (200, {"executor": "local", "deleted": expected})
    assert not disk(served).exists()
    assert problem(await served.client.delete(FOLDER, params={"executor": "backendai/away"})) == (
        503, "executor_unavailable",
    )  # fmt: skip


async def test_nothing_is_written_for_a_deleted_pipeline(served: Site) -> None:
    """Its files can be read and deleted, and no more come."""
    lay(served, "vfroot/a")
    await served.history.commit("pipeline", "p1", [Input("user:ann", {})], [facts.PipelineDeleted()])
    await served.read.settled(await served.head())
    put = await served.client.put(CONTENT, params={"path": "vfroot/b"}, content=TEXT, headers=BYTES)

    assert problem(put) == (409, "pipeline_deleted")
    assert problem(await served.client.post(FOLDER)) == (409, "pipeline_deleted")
    assert (await served.client.get(CONTENT, params={"path": "vfroot/a"})).content == TEXT
    assert (await served.client.delete(CONTENT, params={"path": "vfroot/a"})).status_code == 200


async def test_a_file_that_shrinks_while_it_is_sent_breaks_the_answer(served: Site) -> None:
    """What was announced can't be sent: the client sees that, rather than take a part for the whole."""

    class Shrunk(DataFolders):
        async def read(self, *_: Any) -> AsyncIterator[bytes]:
            yield b"01"

    lay(served, "vfroot/a")
    served.executors.away = Shrunk(served.executors.data)
    with pytest.raises(httpx.RemoteProtocolError):
        await served.client.get(CONTENT, params={"path": "vfroot/a", "executor": "backendai/away"})


@given(text=st.text("bytes=-,0123456789", max_size=20), size=st.integers(0, 50))
def test_ranges_stay_in_the_file(text: str, size: int) -> None:
    """Whatever is asked, a range is None, inside of the file, or empty."""
    found = byte_range(text, size)
    if found is not None:
        first, last = found
        assert first > last or 0 <= first <= last < size
