"""`trackbook files`: what is in the folders of pipelines, on whatever executor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.command_table import command_group
from trackbook.cli.completion import executor_names, file_paths, job_ids, pipeline_names
from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import server

if TYPE_CHECKING:
    from trackbook.cli.transfer.remote_path import RemotePath

app = command_group("files", "Files of pipelines: their shared folders and the outputs of tasks.")

Place = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE:PATH",
        help="A pipeline's name or id, and the path in its folder; with --job the path alone.",
        autocompletion=file_paths,
    ),
]
Executor = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="The executor; the pipeline's own or the default one by default.",
        autocompletion=executor_names,
    ),
]
Job = Annotated[
    str | None,
    typer.Option("--job", metavar="JOB", help="Use the outputs of a task of this job.", autocompletion=job_ids),
]
Task = Annotated[str | None, typer.Option("--task", metavar="TASK", help="The task; the only one by default.")]
Attempt = Annotated[
    int | None,
    typer.Option("--attempt", metavar="N", min=1, help="The task's attempt; the latest by default."),
]


@contextmanager
def _client(url: str | None, data: Any, token_file: Any, place: str = "") -> Iterator[Client]:
    """Yield a client for questions about a PIPELINE:PATH."""
    from trackbook.cli.errors import Rejected

    try:
        with server(options.server_options(url, data, token_file)) as client:
            yield client
    except Rejected as refusal:
        if refusal.error.get("code") == "pipeline_not_found" and ":" in place and not place.startswith('"'):
            refusal.error["hint"] = "A pipeline's name that contains ':' is put in double quotes: '\"a:b\":PATH'."
        raise


@app.command(
    "list",
    epilog="Examples:\n\n  trackbook files list train\n\n  trackbook files list train:vfroot/models -l\n\n"
    "  trackbook files list --job 1f2e --task train --recursive",
)
def list_(
    place: Annotated[
        str,
        typer.Argument(
            metavar="[PIPELINE[:PATH]]",
            help="A pipeline's name or id, and the path in its folder; with --job the path alone.",
            autocompletion=file_paths,
        ),
    ] = "",
    *,
    long: Annotated[bool, typer.Option("--long", "-l", help="Include sizes and times.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include all subfolders.")] = False,
    executor: Executor = None,
    job: Job = None,
    task: Task = None,
    attempt: Attempt = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List a folder by name; folders end with '/'."""
    from trackbook.cli.terminal.formatting import emit, local_time
    from trackbook.cli.terminal.tables import table
    from trackbook.cli.transfer.file_transfer import size_text
    from trackbook.cli.transfer.remote_path import file_or_entries, resolve_path, walk
    from trackbook.engine.names import printable

    with _client(url, data, token_file, place) as client:
        at = resolve_path(client, place, executor, job, task, attempt)
        file, entries = file_or_entries(client, at)
        if file is not None:
            found = [(at.name, file)]
        elif recursive:
            found = list(walk(client, at, entries))
        else:
            found = [(entry["name"], entry) for entry in entries]
    _warn_of_cut(at)
    if json:
        return emit([entry for _, entry in found])
    shown = [(printable(name) + "/" * (entry["type"] == "folder"), entry) for name, entry in found]
    if long:
        rows = [
            (size_text(e["size"]) if e["type"] == "file" else "", local_time(e["modified_at"]), name)
            for name, e in shown
        ]
        table(("SIZE", "CHANGED", "NAME"), rows)
        return None
    for name, _ in shown:
        print(name)
    return None


def _warn_of_cut(at: RemotePath) -> None:
    for folder in at.cut:
        words = f"the list of {folder} may be incomplete: the cluster's storage cuts long ones"
        print(f"trackbook: {words}", file=sys.stderr)


@app.command(
    epilog="Examples:\n\n  trackbook files cat train:vfroot/notes.txt\n\n"
    "  trackbook files cat --job 1f2e --task evaluate metrics.json | jq .loss"
)
def cat(
    place: Place,
    executor: Executor = None,
    job: Job = None,
    task: Task = None,
    attempt: Attempt = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
) -> None:
    """Print a file's bytes unchanged."""
    from trackbook.cli.transfer.file_transfer import pieces
    from trackbook.cli.transfer.remote_path import resolve_path

    with _client(url, data, token_file, place) as client:
        at = resolve_path(client, place, executor, job, task, attempt)
        done = 0
        for start, chunk in pieces(client, at):
            if start != done:
                raise CliError(f"{at} changed while it was read")
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            done += len(chunk)


@app.command(
    epilog="Examples:\n\n  trackbook files get train:vfroot/model.bin\n\n"
    "  trackbook files get train:vfroot/models ./models --force\n\n"
    "  trackbook files get . ./outputs --job 1f2e --task train"
)
def get(
    place: Place,
    destination: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DEST]", help="Target folder, or the target path; the current folder by default."
        ),
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")] = False,
    executor: Executor = None,
    job: Job = None,
    task: Task = None,
    attempt: Attempt = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Download a file, or a folder with everything in it.

    Each file appears complete or not at all. Nothing is overwritten without --force. Files that an earlier
    download left, with the same size and time, are not fetched again.
    """
    from trackbook.cli.transfer.download import received
    from trackbook.cli.transfer.remote_path import resolve_path

    with _client(url, data, token_file, place) as client:
        at = resolve_path(client, place, executor, job, task, attempt)
        done, there, top = received(client, at, destination, force=force)
    _print_transfer("got", done, str(top), json=json)
    if there and not json:
        print(f"  {there} of them {'was' if there == 1 else 'were'} there already")
    if at.cut:
        words = (
            f"{at.cut[0]} may have more files than the cluster's storage lists: the download may be incomplete"
        )
        raise CliError(words, "Have tasks put many files into one archive, or name the missing ones one by one.")


@app.command(
    epilog="Examples:\n\n  trackbook files put data.csv train:vfroot/\n\n"
    "  trackbook files put ./dataset train:vfroot/dataset --executor backendai/main"
)
def put(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A file, a folder, or - for stdin.")],
    place: Place,
    *,
    executor: Executor = None,
    job: Job = None,
    task: Task = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Upload a file, or a folder with everything in it; replaces existing files.

    Into an existing folder (or a path that ends with '/') it goes under its own name. Each file appears
    complete or not at all. Tasks see the files below vfroot/.
    """
    from trackbook.cli.transfer.remote_path import is_folder, resolve_path
    from trackbook.cli.transfer.upload import gather, upload_files

    with gather(source) as (name, files), _client(url, data, token_file, place) as client:
        at = resolve_path(client, place, executor, job, task)
        if place.endswith(("/", ":")) or is_folder(client, at):
            if name is None:
                raise typer.BadParameter("name the file that stdin becomes", param_hint="PIPELINE:PATH")
            at = at.child(name)
        done = upload_files(client, at, files)
    _print_transfer("put", done, str(at), json=json)


def _print_transfer(did: str, files: list[tuple[str, str, int]], where: str, *, json: bool) -> None:
    """Print what was transferred: (from, to, bytes)."""
    from trackbook.cli.terminal.formatting import emit, plural
    from trackbook.cli.transfer.file_transfer import size_text
    from trackbook.engine.names import printable

    if json:
        return emit([{"from": source, "to": target, "size": size} for source, target, size in files])
    if len(files) == 1:
        print(f"{printable(files[0][0])} → {printable(files[0][1])}, {size_text(files[0][2])}")
    else:
        total = size_text(sum(size for _, _, size in files))
        print(f"{plural(len(files), 'file')} {did}, {total}: {printable(where)}")
    return None


@app.command(
    epilog="Examples:\n\n  trackbook files remove train:vfroot/old.bin\n\n"
    "  trackbook files remove train:vfroot/models --recursive"
)
def remove(
    place: Place,
    *,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Delete a folder with everything in it.")
    ] = False,
    executor: Executor = None,
    job: Job = None,
    task: Task = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Delete a file, or a folder; the pipeline's folder itself goes with `pipeline delete --purge`."""
    from trackbook.cli.errors import Rejected
    from trackbook.cli.terminal.formatting import emit
    from trackbook.cli.transfer.remote_path import resolve_path

    with _client(url, data, token_file, place) as client:
        at = resolve_path(client, place, executor, job, task)
        try:
            found = client.delete(at.content, recursive="true" if recursive else None, **at.params)
        except Rejected as refusal:
            if refusal.error.get("code") == "is_a_folder":
                raise CliError(f"{at} is a folder", "--recursive deletes it with all that is in it.") from None
            raise
    if json:
        return emit(found)
    print(f"{at} is deleted.")
    return None


@app.command(epilog="Example:\n\n  trackbook files create train --executor backendai/main")
def create(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Its name or id.", autocompletion=pipeline_names)
    ],
    executor: Executor = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Create a pipeline's folder if it is missing; a run does so by itself."""
    from trackbook.cli.terminal.formatting import emit

    name = options.without_version(pipeline.removesuffix(":"))
    with _client(url, data, token_file) as client:
        found = client.post(f"/api/pipelines/{quote_part(name)}/folder", executor=executor)
    if json:
        return emit(found)
    print(f"The folder of {name} on {found['executor']} is there: {found['name']}")
    return None
