"""Prints a job: its fields, its tasks, and how current they are."""

from __future__ import annotations

from typing import Any

from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client
from trackbook.cli.watch.progress import utc_now

_ELSEWHERE = 4
_LINKS = 10
_DONE = ("succeeded", "skipped")
_NOTE = 60
"""Characters of a remark in a table; a longer one is printed below it in full."""


def shorten(text: str | None, width: int = _NOTE) -> str:
    """Return a text in one line, cut to a width."""
    text = " ".join((text or "").split())
    return text if len(text) <= width else text[: width - 1] + "…"


def mark_stale(client: Client, jobs: list[Json], *, served: bool) -> None:
    """Set `as_of` of each job: when its last event was recorded, if no server runs that would know better.

    It is None if the job has ended or a server runs.
    """
    for job in jobs:
        job["as_of"] = None
        if not served and not job["finished_at"]:
            last = list(client.pages("/api/audit", 1, kind="job", id=job["id"]))
            job["as_of"] = last[0]["at"] if last else job["created_at"]


def state_as_of(job: Json) -> str:
    """Return a job's state, `running (as of 12:03:10)` if it is not known whether it still is."""
    from trackbook.cli.terminal.formatting import local_time, parse_utc

    if not (at := job.get("as_of")):
        return str(job["state"])
    today = parse_utc(at).astimezone().date() == utc_now().astimezone().date()
    return f"{job['state']} (as of {local_time(at, date=not today)})"


def print_job(job: dict[str, Any], tasks: list[dict[str, Any]], moment: dict[str, Any] | None) -> None:
    """Print a job and its tasks, as they are or as they were at a moment."""
    from trackbook.cli.terminal.formatting import duration, fields, local_time, state_text
    from trackbook.cli.terminal.tables import table
    from trackbook.cli.watch.follower import explain

    stale = job.get("as_of") is not None
    parameters = ", ".join(f"{key}={value}" for key, value in job["parameters"].items())
    seen = f"{local_time(moment['at'])} (event {moment['version']}.{moment['index']})" if moment else None
    fields(
        [
            ("job", job["id"]),
            ("seen at", seen),
            ("pipeline", f"{job['pipeline_name']}@{job['version']}"),
            ("state", f"{state_as_of(job)}; no server is running" if stale else state_text(job["state"])),
            ("created", f"{local_time(job['created_at'])} by {job['actor']}"),
            ("started", local_time(job["started_at"])),
            ("finished", local_time(job["finished_at"])),
            ("ran", duration(job["run_time"])),
            ("executor", _executors(job, tasks)),
            ("parameters", parameters),
            ("definition", f"sha256 {job['definition']}"),
        ]
    )
    failed = next((task for task in tasks if task["name"] == job.get("failed_task")), {})
    explain(job, failed.get("fault") or "")
    if stale:
        print("  `trackbook up` continues it, and finds out what became of its tasks.")
    print()
    table(
        ("TASK", "STATE", "RAN", "STARTED", "EXIT", "NOTE"),
        [
            (
                task["name"], task["state"], duration(task["run_time"]),
                local_time(task["started_at"], date=False),
                f"signal {task['signal']}" if task["signal"] is not None else task["exit_code"],
                shorten(_note(task)),
            )
            for task in tasks
        ],
    )  # fmt: skip
    for task in tasks:
        if len(_note(task)) > _NOTE:
            print(f"\n{task['name']}: {_note(task)}")
    _links(tasks)
    for task in tasks:
        if task.get("clock_jump") is not None:
            print(f"\n{_clock_note(task)}")


def _links(tasks: list[dict[str, Any]]) -> None:
    """Print where the executors' own interfaces show the sessions that run or did not succeed."""
    linked = [task for task in tasks if task.get("link") and task["state"] not in _DONE]
    for task in linked[:_LINKS]:
        print(f"\n{task['name']}: session at {task['link']}")
    if len(linked) > _LINKS:
        print(f"\n{len(linked) - _LINKS} more links: `--json` has them all.")


def _clock_note(task: dict[str, Any]) -> str:
    """Return how far the clock jumped while a task ran, and what its times are worth."""
    from trackbook.cli.terminal.formatting import duration

    jump = float(task["clock_jump"])
    ran = task["run_time"]
    worth = "its run time is not known" if ran is None else f"it ran {duration(ran)}"
    way = "forward" if jump > 0 else "back"
    return (
        f"{task['name']}: the clock was set {way} by {duration(abs(jump))} while it ran, or two machines differ;"
        f" {worth}"
    )


def _executors(job: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
    """Return the job's executor, and which tasks run elsewhere."""
    elsewhere = [f"{task['name']} on {task['executor']}" for task in tasks if task["executor"] != job["executor"]]
    more = f" and {len(elsewhere) - _ELSEWHERE} more elsewhere" if len(elsewhere) > _ELSEWHERE else ""
    return "; ".join([str(job["executor"]), *([", ".join(elsewhere[:_ELSEWHERE]) + more] if elsewhere else [])])


def _note(task: dict[str, Any]) -> str:
    """Return the task's failure or warning, the address of its service, or its status on the executor."""
    from trackbook.cli.watch.progress import status_text

    if not task["error"] and (url := (task.get("service") or {}).get("url")):
        return f"serves {url}"
    if task["error"] or task["finished_at"] is not None:  # what its executor said last may not be the last of it
        return str(task["error"] or task.get("warning") or "")
    return status_text(task["executor_status"], task.get("executor_message"))
