"""`trackbook pipeline`: pipelines and their versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.command_table import command_group
from trackbook.cli.commands import pipeline_edit
from trackbook.cli.completion import pipeline_names
from trackbook.cli.server.connection import server
from trackbook.cli.transfer.code_upload import packed_code

app = command_group("pipeline", "Pipelines and their versions.")
_BRIEFLY = 2.0
"""Seconds to wait for the state of a pipeline's folder: a cluster may be unreachable."""

Pipeline = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="Its name or id.", autocompletion=pipeline_names)
]
Versioned = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE[@VERSION]",
        help="Its name or id; the latest version by default.",
        autocompletion=pipeline_names,
    ),
]
Expected = Annotated[
    int | None,
    typer.Option("--expect", metavar="VERSION", help="Refuse if the pipeline is at another version."),
]


@contextmanager
def _client(url: str | None, data: Any, token_file: Any, *, creates: bool = False) -> Iterator[Client]:
    with server(options.server_options(url, data, token_file), creates=creates) as client:
        yield client


@app.command(
    epilog="Examples:\n\n  trackbook pipeline apply train.yaml\n\n"
    "  trackbook pipeline apply - --name nightly < train.yaml"
)
def apply(
    file: Annotated[str, typer.Argument(metavar="FILE.yaml", help="The YAML; - reads it from stdin.")],
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the pipeline, instead of the one in the file.")
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option("--to", metavar="PIPELINE", help="The pipeline to change, if the file renames it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change; change nothing.")] = False,
    expect: Expected = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Create a pipeline from a YAML file, or apply the file's changes as one new version."""
    text, source = options.read_source(file)
    asked: dict[str, Any] = {"yaml": text, "name": name, "pipeline": pipeline, "expected_version": expect}
    place = options.server_options(url, data, token_file)
    with packed_code(text, file, place.directory) as code, server(place, creates=True) as client:
        asked["code_sha256"] = code and code.sha256
        if code and not dry_run and not code.is_stored(client):
            client.command("pipeline", "apply", asked | {"dry_run": True}, source)  # nothing is sent in vain
            code.upload(client, quiet=json)
        reply = client.command("pipeline", "apply", asked | ({"dry_run": True} if dry_run else {}), source)
    _print_reply(reply, source, json=json, dry_run=dry_run)


@app.command(epilog="Example:\n\n  trackbook pipeline create nightly --set-var EPOCHS=3")
def create(
    name: Annotated[str, typer.Argument(help="Its name.")],
    description: Annotated[str, typer.Option("--description", help="A description.")] = "",
    set_var: Annotated[
        list[str] | None, typer.Option("--set-var", metavar="K=V", help="A variable of all its tasks.")
    ] = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Create an empty pipeline."""
    variables = options.pairs(set_var, "--set-var")
    with _client(url, data, token_file, creates=True) as client:
        asked = {"name": name, "description": description, "variables": variables}
        reply = client.command("pipeline", "create", asked)
    _print_reply(reply, json=json)


@app.command(cls=pipeline_edit.InOrder, epilog=pipeline_edit.EPILOG)
def edit(
    context: typer.Context,
    pipeline: Pipeline,
    *,
    set_var: pipeline_edit.SetVar = None,
    unset_var: pipeline_edit.UnsetVar = None,
    add_task: pipeline_edit.AddTask = None,
    remove_task: pipeline_edit.RemoveTask = None,
    rename_task: pipeline_edit.RenameTask = None,
    set_: pipeline_edit.Set = None,
    unset: pipeline_edit.Unset = None,
    add_dep: pipeline_edit.AddDep = None,
    remove_dep: pipeline_edit.RemoveDep = None,
    description: pipeline_edit.Description = None,
    expect: Expected = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Change a pipeline: all options, in their order, become one new version."""
    given = {
        "set_var": set_var, "unset_var": unset_var, "add_task": add_task, "remove_task": remove_task,
        "rename_task": rename_task, "set_": set_, "unset": unset, "add_dep": add_dep, "remove_dep": remove_dep,
        "description": description,
    }  # fmt: skip
    changes = pipeline_edit.changes(context, given)
    if not changes:
        raise typer.BadParameter("say what to change", param_hint="OPTIONS")
    with _client(url, data, token_file) as client:
        asked = {"pipeline": options.without_version(pipeline), "changes": changes, "expected_version": expect}
        reply = client.command("pipeline", "edit", asked)
    _print_reply(reply, json=json)


@app.command("list", epilog="Example:\n\n  trackbook pipeline list --all --json")
def list_(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Include deleted pipelines.")] = False,
    limit: options.Limit = 100,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List pipelines, newest first."""
    from trackbook.cli.client.listing import listing
    from trackbook.cli.commands.pipeline_view import show_pipelines
    from trackbook.cli.terminal.formatting import emit

    with _client(url, data, token_file) as client:
        found = listing(client, "/api/pipelines", limit, state="all" if everything else None)
    if json:
        return emit(found.items)
    show_pipelines(found.items)
    return found.say_cut("pipelines")


@app.command(epilog="Example:\n\n  trackbook pipeline show train@3")
def show(
    pipeline: Versioned,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Show a pipeline, or one version of it: its tasks and what they depend on."""
    from trackbook.cli.commands.pipeline_view import show_pipeline
    from trackbook.cli.terminal.formatting import emit

    name, version = options.parse_version(pipeline)
    with _client(url, data, token_file) as client:
        found = client.get(f"/api/pipelines/{quote_part(name)}")
        at = version if version is not None else found["version"]
        moment = client.get(f"/api/pipelines/{found['id']}/versions/{at}")
        folder = None if json else client.briefly(f"/api/pipelines/{found['id']}/folder", _BRIEFLY)
    if json:
        return emit(moment if version is not None else found | {"content": moment["content"]})
    return show_pipeline(found, moment, at, folder)


@app.command(epilog="Example:\n\n  trackbook pipeline yaml train@3 > old.yaml")
def yaml(
    pipeline: Versioned,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
) -> None:
    """Print a version as YAML, which `apply` and FastTrack read."""
    name, version = options.parse_version(pipeline)
    with _client(url, data, token_file) as client:
        found = client.get(f"/api/pipelines/{quote_part(name)}") if version is None else {}
        at = found.get("version", version)
        print(client.text(f"/api/pipelines/{quote_part(name)}/versions/{at}/yaml"), end="")


@app.command(epilog="Example:\n\n  trackbook pipeline versions train")
def versions(
    pipeline: Pipeline,
    limit: options.Limit = 100,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List a pipeline's versions, newest first: who changed what, and when."""
    from trackbook.cli.client.listing import listing
    from trackbook.cli.commands.pipeline_view import show_versions
    from trackbook.cli.terminal.formatting import emit

    name = options.without_version(pipeline)
    with _client(url, data, token_file) as client:
        found = listing(client, f"/api/pipelines/{quote_part(name)}/versions", limit)
    if json:
        return emit(found.items)
    show_versions(found.items)
    return found.say_cut("versions")


@app.command(
    epilog="Examples:\n\n  trackbook pipeline diff train@1 train@3\n\n"
    "  trackbook pipeline diff train --from 1 --to 3"
)
def diff(
    first: Annotated[str, typer.Argument(metavar="PIPELINE[@VERSION]", autocompletion=pipeline_names)],
    second: Annotated[str | None, typer.Argument(metavar="[PIPELINE@VERSION]")] = None,
    from_: Annotated[
        int | None, typer.Option("--from", metavar="VERSION", help="The previous version by default.")
    ] = None,
    to: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", help="The latest version by default.")
    ] = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Show what changed between two versions: old and new values, and differing lines of long commands."""
    from trackbook.cli.commands.pipeline_view import show_diff
    from trackbook.cli.terminal.formatting import emit

    name, start = options.parse_version(first)
    start = from_ if from_ is not None else start
    if second is not None:
        other, to = options.parse_version(second)
        if other != name:
            raise typer.BadParameter("compare two versions of one pipeline", param_hint="PIPELINE@VERSION")
    with _client(url, data, token_file) as client:
        last = client.get(f"/api/pipelines/{quote_part(name)}")["version"]
        end = to if to is not None else last
        start = start if start is not None else max(1, end - 1)
        found = client.get(f"/api/pipelines/{quote_part(name)}/diff", **{"from": start, "to": end})
    if json:
        return emit(found)
    return show_diff(found["changes"], f"{name}@{start}", f"{name}@{end}")


@app.command(epilog="Example:\n\n  trackbook pipeline restore train@3")
def restore(
    pipeline: Versioned,
    expect: Expected = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Create a new version with the content of an old one."""
    name, version = options.parse_version(pipeline)
    if version is None:
        raise typer.BadParameter("name the version to restore: NAME@3", param_hint="PIPELINE@VERSION")
    with _client(url, data, token_file) as client:
        reply = client.command(
            "pipeline", "restore", {"pipeline": name, "version": version, "expected_version": expect}
        )
    _print_reply(reply, json=json)


@app.command(epilog="Example:\n\n  trackbook pipeline rename train train-large")
def rename(
    pipeline: Pipeline,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Rename a pipeline; its id and history stay."""
    with _client(url, data, token_file) as client:
        reply = client.command(
            "pipeline", "rename", {"pipeline": options.without_version(pipeline), "name": name}
        )
    _print_reply(reply, json=json)


@app.command(
    epilog="Examples:\n\n  trackbook pipeline delete train\n\n  trackbook pipeline delete train --purge --yes"
)
def delete(
    pipeline: Pipeline,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Delete its folders with all files too, also of a pipeline deleted before."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Delete a pipeline: its name becomes free, and its history stays readable by its id.

    Its folders are kept unless --purge is given.
    """
    from trackbook.cli.commands.purge import confirm, delete_all, say_kept_folders
    from trackbook.cli.terminal.formatting import emit

    name = options.without_version(pipeline)
    if purge:
        with _client(url, data, token_file) as client:
            return delete_all(client, name, yes=yes, json=json)
    with _client(url, data, token_file) as client:
        found = client.get(f"/api/pipelines/{quote_part(name)}")
        confirm(f"Delete the pipeline {found['name']}?", yes=yes)
        reply = client.command("pipeline", "delete", {"pipeline": found["id"]})
        if json:
            return emit(reply)
        print(f"Pipeline {found['name']} was deleted; its history is kept under {found['id']}.")
        return say_kept_folders(client, str(reply.get("pipeline")))


def _print_reply(reply: dict[str, Any], source: str = "", *, json: bool, dry_run: bool = False) -> None:
    from trackbook.cli.terminal.formatting import emit
    from trackbook.cli.terminal.render import print_applied, print_summary, print_warnings

    if json:
        return emit(reply)
    print_applied(reply, dry_run=dry_run)
    print_summary(reply.get("summary") or {})
    print_warnings(reply.get("warnings") or [], source)
    return None
