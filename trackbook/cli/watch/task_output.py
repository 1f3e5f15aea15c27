"""The output of a job's tasks as lines: the stored part, or all of it until the job has ended."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from trackbook.cli.client.event_stream import NO_OUTPUT, follow_events, follow_output, task_path
from trackbook.cli.client.exchange import Json, Output
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.errors import CliError, Rejected
from trackbook.cli.terminal.escapes import OutputLines
from trackbook.cli.watch.progress import utc_now

AT_ONCE = 16
"""Tasks whose output is followed at the same time; others follow once one of them has ended."""
_WAITING_LINES = 1000
_LOOK_EVERY = 0.2
_LAUNCHED = frozenset(("launching", "running"))


class Lines(NamedTuple):
    """Some lines of a task's output, without their ends.

    `at` is when they arrived. If they were written before they were asked for, `at` is when the task started,
    None if that is not known, and `exact` is False: the times of lines are not recorded.
    """

    task: str
    texts: list[str]
    at: str | None
    exact: bool


def kept_lines(client: Client, job: str, task: Json, tail: int | None = None) -> Iterator[Lines]:
    """Yield the lines that are kept of a task's output; raises Rejected if it has no output."""
    found = client.output(f"{task_path(job, task['name'])}/logs", tail=tail)
    yield from _lines(task, [found._replace(written=sys.maxsize)])


def followed_lines(client: Client, job: str, task: Json, tail: int | None = None) -> Iterator[Lines]:
    """Yield the lines of a task's output until the task has ended."""
    yield from _lines(task, follow_output(client, job, task["name"], tail))


def _lines(task: Json, parts: Iterable[Output]) -> Iterator[Lines]:
    """Cut output into lines; a last line without an end is one as well."""
    lines, exact = OutputLines(), False
    name, started = task["name"], task.get("started_at")
    for part in parts:
        at = part.offset
        for chunk in part.chunks:
            before = max(0, min(len(chunk), part.written - at))
            at += len(chunk)
            if texts := lines.take(chunk[:before]):
                yield Lines(name, texts, started, False)
            exact = before < len(chunk)
            if exact and (texts := lines.take(chunk[before:])):
                yield Lines(name, texts, utc_now().isoformat(), True)
    if texts := lines.take(b"", final=True):
        yield Lines(name, texts, utc_now().isoformat() if exact else started, exact)


class FollowedJob:
    """Follows the output of all tasks of a job, AT_ONCE at a time, each on a thread with a client of its own.

    `lines` yields them until the job has ended and raises what any of the threads raised. The threads end with
    it, or with the process: one that waits for the server can't be interrupted.
    """

    def __init__(self, client: Client, job: Json, tasks: list[Json], tail: int | None = None) -> None:
        self._client, self._job, self._tail = client, job, tail
        self._tasks = {task["name"]: task for task in tasks}
        self._begun: set[str] = set()
        self._next: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._found: queue.Queue[Lines | Exception | None] = queue.Queue(_WAITING_LINES)
        self._stopped = threading.Event()
        self._readers = min(AT_ONCE, len(tasks))

    def lines(self) -> Iterator[Lines]:
        """Yield the lines as they come."""
        ordered = sorted(self._tasks.values(), key=lambda task: (task["started_at"] or "", task["index"]))
        for task in ordered:
            if task["session"]:
                self._begin(task["name"])
        for work in (*[self._read] * self._readers, self._watch):
            threading.Thread(target=self._guarded, args=(work,), daemon=True).start()
        left = self._readers
        try:
            while left:
                found = self._found.get()
                if isinstance(found, Exception):
                    raise found
                if found is None:
                    left -= 1
                else:
                    yield found
        finally:
            self._stopped.set()

    def _guarded(self, work: Callable[[Client], None]) -> None:
        """Run a thread's work; what it raises is raised by `lines`."""
        try:
            with Client(self._client.find, patience=self._client.patience, say=self._client.say) as client:
                work(client)
        except Exception as problem:
            self._put(problem)

    def _read(self, client: Client) -> None:
        """Follow one task after the other until there are no more."""
        while (task := self._next.get()) is not None:
            for lines in followed_lines(client, self._job["id"], task, self._tail):
                if not self._put(lines):
                    return
        self._put(None)

    def _watch(self, client: Client) -> None:
        """Have each task followed from its launch on, and end the readers when the job has ended."""
        if not self._job["finished_at"]:
            for event in follow_events(client, self._job["id"], after=self._job):
                if self._stopped.is_set():
                    return
                for task, state in (event["states"] or {}).get("tasks", {}).items():
                    if state in _LAUNCHED:
                        self._begin(task, event["at"])
        for _ in range(self._readers):
            self._next.put(None)

    def _begin(self, name: str, at: str | None = None) -> None:
        if name in self._tasks and name not in self._begun:
            self._begun.add(name)
            task = self._tasks[name]
            self._next.put(task | {"started_at": task["started_at"] or at})

    def _put(self, found: Lines | Exception | None) -> bool:
        """Pass something to `lines`; returns False once nobody reads it any more."""
        while not self._stopped.is_set():
            try:
                self._found.put(found, timeout=_LOOK_EVERY)
            except queue.Full:
                continue
            return True
        return False


def has_no_output(refused: Rejected) -> bool:
    """Whether a refusal says only that a task has no output."""
    return refused.error.get("code") == NO_OUTPUT


def all_tasks(client: Client, job: str) -> tuple[Json, list[Json]]:
    """Return a job and its tasks; raises CliError if it has none."""
    found: Json = client.get(f"/api/jobs/{quote_part(job)}")
    tasks = list(client.pages(f"/api/jobs/{found['id']}/tasks", after=found["seq"]))
    if not tasks:
        raise CliError(f"job {found['id']} has no tasks")
    return found, tasks
