"""`trackbook job logs`: the output of one task of a job, or of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from trackbook.cli import options
from trackbook.cli.client.event_stream import follow_output, task_path
from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.commands.job import Job, app, refuse_standing
from trackbook.cli.errors import Rejected
from trackbook.cli.server.connection import is_server_running, server
from trackbook.cli.terminal.streams import say
from trackbook.cli.watch.task_output import (
    FollowedJob,
    Lines,
    all_tasks,
    followed_lines,
    has_no_output,
    kept_lines,
)

__all__ = ["app"]


@app.command(
    epilog="Examples:\n\n  trackbook job logs 1f2e            (all tasks, each line with its task)\n\n"
    "  trackbook job logs 1f2e train --follow\n\n  trackbook job logs 1f2e --tail 20 --timestamps"
)
def logs(
    job: Job,
    task: Annotated[str | None, typer.Argument(help="Only this task; all tasks by default.")] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the task, or the job, has ended.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only this number of last lines of each task.")
    ] = None,
    timestamps: Annotated[
        bool,
        typer.Option(
            "--timestamps",
            "-t",
            help="Print when each line arrived; for older lines, when their task started, with a +.",
        ),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Print the bytes unchanged, with colours, progress bars and escape sequences."
        ),
    ] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Print the output of a job's tasks, or follow it.

    Without TASK, prints all tasks one after the other, or with --follow as they write, each line after `TASK | `.
    The output of a job with one task has no such prefix.
    """
    if raw and (timestamps or json):
        raise typer.BadParameter("leave out --timestamps and --json", param_hint="--raw")
    place = options.server_options(url, data, token_file)
    runs = is_server_running(place)
    with server(place) as client:
        if follow:
            refuse_standing(client, job, runs=runs)
        found, tasks = all_tasks(client, job) if task is None else _only(client, job, task)
        single = task is not None or len(tasks) == 1
        if raw:
            return _print_raw(client, found, tasks, tail, follow=follow, single=single)
        if json and not follow:
            return _print_json(client, job, tasks, tail, single=single)
        if follow and not single:
            lines: Iterable[Lines] = FollowedJob(client, found, tasks, tail).lines()
        else:
            lines = _read(client, found, tasks, tail, follow=follow, single=single)
        _print(lines, prefixed=not single, timestamps=timestamps, json=json)
    return None


def _only(client: Client, job: str, name: str) -> tuple[Json, list[Json]]:
    """Return the job and one task of it."""
    found = client.get(f"/api/jobs/{quote_part(job)}")
    return found, [client.get(task_path(found["id"], name))]


def _read(
    client: Client, job: Json, tasks: list[Json], tail: int | None, *, follow: bool, single: bool
) -> Iterator[Lines]:
    """Yield the lines of the tasks one after the other, in the order in which they started."""
    if single:
        yield from (followed_lines if follow else kept_lines)(client, job["id"], tasks[0], tail)
        return
    for task in sorted(tasks, key=lambda task: task["started_at"] or "~"):
        with suppress_no_output():
            yield from kept_lines(client, job["id"], task, tail)


@contextmanager
def suppress_no_output() -> Iterator[None]:
    """Pass over a task that has no output; any other refusal is an error."""
    try:
        yield
    except Rejected as refused:
        if not has_no_output(refused):
            raise


def _print_raw(
    client: Client, job: Json, tasks: list[Json], tail: int | None, *, follow: bool, single: bool
) -> None:
    """Print the bytes of one task's output as they are."""
    import sys

    if not single:
        names = ", ".join(task["name"] for task in tasks[:8]) + (", …" if len(tasks) > 8 else "")
        raise typer.BadParameter(f"the job has several tasks; name one of {names}", param_hint="TASK")
    name = tasks[0]["name"]
    path = f"{task_path(job['id'], name)}/logs"
    parts = follow_output(client, job["id"], name, tail) if follow else iter([client.output(path, tail=tail)])
    for part in parts:
        for chunk in part.chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def _print_json(client: Client, job: str, tasks: list[Json], tail: int | None, *, single: bool) -> None:
    """Print one task's output, or a list of all, as one JSON document."""
    from trackbook.cli.terminal.formatting import emit

    def text(name: str) -> str:
        return client.text(f"{task_path(job, name)}/logs", tail=tail)

    if single:
        name = tasks[0]["name"]
        return emit({"job": job, "task": name, "text": text(name)})
    texts = []
    for task in tasks:
        with suppress_no_output():
            texts.append({"task": task["name"], "text": text(task["name"])})
    return emit({"job": job, "tasks": texts})


def _print(found: Iterable[Lines], *, prefixed: bool, timestamps: bool, json: bool) -> None:
    """Print lines as they come; says so where there are none of several tasks."""
    none = True
    for lines in found:
        none = False
        print("\n".join(_json_lines(lines) if json else _text_lines(lines, prefixed, timestamps)), flush=True)
    if none and prefixed:
        say("trackbook: no task of the job has written output")


def _json_lines(lines: Lines) -> Iterator[str]:
    from trackbook.cli.terminal.formatting import json_text

    for text in lines.texts:
        yield json_text({"task": lines.task, "line": text, "at": lines.at, "exact": lines.exact})


def _text_lines(lines: Lines, prefixed: bool, timestamps: bool) -> Iterator[str]:
    from trackbook.cli.terminal.formatting import local_time

    time = f"{local_time(lines.at) or '-':19}{' ' if lines.exact else '+'} " if timestamps else ""
    before = f"{time}{lines.task} | " if prefixed else time
    return (before + text for text in lines.texts)
