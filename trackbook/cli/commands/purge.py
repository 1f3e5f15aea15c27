"""What `pipeline delete` does with the pipeline's folders: it lists them, or deletes them with `--purge`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import typer

from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.errors import CliError, Rejected
from trackbook.cli.states import UNFINISHED

_BRIEFLY = 3.0
"""Seconds to wait for executors that only list folders which are kept."""


@dataclass
class Purge:
    """What was deleted and what could not be."""

    folders: list[Json] = field(default_factory=list)
    failed: bool = False


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `--yes` was said. Raises Exit where the answer is no, CliError where nobody can answer."""
    if yes:
        return
    try:
        meant = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise CliError("this needs a confirmation, and stdin is not a terminal", "--yes confirms it.") from None
    if not meant:
        raise typer.Exit(1)


def pipeline_of(client: Client, name: str) -> Json:
    """Return the pipeline that is meant, which may be deleted already and then is found by its name as well."""
    try:
        found: Json = client.get(f"/api/pipelines/{quote_part(name)}")
    except Rejected as refusal:
        deleted = list(client.pages("/api/pipelines", 2, state="deleted", name=name))
        if refusal.error.get("code") != "pipeline_not_found" or not deleted:
            raise
        if len(deleted) > 1:
            hint = f"Name it by its id: {', '.join(each['id'] for each in deleted)} …"
            raise CliError(f"several deleted pipelines were called {name!r}", hint) from None
        found = deleted[0]
    return found


def folders_of(client: Client, pipeline: Json) -> list[Json]:
    """Return how the pipeline's folder is on each executor; raises CliError while a job of it has not ended."""
    for job in client.pages("/api/jobs", 1, pipeline=pipeline["id"], state=list(UNFINISHED)):
        message = f"job {job['id']} of {pipeline['name']} has not ended, and its folder is in use"
        raise CliError(message, f"`trackbook job cancel {job['id'][:8]} --wait` ends it.")
    found: list[Json] = client.get(f"/api/pipelines/{pipeline['id']}/folders")["items"]
    return found


def question_of(pipeline: Json, folders: list[Json]) -> str:
    """Return what to ask before it is done."""
    there = [folder["executor"] for folder in folders if folder["state"] == "present"]
    away = [folder["executor"] for folder in folders if folder["state"] == "unavailable"]
    parts = [] if pipeline["state"] == "deleted" else [f"the pipeline {pipeline['name']}"]
    if there:
        parts.append(f"its folder on {', '.join(there)} with all that is in it")
    unsure = f" (What {', '.join(away)} has can't be deleted now.)" if away else ""
    return f"Delete {', and '.join(parts) or 'nothing, since no folder was found'}?{unsure}"


def purge(client: Client, pipeline: Json, folders: list[Json]) -> Purge:
    """Delete the folders, each on its own executor; what one refuses keeps none of the others."""
    done = Purge()
    for folder in folders:
        outcome: Json = {"executor": folder["executor"], "name": folder["name"], "deleted": False}
        if folder["state"] == "unavailable":
            outcome["error"] = folder["message"]
        elif folder["state"] == "present":
            try:
                client.delete(f"/api/pipelines/{pipeline['id']}/folder", executor=folder["executor"])
                outcome["deleted"] = True
            except CliError as error:
                outcome["error"] = str(error)
        done.folders.append(outcome)
        done.failed = done.failed or "error" in outcome
    return done


def print_purge(done: Purge, pipeline: Json) -> None:
    """Print what was deleted where, and what could not be."""
    for folder in done.folders:
        if folder["deleted"]:
            print(f"  {folder['executor']}: the folder {folder['name']} is deleted")
        elif "error" in folder:
            print(f"  {folder['executor']}: not deleted: {folder['error']}")
    if not any(folder["deleted"] or "error" in folder for folder in done.folders):
        print("  there was no folder to delete")
    if done.failed:
        print(f"Once that is fixed: trackbook pipeline delete {pipeline['id']} --purge")


def say_kept_folders(client: Client, pipeline: str) -> None:
    """Print which folders are kept, from the executors that answer in time, and how to delete them."""
    found: Any = client.briefly(f"/api/pipelines/{pipeline}/folders", _BRIEFLY)
    there = [folder["executor"] for folder in (found or {}).get("items", ()) if folder["state"] == "present"]
    unsure = found is None or any(folder["state"] == "unavailable" for folder in found["items"])
    if there:
        many = "s" if len(there) > 1 else ""
        print(f"Its folder{many} on {', '.join(there)} stay{'' if many else 's'}.", end=" ")
    elif unsure:
        print("Its folders are kept.", end=" ")
    else:
        return
    print(f"To delete {'them' if len(there) > 1 else 'it'}: trackbook pipeline delete {pipeline} --purge")


def delete_all(client: Client, name: str, *, yes: bool, json: bool) -> None:
    """Delete a pipeline, if it isn't deleted yet, and its folders; exits 1 where one could not be."""
    from trackbook.cli.terminal.formatting import emit

    found = pipeline_of(client, name)
    folders = folders_of(client, found)
    confirm(question_of(found, folders), yes=yes)
    reply: Json = {"pipeline": found["id"], "name": found["name"]}
    if found["state"] != "deleted":
        reply |= client.command("pipeline", "delete", {"pipeline": found["id"]})
        if not json:
            print(f"Pipeline {found['name']} was deleted; its history is kept under {found['id']}.")
    done = purge(client, found, folders)
    if json:
        emit(reply | {"folders": done.folders})
    else:
        print_purge(done, found)
    if done.failed:
        raise typer.Exit(1)
