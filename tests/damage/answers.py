"""Everything that a server shows of its log, and in what two servers differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from damage.server import Server

Answers = dict[str, tuple[int, Any]]
DAMAGE_CODES = ("history_damaged", "log_damaged", "quarantined", "store_unanswered", "outcome_unknown")
"""Codes by which an answer reports damage instead of showing what is damaged."""
UNREAD = "the session's files can't be read"
"""How a task's end reports damage to its session."""
_DECIDED = (
    *("id", "pipeline", "definition", "state", "failed_task", "reason", "exit_code", "revision"),  # of a job
    *("name", "attempt", "session", "fault"),  # of a task
    *("version", "index", "type"),  # of an event
)
"""What of a job, a task or an event is a decision."""


def read_all(server: Server) -> Answers:
    """Return every answer by its path; lists are read page by page."""
    found: Answers = {}
    for pipeline in _list(server, found, "/api/pipelines", state="all"):
        path = f"/api/pipelines/{pipeline['id']}"
        found[path] = server.get(path)
        for version in _list(server, found, f"{path}/versions"):
            one = f"{path}/versions/{version['version']}"
            found[one] = server.get(one)
        _list(server, found, f"{path}/events", order="oldest")
    for job in _list(server, found, "/api/jobs"):
        path = f"/api/jobs/{job['id']}"
        found[path] = server.get(path)
        _list(server, found, f"{path}/tasks")
        _list(server, found, f"{path}/events", order="oldest")
    return found


def read_again(server: Server, known: Answers) -> Answers:
    """Return every answer, of what is listed and of what was known before."""
    found = read_all(server)
    for path, (status, body) in known.items():
        if path not in found:
            listed = isinstance(body, list) and status == 200
            found[path] = (
                _whole(server, path, order="oldest") if listed and path.endswith("events") else server.get(path)
            )
    return found


def outcomes(answers: Answers, jobs: Sequence[str]) -> Answers:
    """Return the answers with only what is decided of these jobs: no times, sequences or texts.

    They were running when everything was killed, so each copy decides on them anew.
    """
    found = dict(answers)
    status, listed = answers.get("/api/jobs", (0, None))
    if status == 200 and isinstance(listed, list):
        found["/api/jobs"] = (200, [_decided(job) if job["id"] in jobs else job for job in listed])
    for path, (status, body) in answers.items():
        if status == 200 and path.startswith(tuple(f"/api/jobs/{job}" for job in jobs)):
            found[path] = (200, [_decided(each) for each in body] if isinstance(body, list) else _decided(body))
    return found


def _decided(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item[key] for key in _DECIDED if key in item}


def differences(known: Answers, found: Answers) -> list[str]:
    """Return the paths whose answers differ, without those that report damage."""
    return [
        path
        for path in sorted({*known, *found})
        if known.get(path) != found.get(path) and not reported(found, path)
    ]


def reported(found: Answers, path: str) -> bool:
    """Whether an answer says that what is asked for is damaged."""
    body = found.get(path, (0, None))[1]
    error = body.get("error") if isinstance(body, dict) else None
    return isinstance(error, dict) and error.get("code") in DAMAGE_CODES  # that of a failed job is a text


def damage_reports(found: Answers) -> list[str]:
    """Return the paths whose answers report damage."""
    return [path for path in found if reported(found, path)]


def unread_sessions(found: Answers) -> list[str]:
    """Return the paths of tasks that were lost since the files of their sessions can't be read."""
    return [
        path
        for path, (_, body) in found.items()
        if path.endswith("/tasks") and isinstance(body, list) and any(UNREAD in f"{task}" for task in body)
    ]


def _list(server: Server, found: Answers, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    found[path] = _whole(server, path, **parameters)
    status, body = found[path]
    return iter(body if status == 200 else [])


def _whole(server: Server, path: str, **parameters: Any) -> tuple[int, Any]:
    items: list[Any] = []
    cursor = None
    while True:
        more: dict[str, Any] = {"cursor": cursor} if cursor else {}
        status, body = server.get(path, limit=200, **parameters, **more)
        if status != 200 or "items" not in body:
            return status, body
        items += body["items"]
        cursor = body["next"]
        if not cursor:
            return status, items
