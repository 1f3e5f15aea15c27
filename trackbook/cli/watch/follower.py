"""Follows a job to its end, and prints its result."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from trackbook.cli.client.event_stream import check_unreadable
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.errors import Rejected
from trackbook.cli.server.stop_signals import interruptible
from trackbook.cli.states import UNFINISHED
from trackbook.cli.terminal.escapes import plain_line
from trackbook.cli.terminal.formatting import counts_text, duration, state_text, style_text
from trackbook.cli.terminal.streams import say
from trackbook.cli.watch.progress import Change, Progress, progress_of

INTERRUPTED = 130
_LAST_TASKS = 3
_WORTH_TELLING = 0.1


class View(Protocol):
    """What shows a job while it runs: a live table, or plain lines."""

    def __enter__(self) -> View: ...
    def __exit__(self, *_: Any) -> None: ...

    def show(self, change: Change) -> None:
        """Take notice of what changed."""

    def note(self, text: str) -> None:
        """Show a remark."""


def view_of(progress: Progress) -> View:
    """Return the view that suits where stdout goes."""
    if sys.stdout.isatty():
        from trackbook.cli.watch.live_view import LiveView

        return LiveView(progress)
    from trackbook.cli.watch.line_view import PlainView

    return PlainView(progress)


class Silent:
    """Shows nothing: stdout is kept for JSON."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: Any) -> None:
        """Leave nothing behind."""

    def show(self, change: Change) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say it beside the output."""
        say(text)


def read_progress(client: Client, job: str, after: int | None = None, *, from_start: bool = False) -> Progress:
    """Read a job and its tasks as they are, or with `from_start` make ready to see all of its events."""
    found = client.get(f"/api/jobs/{quote_part(job)}", after=after)
    tasks = client.pages(f"/api/jobs/{quote_part(found['id'])}/tasks", after=after)
    if from_start and after is not None:
        found["seq"] = after
    return progress_of(found, tasks, from_start=from_start)


def follow(client: Client, progress: Progress, view: View, *, cancels: bool) -> bool:
    """Keep progress and view up to date until the job has ended; returns whether Ctrl-C came.

    With `cancels`, the first Ctrl-C cancels the job and its end is waited for; otherwise, and the second time,
    it ends the watching alone.
    """
    interrupted = False
    with view, interruptible():
        while not progress.ended:
            try:
                if interrupted:
                    view.note("cancelling the job; Ctrl-C again stops waiting for its end")
                    _cancel(client, str(progress.job["id"]))
                _take_events(client, progress, view)
            except KeyboardInterrupt:
                if interrupted or not cancels:
                    return True
                interrupted = True
    return interrupted


def _cancel(client: Client, job: str) -> None:
    try:
        client.command("job", "cancel", {"job": job, "reason": "interrupted at the terminal"})
    except Rejected as rejected:
        if rejected.error.get("code") != "job_ended":
            raise


def _take_events(client: Client, progress: Progress, view: View) -> None:
    for at, kind, event in client.events(progress.last, job=progress.job["id"]):
        if kind == "quarantined":
            view.note(check_unreadable(client, str(progress.job["id"]), event))
        elif kind == "reset":
            fresh = read_progress(client, str(progress.job["id"]))
            progress.__dict__.update(fresh.__dict__)
        else:
            for change in progress.take(at, event):
                view.show(change)
        if progress.ended:
            return


def exit_code(state: str, *, interrupted: bool) -> int:
    """Return the exit code of the contract."""
    if interrupted:
        return INTERRUPTED
    return 0 if state == "succeeded" else 1


def conclude(client: Client, progress: Progress, again: str, *, served: bool) -> dict[str, Any]:
    """Print how the job went and where to look next; returns the job as it ended.

    `again` holds the options that reach the same server, which keeps running if it is `served`.
    """
    job: dict[str, Any] = client.get(f"/api/jobs/{quote_part(progress.job['id'])}", after=_seq(progress))
    spent = duration(_span(job))
    name = f"{job['pipeline_name']}@{job['version']}"
    counts = counts_text(
        {state: progress.counts[state] for state in ("succeeded", "skipped", "failed", "cancelled")}
    )
    print(f"\nJob {job['id']} of {name} {state_text(job['state'])} in {spent}: {counts or 'no tasks'}.")
    failed = progress.tasks.get(job.get("failed_task") or "")
    explain(job, failed.fault if failed else "")
    _slowest(progress)
    if job["state"] == "succeeded":
        _last_words(client, job["id"], progress.last_tasks)
    _where_next(client, job, again, served=served)
    return job


def _seq(progress: Progress) -> int | None:
    seq = progress.last.partition(".")[0]
    return int(seq) if seq.isdigit() else None


def _span(job: dict[str, Any]) -> float:
    from trackbook.cli.terminal.formatting import parse_utc

    end = job.get("finished_at")
    return (parse_utc(end) - parse_utc(job["created_at"])).total_seconds() if end else 0.0


FAULTS = {
    "permanent": "The same would be refused again: change what is asked for.",
    "infrastructure": "It was not the command's fault, and may work another time.",
    "operator": "Somebody has to act first: look at the key, its rights, or the clock (`trackbook doctor`).",
    "unknown": "How far it came is unknown: check its effects before you run it again.",
}
"""Whose failure it is, where it was not the command's own, and what that means."""


def explain(job: dict[str, Any], fault: str = "") -> None:
    """Print why a job failed: the task, the cause, whose fault it is, and the last lines of its output."""
    if job.get("failed_task"):
        message = str(job["error"]).removeprefix(f"task {job['failed_task']} failed: ")
        cause = _cause(job)
        print(f"  {style_text(job['failed_task'], 'bold')} failed: {message}{f' ({cause})' if cause else ''}")
        if fault in FAULTS:
            print(f"  {FAULTS[fault]}")
        tail(job.get("tail"))
    elif job.get("error") or job.get("reason"):
        print(f"  {job.get('error') or job.get('reason')}")
    if job.get("problem"):
        print(f"  {style_text(job['problem'], 'red')}")


def _cause(found: dict[str, Any]) -> str:
    """Return the exit code or signal, unless the message names it already."""
    if found.get("signal") is not None:
        cause = f"signal {found['signal']}"
    elif found.get("exit_code") is not None:
        cause = f"exit code {found['exit_code']}"
    else:
        return ""
    return "" if cause.split()[-1] in str(found.get("error")) else cause


def tail(text: str | None) -> None:
    """Print the last lines of a task's output."""
    if not (text or "").strip():
        return
    for line in (text or "").rstrip().split("\n"):
        print(f"    {style_text('│', 'dim')} {plain_line(line)}")


def _slowest(progress: Progress) -> None:
    timed = [(task.run_time(task.finished), task) for task in progress.tasks.values() if task.finished]
    slow = sorted(((spent, task.name) for spent, task in timed if spent is not None), reverse=True)[:3]
    if len(progress.tasks) > 1 and slow and slow[0][0] >= _WORTH_TELLING:
        print("  longest: " + ", ".join(f"{name} {duration(spent)}" for spent, name in slow))


def _last_words(client: Client, job: str, tasks: list[str]) -> None:
    """Print the last lines of what the last tasks said, which is often what the job was run for."""
    for name in tasks if len(tasks) <= _LAST_TASKS else ():
        try:
            text = client.text(f"/api/jobs/{quote_part(job)}/tasks/{quote_part(name)}/logs", tail=3)
        except Rejected:  # it has no output
            continue
        if text.strip():
            print(f"  {style_text(name, 'bold')}:")
            tail(text)


def _where_next(client: Client, job: dict[str, Any], again: str, *, served: bool) -> None:
    short = job["id"][:8]
    logs = f" {shlex.quote(job['failed_task'])}" if job.get("failed_task") else ""
    print("Look further:")
    for command in (f"show {short}", f"logs {short}{logs}", f"events {short}"):
        print(f"  trackbook job {command}{again}")
    if served:
        print(f"  {client.url}/api/jobs/{job['id']}")


def wait_for_others(client: Client, mine: str, since: str) -> None:
    """Wait until no job is active that was created since `since`: another client may use this server too."""
    while others := [job for job in _active(client) if job["id"] != mine and job["created_at"] >= since]:
        other = others[0]["id"]
        say(f"trackbook: staying for job {other} of another client; Ctrl-C leaves it to the next start")
        progress = read_progress(client, other)
        if follow(client, progress, Silent(), cancels=False):
            return


def _active(client: Client) -> Iterator[dict[str, Any]]:
    for state in UNFINISHED:
        yield from client.pages("/api/jobs", state=state)
