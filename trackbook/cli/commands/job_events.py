"""`trackbook job events`: the events of a job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.event_stream import follow_events
from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import quote_part
from trackbook.cli.commands.job import Job, refuse_standing
from trackbook.cli.commands.job_logs import app
from trackbook.cli.server.connection import is_server_running, server
from trackbook.cli.watch.job_view import shorten

__all__ = ["app"]


@app.command(epilog="Examples:\n\n  trackbook job events 1f2e\n\n  trackbook job events 1f2e --follow --json")
def events(
    job: Job,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the job to its end; JSON is one event a line.")
    ] = False,
    type_: Annotated[
        str | None, typer.Option("--type", help="Only events of this type, such as AttemptFailed.")
    ] = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Print a job's events, oldest first."""
    from trackbook.cli.terminal.formatting import emit

    options.event_type(type_, "job")
    place = options.server_options(url, data, token_file)
    runs = is_server_running(place)
    with server(place) as client:
        if follow:
            refuse_standing(client, job, runs=runs)
        if follow:
            seen: Iterator[Json] = follow_events(client, job, type_)
        else:
            seen = client.pages(f"/api/jobs/{quote_part(job)}/events", order="oldest", type=type_)
        if json and not follow:
            return emit(list(seen))
        for event in seen:
            _print_event(event, json=json)
    return None


def _print_event(event: dict[str, Any], *, json: bool) -> None:
    from trackbook.cli.terminal.formatting import json_text, local_time, style_text

    if json:
        print(json_text(event), flush=True)
        return
    place = f"{event['version']}.{event['index']}"
    data = {key: value for key, value in event["data"].items() if key not in ("task", "at", "tasks")}
    details = " ".join(
        f"{key}={shorten(_value_text(value))}" for key, value in data.items() if value not in ("", None, {})
    )
    subject = event["data"].get("task", "")
    print(
        f"{local_time(event['at'])}  {place:>7}  {style_text(event['type'], 'bold')} {subject}"
        f"{'  ' if details else ''}{details}  {style_text(event['actor'], 'dim')}",
        flush=True,
    )


def _value_text(value: Any) -> str:
    from json import dumps

    return value if isinstance(value, str) else dumps(value, ensure_ascii=False)
