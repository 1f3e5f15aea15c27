"""`trackbook audit`, `replay`, `projection` and `asyncapi`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import quote_part
from trackbook.cli.command_table import command_group, commands
from trackbook.cli.completion import job_ids, pipeline_names
from trackbook.cli.server.connection import server
from trackbook.cli.times import instant

app = commands()
audit = command_group("audit", "Who did what, and whether the log is intact.")
replay = command_group("replay", "Replay a stored history with the current code, and compare the decisions.")
projection = command_group("projection", "Read models, which are built from the log.")
for group in (audit, replay, projection):
    app.add_typer(group)


@contextmanager
def _waiting_note(text: str) -> Iterator[None]:
    """Show a spinner on a terminal while a request takes long."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    from trackbook.cli.terminal.escapes import raw

    with Console(file=raw(sys.stderr)).status(text):
        yield


@audit.command(
    "log",
    epilog="Examples:\n\n  trackbook audit log --actor user:ann\n\n"
    "  trackbook audit log --pipeline train --since 2026-01-31\n\n  trackbook audit log --since 2h --until 30m",
)
def log(
    *,
    actor: Annotated[str | None, typer.Option("--actor", help="Only actions of this actor: user:ann.")] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline",
            metavar="PIPELINE",
            help="Only this pipeline and its jobs.",
            autocompletion=pipeline_names,
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="pipeline, job, name, outcome or log.")] = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="Only this job.", autocompletion=job_ids)
    ] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only commits with events of this type.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Not before this time: 2026-01-31, 12:30, 1h …")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Before this time, given as for --since.")
    ] = None,
    limit: options.Limit = 50,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Print who did what, and when; newest first."""
    from trackbook.cli.client.listing import listing
    from trackbook.cli.terminal.formatting import emit, local_time
    from trackbook.cli.terminal.tables import table

    kind = "job" if job else options.event_kind(kind)
    options.event_type(type_, kind)
    with server(options.server_options(url, data, token_file)) as client:
        of_job = client.get(f"/api/jobs/{quote_part(job)}")["id"] if job else None
        of_pipeline = client.get(f"/api/pipelines/{quote_part(pipeline)}")["id"] if pipeline else None
        asked = {
            "actor": actor, "pipeline": of_pipeline, "kind": kind, "id": of_job, "type": type_,
            "since": instant(since, "--since"), "until": instant(until, "--until"),
        }  # fmt: skip
        found = listing(client, "/api/audit", limit, **asked)
    if json:
        return emit(found.items)
    table(
        ("SEQ", "WHEN", "BY", "WHAT", "VERSION", "EVENTS"),
        [
            (
                c["seq"], local_time(c["at"]), ", ".join(c["actors"]), f"{c['kind']}/{c['aggregate_id'][:8]}",
                c["version"], _types(c["types"]),
            )
            for c in found.items
        ],
    )  # fmt: skip
    return found.say_cut("commits")


def _types(types: list[str], shown: int = 4) -> str:
    return ", ".join(types[:shown]) + (f", {len(types) - shown} more" if len(types) > shown else "")


@audit.command(epilog="Example:\n\n  trackbook audit verify && echo the log is intact")
def verify(
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Verify the whole log: no gap, every hash chain unbroken, nothing removed; exit code 1 if not."""
    from trackbook.cli.terminal.formatting import emit, plural, style_text

    with (
        _waiting_note("Reading the whole log …"),
        server(options.server_options(url, data, token_file)) as client,
    ):
        found = client.get("/api/audit/verify")
    if json:
        emit(found)
    else:
        read = f"{plural(found['commits'], 'commit')} of {plural(found['aggregates'], 'aggregate')}"
        print(
            f"{read}, {plural(found['events'], 'event')}; {found['witnessed']:,} compared with their witness: ",
            end="",
        )
        defects = found["defects"]
        for number, what in ((found.get("accepted", 0), "missing"), (found.get("dismissed", 0), "left out")):
            if number:
                print(f"{plural(number, 'message')} {what}, as accepted; ", end="")
        print(style_text("intact", "green") if found["ok"] else style_text(plural(len(defects), "defect"), "red"))
        for defect in defects[:10]:
            version = f" version {defect['version']}" if defect["version"] else ""
            of = f"{defect['aggregate']}{version}: " if defect["aggregate"] else ""
            where = f"at sequence {defect['seq']}: " if defect["seq"] else ""
            print(f"  {where}{of}{defect['problem']}")
        if len(defects) > 10:
            print(f"  and {len(defects) - 10:,} more; --json has all of them")
    raise typer.Exit(0 if found["ok"] else 1)


@replay.command("job", epilog="Example:\n\n  trackbook replay job 1f2e")
def replay_job(
    job: Annotated[str, typer.Argument(metavar="JOB", autocompletion=job_ids)],
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Replay a job's history and show the first decision in which the current code differs, with exit code 1."""
    from trackbook.cli.terminal.formatting import emit, plural

    with _waiting_note("Deciding again …"), server(options.server_options(url, data, token_file)) as client:
        found = client.get(f"/api/jobs/{quote_part(job)}/replay")
    divergence = found["divergence"]
    if json:
        emit(found)
    else:
        print(f"{plural(found['commits'], 'commit')}, {plural(found['events'], 'event')}", end="")
        print(", identical" if divergence is None else "; the current code decides differently:")
        if divergence is not None:
            _print_divergence(divergence)
    raise typer.Exit(0 if divergence is None else 1)


def _print_divergence(divergence: dict[str, Any]) -> None:
    from json import dumps

    print(f"  sequence: {divergence['seq']} (event {divergence['version']}.{divergence['index']})")
    for name in ("expected", "actual"):
        value = divergence[name]
        print(f"  {name + ':':9} {'nothing' if value is None else dumps(value, ensure_ascii=False)}")


@projection.command(epilog="Example:\n\n  trackbook projection rebuild")
def rebuild(
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Delete the read model and rebuild it from the log."""
    from trackbook.cli.terminal.formatting import emit, plural

    with (
        _waiting_note("Reading the log again …"),
        server(options.server_options(url, data, token_file)) as client,
    ):
        found = client.post("/api/projection/rebuild")
    if json:
        return emit(found)
    print(f"The read model was rebuilt from {plural(found['checkpoint'], 'commit')}.")
    return None


@app.command(epilog="Example:\n\n  trackbook asyncapi > asyncapi.json")
def asyncapi(
    prefix: Annotated[str, typer.Option("--prefix", help="The installation's subject prefix.")] = "trackbook",
) -> None:
    """Print the AsyncAPI document of the NATS interface: commands, replies, live commits."""
    import json

    from trackbook.adapters.nats.asyncapi import document
    from trackbook.runtime.commands.requests import REQUESTS, Reply

    print(json.dumps(document(prefix, REQUESTS, Reply), indent=2))
