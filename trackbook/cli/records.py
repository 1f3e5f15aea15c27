"""`trackbook job logs` and `job events`: what a job left behind, its tasks' output and its events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client import Client, Json, escaped
from trackbook.cli.following import follow_events, follow_output
from trackbook.cli.job import Job, app, refuse_standing, short
from trackbook.cli.server import attended, server
from trackbook.cli.trouble import Trouble

__all__ = ["app"]


@app.command(
    epilog="Examples:\n\n  trackbook job logs 1f2e train --follow\n\n"
    "  trackbook job logs 1f2e --tail 20   (its only task, or the one that failed)"
)
def logs(
    job: Job,
    task: Annotated[str | None, typer.Argument(help="The one that failed, or the only one, unless said.")] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Only the last so many lines.")] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Its bytes as they are: with colours, progress bars and escape sequences."),
    ] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Print a task's output, as it is written if you like."""
    from trackbook.cli.output import emit

    place = options.where(url, data, token_file)
    runs = attended(place)
    with server(place) as client:
        if follow:
            refuse_standing(client, job, runs=runs)
        name = task or _obvious_task(client, job)
        path = f"/api/jobs/{escaped(job)}/tasks/{escaped(name)}/logs"
        if json:
            return emit({"job": job, "task": name, "text": client.text(path, tail=tail)})
        chunks = follow_output(client, job, name, tail) if follow else client.output(path, tail=tail)[1]
        _print_output(chunks, raw=raw)
    return None


def _print_output(chunks: Iterable[bytes], *, raw: bool) -> None:
    """Print output as it comes: line by line and safe for a terminal, or as it is."""
    import sys

    from trackbook.cli.escapes import OutputLines

    if raw:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return
    lines = OutputLines()
    for chunk in chunks:
        _print_lines(lines.take(chunk))
    _print_lines(lines.take(b"", final=True))


def _print_lines(lines: list[str]) -> None:
    if lines:
        print("\n".join(lines), flush=True)


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
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Print a job's events, oldest first: all that ever happened to it."""
    from trackbook.cli.output import emit

    options.event_type(type_, "job")
    place = options.where(url, data, token_file)
    runs = attended(place)
    with server(place) as client:
        if follow:
            refuse_standing(client, job, runs=runs)
        if follow:
            seen: Iterator[Json] = follow_events(client, job, type_)
        else:
            seen = client.pages(f"/api/jobs/{escaped(job)}/events", order="oldest", type=type_)
        if json and not follow:
            return emit(list(seen))
        for event in seen:
            _print_event(event, json=json)
    return None


def _print_event(event: dict[str, Any], *, json: bool) -> None:
    from trackbook.cli.output import json_text, local_time, styled

    if json:
        print(json_text(event), flush=True)
        return
    place = f"{event['version']}.{event['index']}"
    data = {key: value for key, value in event["data"].items() if key not in ("task", "at", "tasks")}
    details = " ".join(
        f"{key}={short(_plain(value))}" for key, value in data.items() if value not in ("", None, {})
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
