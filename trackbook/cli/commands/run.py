"""`trackbook run`: apply a pipeline, run it, and watch it to its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.command_table import commands
from trackbook.cli.commands.down import detached
from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import Where, own_server, server
from trackbook.cli.terminal.streams import result_counts, say
from trackbook.cli.transfer.code_upload import packed_code
from trackbook.cli.watch.preflight_view import new_warnings, show, show_applied, warnings_of

app = commands()

EPILOG = """
Examples:

  trackbook run train.yaml

  trackbook run train.yaml --param EPOCHS=3 --param LR=0.01

  trackbook run train.yaml --detach      (a server keeps running it)

  trackbook run train.yaml --executor backendai/main --dry-run      (what would fail?)

Exit codes: 0 the job succeeded, 1 it failed or would fail, 130 Ctrl-C, which cancels it.
"""


@app.command(epilog=EPILOG)
def run(
    file: Annotated[str, typer.Argument(metavar="FILE.yaml", help="The pipeline; - reads it from stdin.")],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="K=V", help="A variable for this run; may be repeated."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Let a server run it, and return at once.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be applied and run and what would fail; change nothing."
        ),
    ] = False,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Run it even if the checks say that it would fail.")
    ] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Ask for confirmation before the run.")] = False,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="NAME", help="The executor of its tasks.")
    ] = None,
    durability: Annotated[
        str, typer.Option(metavar="always|fast", help="Of the embedded broker: fsync each commit, or not.")
    ] = "always",
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Apply a pipeline, run it, and watch it to its end.

    First checks on the executors whether something would fail: images, resources, quotas, folders. If the file
    is refused, or something would fail, nothing is applied.
    Uses a running server if there is one; else the whole system runs in this process until the job has ended.
    """
    parameters = options.parameters(param)
    if durability not in ("always", "fast"):
        raise typer.BadParameter(f"{durability!r} is neither `always` nor `fast`", param_hint="--durability")
    place = options.server_options(url, data, token_file)
    text, source = _source(file, place)
    if dry_run:
        with packed_code(text, file, place.directory) as archive:
            asked = {"yaml": text, "code_sha256": archive and archive.sha256}
            chosen = {"executor": executor, "parameters": parameters}
            raise typer.Exit(_dry(place, asked | chosen, source, json=json))
    began = datetime.now(UTC).isoformat()
    with (
        result_counts(),
        packed_code(text, file, place.directory) as archive,
        _connect(place, durability, detach=detach) as (client, ours, process),
    ):
        chosen = {"parameters": parameters, "executor": executor}
        asked = {"yaml": text, "code_sha256": archive and archive.sha256}
        checked = client.command("job", "check", {**asked, "offline": unchecked, **chosen}, source)
        show(checked, source, confirm=confirm, json=json)
        if confirm and not typer.confirm("Run it?", default=True, err=True):
            raise CliError("nothing was applied or run")
        if archive and not archive.is_stored(client):
            archive.upload(client, quiet=json)
        applied = client.command("pipeline", "apply", asked, source)
        if not json:
            show_applied(applied, checked, source, confirmed=confirm)
        version = {"pipeline": applied["pipeline"], "version": applied["version"]}
        started = client.command("job", "start", {**version, **chosen, **options.caller_environment()}, source)
        for warning in new_warnings(started, set() if json else warnings_of(checked)):
            say(f"trackbook: {warning['message']}")
        if detach:
            _print_detached(client, started, place.again(), process, json=json)
            return
        code = _watch(client, started, place, json=json, served=not ours)
        if ours:
            from trackbook.cli.watch.follower import wait_for_others

            wait_for_others(client, started["job"], began)
    raise typer.Exit(code)


def _source(file: str, place: Where) -> tuple[str, str]:
    """Return the file's text and its name; if there is no such file, the error says how a pipeline is started."""
    if file == "-" or os.path.exists(file):  # noqa: PTH110 - names that no file can have raise there
        return options.read_source(file)
    if _is_stored(options.parse_version(file)[0], place):
        start = f"trackbook job start {shlex.quote(file)}{place.again()}"
        raise CliError(f"there is no file {file}, but a pipeline of that name", f"Start it: {start}")
    raise CliError(f"there is no file {file}", "`trackbook job start NAME` runs a pipeline that was applied.")


def _is_stored(name: str, place: Where) -> bool:
    """Whether a server that runs has a pipeline of a name."""
    try:
        if place.find() is None:
            return False
        with Client(place.find, patience=0) as client:
            client.get(f"/api/pipelines/{quote_part(name)}")
    except CliError:
        return False
    return True


def _dry(place: Where, asked: dict[str, Any], source: str, *, json: bool) -> int:
    """Say what would become of a run, and do nothing; returns the exit code."""
    from trackbook.cli.watch.preflight_view import print_dry_run

    with server(place, creates=True) as client:
        return 0 if print_dry_run(client.command("job", "check", asked, source), source, json=json) else 1


@contextmanager
def _connect(place: Where, durability: str, *, detach: bool) -> Iterator[tuple[Client, bool, int | None]]:
    """Yield a client, whether its server lives in this process, and the id of one that was started for it."""
    with ExitStack() as stack:
        if place.find_ready():
            yield stack.enter_context(Client(place.find)), False, None
        elif detach:
            client, process = stack.enter_context(detached(place, durability))
            yield client, False, process
        elif (own := own_server(place, stack, durability)) is not None:
            yield stack.enter_context(Client(lambda: own)), True, None
        else:
            yield stack.enter_context(Client(place.find)), False, None


def _print_detached(
    client: Client, started: dict[str, Any], again: str, process: int | None, *, json: bool
) -> None:
    from trackbook.cli.terminal.formatting import emit

    if json:
        emit(
            {
                "job": started["job"],
                "pipeline": started["pipeline"],
                "version": started["version"],
                "url": client.url,
                "server_started": process is not None,
            }
        )
        return
    short = started["job"][:8]
    print(f"\nJob {started['job']} runs on {client.url}.")
    print(f"Watch it:  trackbook job watch {short}{again}")
    print(f"Cancel it: trackbook job cancel {short}{again}")
    if process is not None:
        print(f"A server was started for it (process {process}). Stop it: trackbook down{again}")


def _watch(client: Client, started: dict[str, Any], place: Where, *, json: bool, served: bool) -> int:
    from trackbook.cli.watch.ending import print_ending
    from trackbook.cli.watch.follower import Silent, exit_code, follow, read_progress, view_of

    progress = read_progress(client, started["job"], started["seq"], from_start=True)
    if not json:
        print(f"\nJob {started['job']} on {progress.job['executor']}", flush=True)
    interrupted = follow(client, progress, Silent() if json else view_of(progress), cancels=True)
    if not progress.ended:
        say(f"trackbook: job {started['job']} is still being cancelled")
    else:
        print_ending(client, progress, place, json=json, served=served)
    return exit_code(progress.state, interrupted=interrupted)
