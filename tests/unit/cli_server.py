"""A small server that speaks the contract's JSON from a script, so that the CLI is tried without a system."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal acts on, or that put text in another order."""

Json = dict[str, Any]


@dataclass
class Asked:
    """A request as it came in."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Json


@dataclass
class Answer:
    """What to send back: JSON, text, or raw pieces of a stream; `drop` closes the connection without a word."""

    value: Any = None
    status: int = 200
    text: str | None = None
    raw: bytes | None = None
    drop: bool = False

    @property
    def data(self) -> bytes:
        """The body."""
        if self.raw is not None:
            return self.raw
        return (json.dumps(self.value) if self.text is None else self.text).encode()


Script = Callable[[Asked], Answer | Any]


@dataclass
class FakeServer:
    """Answers each path by its script, or by its next one where a list of them is given; keeps what was asked."""

    url: str = ""
    scripts: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        """Return the answer to a request."""
        self.asked.append(asked)
        found = self.scripts.get(f"{asked.method} {asked.path}")
        if isinstance(found, list):
            found = found.pop(0) if found else None
        if callable(found):
            found = found(asked)
        if found is None:
            return Answer({"error": {"code": "not_found", "message": f"nothing at {asked.path}"}}, 404)
        return found if isinstance(found, Answer) else Answer(found)

    def paths(self) -> list[str]:
        """Return which paths were asked for, in order."""
        return [asked.path for asked in self.asked]


@contextmanager
def serving(scripts: dict[str, Any]) -> Iterator[FakeServer]:
    """Serve the scripts on a free port of loopback."""
    fake = FakeServer(scripts=scripts)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def do_PUT(self) -> None:
            self._respond()

        def do_DELETE(self) -> None:
            self._respond()

        def _respond(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent = {} if self.command == "PUT" else json.loads(body or b"{}")
            asked = Asked(self.command, path, query, dict(self.headers), sent)
            answer = fake.answer(asked)
            if answer.drop:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def frame(at: str, kind: str, data: Json) -> str:
    """Return one event of a stream."""
    return f"id: {at}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def job_row(**changes: Any) -> Json:
    """Return a job as `/api/jobs/{id}` shows it."""
    return {
        "id": "1f2e3d4c5b6a7988",
        "pipeline": "aaaabbbbccccdddd",
        "pipeline_name": "train",
        "version": 2,
        "definition": "ab" * 32,
        "state": "running",
        "created_at": "2026-01-31T12:00:00.000000Z",
        "started_at": "2026-01-31T12:00:00.500000Z",
        "finished_at": None,
        "run_time": None,
        "clock_jump": None,
        "error": None,
        "failed_task": None,
        "exit_code": None,
        "signal": None,
        "tail": None,
        "reason": None,
        "actor": "user:ann",
        "executor": "local",
        "parameters": {},
        "tasks": {"total": 2, "waiting": 1, "running": 1, "done": 0, "failed": 0},
        "revision": 2,
        "seq": 7,
        "problem": None,
    } | changes


def task_row(name: str, **changes: Any) -> Json:
    """Return a task as `/api/jobs/{id}/tasks` shows it."""
    return {
        "name": name,
        "index": 0,
        "state": "pending",
        "attempt": 0,
        "session": None,
        "executor": "local",
        "executor_status": None,
        "link": None,
        "executor_message": None,
        "launched_at": None,
        "started_at": None,
        "finished_at": None,
        "run_time": None,
        "clock_jump": None,
        "exit_code": None,
        "signal": None,
        "error": None,
        "tail": None,
        "fault": None,
        "warning": None,
        "service": None,
        "result": None,
        "dependencies": [],
    } | changes


_TASK_STATES = {
    "TaskLaunchRequested": "launching",
    "TaskStarted": "running",
    "TaskSucceeded": "succeeded",
    "TaskFailed": "failed",
    "TaskCancelled": "cancelled",
}
_JOB_STATES = {"JobFailing": "failing", "JobSucceeded": "succeeded", "JobFailed": "failed"}


def event_row(
    kind: str,
    seq: int = 8,
    index: int = 0,
    second: float = 1.0,
    *,
    job: str = "running",
    tasks: dict[str, str] | None = None,
    **data: Any,
) -> Json:
    """Return an event of the job as the stream sends it, `second` after noon.

    After an event that is not the job's own its state is `job`; `tasks` are others that the event moves.
    """
    moved = {data["task"]: _TASK_STATES[kind]} if kind in _TASK_STATES else {}
    return {
        "seq": seq,
        "index": index,
        "id": f"job/1f2e3d4c5b6a7988/{seq - 4}/{index}",
        "aggregate": "job/1f2e3d4c5b6a7988",
        "version": seq - 4,
        "type": kind,
        "at": at_second(second),
        "actor": "executor:local",
        "correlation_id": "c",
        "causation_id": "c",
        "data": data,
        "states": {"job": _JOB_STATES.get(kind, job), "tasks": moved | (tasks or {})},
    }


def end_rows(
    how: str, seq: int = 8, index: int = 0, second: float = 1.0, *, task: str, **data: Any
) -> tuple[Json, Json]:
    """Return the events of the end of an attempt, such as `Succeeded`, and with it the task's."""
    return (
        event_row(f"Attempt{how}", seq, index, second, task=task, attempt=1, at=at_second(second), **data),
        event_row(f"Task{how}", seq, index + 1, second, task=task),
    )


def at_second(second: float) -> str:
    """Return the time so many seconds after noon."""
    return f"2026-01-31T12:00:{second:09.6f}Z"
