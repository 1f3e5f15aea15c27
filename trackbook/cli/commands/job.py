"""`trackbook job`: runs of pipelines."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.command_table import command_group
from trackbook.cli.completion import job_ids, pipeline_names
from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import Where, embedded, is_server_running, running_server, server
from trackbook.cli.states import JOB_STATES
from trackbook.cli.terminal.streams import result_counts, say
from trackbook.cli.times import FORMS, as_query, parse_time
from trackbook.cli.watch.job_view import mark_stale, print_job, shorten, state_as_of

app = command_group("job", "Jobs: runs of pipelines.")

Job = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, or a unique prefix of it.", autocompletion=job_ids)
]


@app.command(
    epilog="Examples:\n\n  trackbook job start train\n\n  trackbook job start train@3 --param EPOCHS=5 --watch"
)
def start(
    pipeline: Annotated[
        str,
        typer.Argument(metavar="PIPELINE[@VERSION]", help="Its name or id.", autocompletion=pipeline_names),
    ],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="K=V", help="A variable for this run; may be repeated."),
    ] = None,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="NAME", help="The executor of its tasks.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would fail; start nothing.")] = False,
    watch_: Annotated[bool, typer.Option("--watch", "-w", help="Watch the job to its end.")] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Start a job of a pipeline on the running server."""
    from trackbook.cli.terminal.formatting import emit
    from trackbook.cli.terminal.render import print_summary, print_warnings

    name, version = options.parse_version(pipeline)
    place = options.server_options(url, data, token_file)
    client = running_server(place)
    asked = {
        "pipeline": name, "version": version, "executor": executor, "parameters": options.parameters(param),
    }  # fmt: skip
    if dry_run:
        from trackbook.cli.watch.preflight_view import print_dry_run

        with client:
            raise typer.Exit(0 if print_dry_run(client.command("job", "check", asked), "", json=json) else 1)
    reply = client.command("job", "start", asked | options.caller_environment())
    if json and not watch_:
        return emit(reply)
    if not json:
        print(f"Job {reply['job']} of {reply['name']}@{reply['version']}")
        print_summary(reply.get("summary") or {})
        print_warnings(reply.get("warnings") or [])
    if watch_:
        _watch(client, reply["job"], place, json=json, after=reply["seq"])
    return None


@app.command(
    "list",
    epilog="Examples:\n\n  trackbook job list --pipeline train\n\n  trackbook job list --state failed,cancelled",
)
def list_(
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline", metavar="PIPELINE", help="Only jobs of this pipeline.", autocompletion=pipeline_names
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only jobs in these states; may be repeated, or a list: running,failed."),
    ] = None,
    limit: options.Limit = 20,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List jobs, newest first."""
    states = options.parse_list(state, JOB_STATES, "--state")
    from trackbook.cli.client.listing import listing
    from trackbook.cli.terminal.formatting import duration, emit, local_time
    from trackbook.cli.terminal.tables import table

    place = options.server_options(url, data, token_file)
    runs = is_server_running(place)
    with server(place) as client:
        found = listing(client, "/api/jobs", limit, pipeline=pipeline, state=states)
        mark_stale(client, found.items, served=runs)
    if json:
        return emit(found.items)
    table(
        ("JOB", "PIPELINE", "STATE", "TASKS", "CREATED", "RAN", "ERROR"),
        [
            (
                job["id"], f"{job['pipeline_name']}@{job['version']}", state_as_of(job),
                f"{job['tasks']['done']}/{job['tasks']['total']}", local_time(job["created_at"]),
                duration(job["run_time"]), shorten(job["error"] or job["reason"]),
            )
            for job in found.items
        ],
    )  # fmt: skip
    return found.say_cut("jobs")


@app.command(
    epilog="Examples:\n\n  trackbook job show 1f2e\n\n  trackbook job show 1f2e --at 7    (after its 7th commit)"
    "\n\n  trackbook job show 1f2e --at 7.0  (after the first event of that)"
    "\n\n  trackbook job show 1f2e --at 1h    (an hour ago)"
)
def show(
    job: Job,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="EVENT|TIME",
            help="Show it as of VERSION, VERSION.INDEX, an event's id, or a time: 2026-01-31T12:30, 12:30, 1h.",
        ),
    ] = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Show a job and its tasks, now or after any of its events."""
    from trackbook.cli.terminal.formatting import emit

    place = options.server_options(url, data, token_file)
    runs = is_server_running(place)
    with server(place) as client:
        if at is not None:
            moment = client.get(f"/api/jobs/{quote_part(job)}/at/{_moment(at) or _version_at(client, job, at)}")
            found, tasks = moment["job"], moment["tasks"]
        else:
            found = client.get(f"/api/jobs/{quote_part(job)}")
            mark_stale(client, [found], served=runs)
            tasks = list(client.pages(f"/api/jobs/{found['id']}/tasks"))
            moment = found | {"task_instances": tasks}
    if json:
        return emit(moment)
    return print_job(found, tasks, moment if at is not None else None)


def _moment(text: str) -> str:
    """Return VERSION or VERSION.INDEX of what was given, which may be an event's id; '' for a time."""
    parts = text.split("/")
    moment = f"{parts[2]}.{parts[3]}" if len(parts) == 4 and parts[0] == "job" else text
    version, dot, index = moment.partition(".")
    if version.isdecimal() and (index.isdecimal() or not dot):
        return moment
    if parse_time(text) is None:
        raise typer.BadParameter(
            f"{text!r} is neither a version (7), nor an event of one (7.0), nor an event's id (job/…/7/0),"
            f" nor a time ({FORMS})",
            param_hint="--at",
        )
    return ""


def _version_at(client: Client, job: str, text: str) -> str:
    """Return the last version that a job had at a time; raises CliError if it was created later."""
    from datetime import timedelta

    moment = parse_time(text)
    assert moment is not None
    found = client.get(f"/api/jobs/{quote_part(job)}")
    until = as_query(moment + timedelta(microseconds=1))
    commits = list(client.pages("/api/audit", 1, kind="job", id=found["id"], until=until))
    if not commits:
        from trackbook.cli.terminal.formatting import local_time

        raise CliError(f"job {found['id']} did not exist at {text}: created {local_time(found['created_at'])}")
    return str(commits[0]["version"])


@app.command(epilog="Example:\n\n  trackbook job watch 1f2e")
def watch(
    job: Job,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Watch a job to its end; Ctrl-C stops the watching, not the job."""
    place = options.server_options(url, data, token_file)
    runs = is_server_running(place)
    with server(place) as client:
        refuse_standing(client, job, runs=runs)
        _watch(client, job, place, json=json)


def refuse_standing(client: Client, job: str, *, runs: bool) -> None:
    """Refuse to follow a job that has not ended while no server runs it: nothing would ever come."""
    if not runs and not client.get(f"/api/jobs/{quote_part(job)}")["finished_at"]:
        raise CliError(f"job {job} has not ended, and no server runs it", "`trackbook up` continues it.")


def _watch(client: Client, job: str, place: Where, *, json: bool, after: int | None = None) -> None:
    from trackbook.cli.watch.ending import print_ending
    from trackbook.cli.watch.follower import Silent, exit_code, follow, read_progress, view_of

    progress = read_progress(client, job, after, from_start=after is not None)
    with result_counts():
        interrupted = follow(client, progress, Silent() if json else view_of(progress), cancels=False)
        if interrupted:
            say(f"\ntrackbook: job {progress.job['id']} keeps running")
        else:
            print_ending(client, progress, place, json=json)
    raise typer.Exit(exit_code(progress.state, interrupted=interrupted))


@app.command(epilog="Example:\n\n  trackbook job cancel 1f2e --reason 'wrong data'")
def cancel(
    job: Job,
    reason: Annotated[str, typer.Option("--reason", help="The reason, stored with the event.")] = "on request",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every session has ended.")] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Cancel a job: no task starts any more, and running tasks are stopped."""
    place = options.server_options(url, data, token_file)
    if place.find_ready():
        return _cancel(Client(place.find), job, reason, wait=wait, json=json)
    with server(place) as client:  # refuses early what isn't there or has ended
        found = client.get(f"/api/jobs/{quote_part(job)}")
    with embedded(place.directory) as address:
        return _cancel(Client(lambda: address), found["id"], reason, wait=True, json=json)


def _cancel(client: Client, job: str, reason: str, *, wait: bool, json: bool) -> None:
    from trackbook.cli.terminal.formatting import emit
    from trackbook.cli.watch.follower import Silent, follow, read_progress

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


@app.command(epilog="Example:\n\n  trackbook job pause 1f2e --reason 'the cluster is needed until six'")
def pause(
    job: Job,
    reason: Annotated[str, typer.Option("--reason", help="The reason, stored with the event.")] = "on request",
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Pause a job: running tasks continue, and no other task starts until the job is resumed."""
    with running_server(options.server_options(url, data, token_file)) as client:
        _show_state(client, client.command("job", "pause", {"job": job, "reason": reason}), json=json)


@app.command(epilog="Example:\n\n  trackbook job resume 1f2e")
def resume(
    job: Job,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Resume a paused job: the tasks that became ready meanwhile start."""
    with running_server(options.server_options(url, data, token_file)) as client:
        _show_state(client, client.command("job", "resume", {"job": job}), json=json)


def _show_state(client: Client, reply: dict[str, Any], *, json: bool) -> None:
    from trackbook.cli.terminal.formatting import emit

    state = client.get(f"/api/jobs/{reply['job']}", after=reply.get("seq"))["state"]
    if json:
        return emit(reply | {"state": state})
    return print(f"Job {reply['job']} is {state}.")
