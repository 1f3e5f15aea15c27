"""`trackbook job`: runs of pipelines."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client import Client, escaped
from trackbook.cli.completing import job_ids, pipeline_names
from trackbook.cli.server import embedded, running_server, say, server
from trackbook.cli.trouble import Trouble

app = typer.Typer(no_args_is_help=True, help="Jobs: runs of pipelines.")

Job = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, or a unique beginning of it.", autocompletion=job_ids)
]


@app.command(
    epilog="Examples:\n\n  trackbook job start train\n\n  trackbook job start train@3 --param EPOCHS=5 --watch"
)
def start(
    pipeline: Annotated[
        str,
        typer.Argument(metavar="PIPELINE[@VERSION]", help="Its name or id.", autocompletion=pipeline_names),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="K=V", help="A variable of this run's own; may be repeated."),
    ] = None,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="NAME", help="Where its sessions run.")
    ] = None,
    watch_: Annotated[bool, typer.Option("--watch", "-w", help="Watch it to its end.")] = False,
    url: options.Url = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Start a job of a pipeline on the running server."""
    from trackbook.cli.output import emit
    from trackbook.cli.told import told_summary, told_warnings

    name, version = options.versioned(pipeline)
    place = options.where(url, data)
    client = running_server(place)
    asked = {
        "pipeline": name, "version": version, "executor": executor, "parameters": options.pairs(param, "--param"),
    }  # fmt: skip
    reply = client.command("job", "start", asked)
    if json and not watch_:
        return emit(reply)
    if not json:
        print(f"Job {reply['job']} of {reply['name']}@{reply['version']}")
        told_summary(reply.get("summary") or {})
        told_warnings(reply.get("warnings") or [])
    if watch_:
        _watch(client, reply["job"], place.again(), json=json, after=reply["seq"])
    return None


@app.command(
    "list", epilog="Examples:\n\n  trackbook job list --pipeline train\n\n  trackbook job list --state failed"
)
def list_(
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", metavar="PIPELINE", help="Only of it.", autocompletion=pipeline_names),
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only in this state: running, failed …")] = None,
    limit: options.Limit = 20,
    url: options.Url = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List jobs, newest first."""
    from trackbook.cli.output import duration, emit, local_time, table

    with server(options.where(url, data)) as client:
        found = list(client.pages("/api/jobs", limit, pipeline=pipeline, state=state))
    if json:
        return emit(found)
    table(
        ("JOB", "PIPELINE", "STATE", "TASKS", "CREATED", "RAN", "ERROR"),
        [
            (
                job["id"], f"{job['pipeline_name']}@{job['version']}", job["state"],
                f"{job['tasks']['done']}/{job['tasks']['total']}", local_time(job["created_at"]),
                duration(job["run_time"]), _short(job["error"] or job["reason"]),
            )
            for job in found
        ],
    )  # fmt: skip
    return None


def _short(text: str | None, width: int = 60) -> str:
    text = " ".join((text or "").split())
    return text if len(text) <= width else text[: width - 1] + "…"


@app.command(
    epilog="Examples:\n\n  trackbook job show 1f2e\n\n  trackbook job show 1f2e --at 7    (after its 7th commit)"
    "\n\n  trackbook job show 1f2e --at 7.0  (after the first event of that)"
)
def show(
    job: Job,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="EVENT", help="As it stood then: VERSION, VERSION.INDEX, or an event's id."),
    ] = None,
    url: options.Url = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Show a job and its tasks, as they are or as they stood at any of its events."""
    from trackbook.cli.output import emit

    with server(options.where(url, data)) as client:
        if at is not None:
            moment = client.get(f"/api/jobs/{escaped(job)}/at/{_moment(at)}")
            found, tasks = moment["job"], moment["tasks"]
        else:
            found = client.get(f"/api/jobs/{escaped(job)}")
            tasks = list(client.pages(f"/api/jobs/{found['id']}/tasks"))
            moment = found | {"task_instances": tasks}
    if json:
        return emit(moment)
    return _print_job(found, tasks, moment if at is not None else None)


def _moment(text: str) -> str:
    """Return VERSION or VERSION.INDEX of what was given, which may be an event's id."""
    parts = text.split("/")
    moment = f"{parts[2]}.{parts[3]}" if len(parts) == 4 and parts[0] == "job" else text
    version, dot, index = moment.partition(".")
    if not version.isdecimal() or not (index.isdecimal() or not dot):
        raise typer.BadParameter(
            f"{text!r} is neither a version (7), nor an event of one (7.0), nor an event's id (job/…/7/0)",
            param_hint="--at",
        )
    return moment


def _print_job(job: dict[str, Any], tasks: list[dict[str, Any]], moment: dict[str, Any] | None) -> None:
    from trackbook.cli.follow import explain
    from trackbook.cli.output import duration, fields, local_time, state_text, table

    parameters = ", ".join(f"{key}={value}" for key, value in job["parameters"].items())
    seen = f"{local_time(moment['at'])} (event {moment['version']}.{moment['index']})" if moment else None
    fields(
        [
            ("job", job["id"]),
            ("seen at", seen),
            ("pipeline", f"{job['pipeline_name']}@{job['version']}"),
            ("state", state_text(job["state"])),
            ("created", f"{local_time(job['created_at'])} by {job['actor']}"),
            ("started", local_time(job["started_at"])),
            ("finished", local_time(job["finished_at"])),
            ("ran", duration(job["run_time"])),
            ("executor", job["executor"]),
            ("parameters", parameters),
            ("definition", f"sha256 {job['definition']}"),
        ]
    )
    explain(job)
    print()
    table(
        ("TASK", "STATE", "RAN", "STARTED", "EXIT", "NOTE"),
        [
            (
                task["name"], task["state"], duration(task["run_time"]),
                local_time(task["started_at"], date=False),
                f"signal {task['signal']}" if task["signal"] is not None else task["exit_code"],
                _short(task["error"] or task["executor_status"]),
            )
            for task in tasks
        ],
    )  # fmt: skip


@app.command(epilog="Example:\n\n  trackbook job watch 1f2e")
def watch(
    job: Job,
    url: options.Url = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Watch a job to its end; Ctrl-C stops the watching, not the job."""
    place = options.where(url, data)
    with server(place) as client:
        _watch(client, job, place.again(), json=json)


def _watch(client: Client, job: str, again: str, *, json: bool, after: int | None = None) -> None:
    from trackbook.cli.follow import Silent, conclude, exit_code, follow, read_progress, view_of
    from trackbook.cli.output import emit

    progress = read_progress(client, job, after, from_start=after is not None)
    interrupted = follow(client, progress, Silent() if json else view_of(progress), cancels=False)
    if interrupted:
        say(f"\ntrackbook: job {progress.job['id']} goes on")
    elif json:
        emit(client.get(f"/api/jobs/{progress.job['id']}"))
    else:
        conclude(client, progress, again, served=True)
    raise typer.Exit(exit_code(progress.state, interrupted=interrupted))


@app.command(epilog="Example:\n\n  trackbook job cancel 1f2e --reason 'wrong data'")
def cancel(
    job: Job,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the book.")] = "on request",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every session is gone.")] = False,
    url: options.Url = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Cancel a job: nothing more starts, and what runs is stopped."""
    place = options.where(url, data)
    if place.find_ready():
        return _cancel(Client(place.find), job, reason, wait=wait, json=json)
    with server(place) as client:  # refuses early what isn't there or has ended
        found = client.get(f"/api/jobs/{escaped(job)}")
    with embedded(place.directory) as address:
        return _cancel(Client(lambda: address), found["id"], reason, wait=True, json=json)


def _cancel(client: Client, job: str, reason: str, *, wait: bool, json: bool) -> None:
    from trackbook.cli.follow import Silent, follow, read_progress
    from trackbook.cli.output import emit

    reply = client.command("job", "cancel", {"job": job, "reason": reason})
    state = "cancelling"
    if wait:
        progress = read_progress(client, reply["job"], reply.get("seq"))
        follow(client, progress, Silent(), cancels=False)
        state = progress.state
    if json:
        return emit(reply | {"state": state})
    print(f"Job {reply['job']} is {'being cancelled' if state == 'cancelling' else state}.")
    return None


@app.command(
    epilog="Examples:\n\n  trackbook job logs 1f2e train --follow\n\n"
    "  trackbook job logs 1f2e --tail 20   (its only task, or the one that failed)"
)
def logs(
    job: Job,
    task: Annotated[str | None, typer.Argument(help="The one that failed, or the only one, unless said.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Only the last so many lines.")] = None,
    url: options.Url = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Print a task's output, as it is written if you like."""
    import sys

    from trackbook.cli.output import emit

    with server(options.where(url, data)) as client:
        name = task or _obvious_task(client, job)
        path = f"/api/jobs/{escaped(job)}/tasks/{escaped(name)}/logs"
        if json:
            return emit({"job": job, "task": name, "text": client.text(path, tail=tail)})
        for chunk in client.follow_text(path, tail=tail, follow="true" if follow else None):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    return None


def _obvious_task(client: Client, job: str) -> str:
    tasks = list(client.pages(f"/api/jobs/{escaped(job)}/tasks"))
    failed = [task["name"] for task in tasks if task["state"] == "failed"]
    for names in ([task["name"] for task in tasks], failed):
        if len(names) == 1:
            return str(names[0])
    shown = ", ".join(task["name"] for task in tasks[:8]) + (", …" if len(tasks) > 8 else "")
    raise Trouble("the job has several tasks; say which one", f"trackbook job logs {job} TASK, one of: {shown}")


@app.command(epilog="Examples:\n\n  trackbook job events 1f2e\n\n  trackbook job events 1f2e --follow --json")
def events(
    job: Job,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on to the end; JSON is one event a line.")
    ] = False,
    type_: Annotated[str | None, typer.Option("--type", help="Only of this type, such as TaskFailed.")] = None,
    url: options.Url = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Print a job's events, oldest first: all that ever happened to it."""
    from trackbook.cli.output import emit

    with server(options.where(url, data)) as client:
        path = f"/api/jobs/{escaped(job)}/events"
        seen = client.pages(path, order="oldest", type=type_)
        if json and not follow:
            return emit(list(seen))
        last = ""
        for event in seen:
            _print_event(event, json=json)
            last = f"{event['seq']}.{event['index']}"
        if follow:
            _follow_events(client, job, last, type_, json=json)
    return None


_LAST_EVENTS = ("JobSucceeded", "JobFailed", "JobCancelled")


def _follow_events(client: Client, job: str, last: str, type_: str | None, *, json: bool) -> None:
    found = client.get(f"/api/jobs/{escaped(job)}")
    if found["finished_at"] and int(last.partition(".")[0] or 0) >= found["seq"]:
        return
    for _, kind, event in client.events(last or f"{found['seq']}.0", job=found["id"]):
        if kind == "reset" or (type_ and event["type"] != type_):
            continue
        _print_event(event, json=json)
        if event["type"] in _LAST_EVENTS:
            return


def _print_event(event: dict[str, Any], *, json: bool) -> None:
    from json import dumps

    from trackbook.cli.output import local_time, styled

    if json:
        print(dumps(event, ensure_ascii=False), flush=True)
        return
    place = f"{event['version']}.{event['index']}"
    data = {key: value for key, value in event["data"].items() if key not in ("task", "at", "tasks")}
    details = " ".join(
        f"{key}={_short(_plain(value))}" for key, value in data.items() if value not in ("", None, {})
    )
    subject = event["data"].get("task", "")
    print(
        f"{local_time(event['at'])}  {place:>7}  {styled(event['type'], 'bold')} {subject}"
        f"{'  ' if details else ''}{details}  {styled(event['actor'], 'dim')}",
        flush=True,
    )


def _plain(value: Any) -> str:
    from json import dumps

    return value if isinstance(value, str) else dumps(value, ensure_ascii=False)
