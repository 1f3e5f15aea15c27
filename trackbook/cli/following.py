"""Following a task's output and a job's events to their end, each byte and event once, across server restarts."""

from __future__ import annotations

from collections.abc import Iterator

from trackbook.cli.client import Client, Json, escaped
from trackbook.cli.server import say
from trackbook.cli.trouble import Rejected, Trouble

_TASK_ENDED = frozenset(("succeeded", "failed", "cancelled", "skipped"))
_JOB_ENDED = frozenset(("JobSucceeded", "JobFailed", "JobCancelled"))
NO_OUTPUT = "log_not_found"


def left_out(count: int) -> bytes:
    """Return the line about bytes of output that are no longer kept."""
    return b"\n[trackbook: %d bytes of output are left out here]\n" % count


def follow_output(client: Client, job: str, task: str, tail: int | None = None) -> Iterator[bytes]:
    """Yield a task's output from its beginning, or its last lines, until the task has ended.

    Resumes at the next byte after a dropped connection. A line says how much was rotated away before it was read.
    """
    offset: int | None = None
    while True:
        start, chunks = client.output(
            _path(job, task) + "/logs", resumes=True, follow="true", gaps="end", offset=offset,
            tail=tail if offset is None else None,
        )  # fmt: skip
        if offset is not None and start > offset:
            yield left_out(start - offset)
        offset = start
        for chunk in chunks:
            offset += len(chunk)
            yield chunk
        if client.get(_path(job, task))["state"] in _TASK_ENDED:
            yield from _rest(client, job, task, offset)
            return


def _rest(client: Client, job: str, task: str, offset: int) -> Iterator[bytes]:
    """Yield what an ended task wrote behind an offset: the stream may have broken before it."""
    while True:
        try:
            start, chunks = client.output(_path(job, task) + "/logs", resumes=True, gaps="end", offset=offset)
        except Rejected as refused:
            if refused.error.get("code") == NO_OUTPUT:
                return
            raise
        if start > offset:
            yield left_out(start - offset)
        before, offset = offset, start
        for chunk in chunks:
            offset += len(chunk)
            yield chunk
        if offset == before:
            return


def follow_events(client: Client, job: str, type_: str | None = None) -> Iterator[Json]:
    """Yield a job's events from its first one, those of one type if that is given, until the job has ended."""
    found = client.get(f"/api/jobs/{escaped(job)}")
    for _, kind, event in client.events(job=found["id"]):
        if kind == "reset":
            raise Trouble(f"the log no longer has what was read of job {job}", "Run the command again.")
        if kind == "quarantined":
            say(f"trackbook: {check_unreadable(client, found['id'], event)}")
            continue
        if not type_ or event["type"] == type_:
            yield event
        if event["type"] in _JOB_ENDED:
            return


def check_unreadable(client: Client, job: str, event: Json) -> str:
    """Return a remark about an event that can't be read; raises Trouble if no later one of the job can be."""
    if problem := client.get(f"/api/jobs/{escaped(job)}", after=event["seq"])["problem"]:
        raise Trouble(f"job {job} can't be followed any further: {problem}")
    return f"the event at sequence {event['seq']} can't be read: {event['reason']}"


def _path(job: str, task: str) -> str:
    return f"/api/jobs/{escaped(job)}/tasks/{escaped(task)}"
