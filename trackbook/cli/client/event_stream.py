"""Follows a task's output or a job's events to the end, each byte and event once, across server restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trackbook.cli.client.exchange import Json, Output
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.errors import CliError, Rejected
from trackbook.cli.states import ENDED, TASK_ENDED
from trackbook.cli.terminal.streams import say

NO_OUTPUT = "log_not_found"


def left_out(count: int) -> bytes:
    """Return the line about bytes of output that are no longer kept."""
    return b"\n[trackbook: %d bytes of output are left out here]\n" % count


def follow_output(client: Client, job: str, task: str, tail: int | None = None) -> Iterator[Output]:
    """Yield a task's output in parts from its beginning, or its last lines, until the task has ended.

    Resumes at the next byte after a dropped connection. A line says how much was rotated away before it was read.
    Raises CliError if the job can't be followed any further.
    """
    reader = _Reader(client, task_path(job, task) + "/logs")
    while True:
        yield from reader.part(follow="true", tail=tail if reader.offset is None else None)
        if client.get(task_path(job, task))["state"] in TASK_ENDED:
            break
        if problem := client.get(f"/api/jobs/{quote_part(job)}")["problem"]:
            yield from reader.rest()
            raise CliError(f"job {job} can't be followed any further: {problem}")
    yield from reader.rest()


class _Reader:
    """Reads a task's output part by part, each byte once."""

    def __init__(self, client: Client, path: str) -> None:
        self._client, self._path = client, path
        self.offset: int | None = None

    def part(self, **query: Any) -> Iterator[Output]:
        """Yield what comes from the offset on until the connection ends, after a line about what is left out."""
        found = self._client.output(self._path, resumes=True, gaps="end", offset=self.offset, **query)
        if self.offset is not None and found.offset > self.offset:
            yield found._replace(chunks=iter([left_out(found.offset - self.offset)]))
        self.offset = found.offset
        yield found._replace(chunks=self._counted(found.chunks))

    def rest(self) -> Iterator[Output]:
        """Yield what was written behind the offset: the stream may have broken before it."""
        before = None
        while before != self.offset:
            before = self.offset
            try:
                yield from self.part()
            except Rejected as refused:
                if refused.error.get("code") == NO_OUTPUT:
                    return
                raise

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.offset = (self.offset or 0) + len(chunk)
            yield chunk


def follow_events(
    client: Client, job: str, type_: str | None = None, *, after: Json | None = None
) -> Iterator[Json]:
    """Yield a job's events, those of one type if that is given, until the job has ended.

    They begin with its first event, or those that follow the state `after` of the job, the last ones of which may
    come again. Raises CliError if the job can't be followed any further.
    """
    found = after or client.get(f"/api/jobs/{quote_part(job)}")
    if after and after["problem"]:
        raise CliError(f"job {job} can't be followed any further: {after['problem']}")
    for _, kind, event in client.events(f"{after['seq']}.0" if after else "", job=found["id"]):
        if kind == "reset":
            raise CliError(f"the log no longer has all events of job {job}", "Run the command again.")
        if kind == "quarantined":
            say(f"trackbook: {check_unreadable(client, found['id'], event)}")
            continue
        if not type_ or event["type"] == type_:
            yield event
        if event["states"] and event["states"]["job"] in ENDED:
            return


def check_unreadable(client: Client, job: str, event: Json) -> str:
    """Return a remark about an event that can't be read; raises CliError if no later one of the job can be."""
    if problem := client.get(f"/api/jobs/{quote_part(job)}", after=event["seq"])["problem"]:
        raise CliError(f"job {job} can't be followed any further: {problem}")
    return f"the event at sequence {event['seq']} can't be read: {event['reason']}"


def task_path(job: str, task: str) -> str:
    """Return the path of a task of a job."""
    return f"/api/jobs/{quote_part(job)}/tasks/{quote_part(task)}"
