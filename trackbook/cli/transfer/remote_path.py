"""Paths of files on executors: what `PIPELINE:PATH` and `--job JOB --task TASK` name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import typer

from trackbook.cli import options
from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.errors import CliError, Rejected
from trackbook.cli.quoting import spell_name, take_name
from trackbook.engine.names import normal, printable

_PAGE = 100_000
"""Entries of a folder in one answer; each page is a listing again."""


@dataclass(frozen=True)
class RemotePath:
    """A path in the files that a command is about: those below `base` over HTTP, called `owner` for people."""

    owner: str
    base: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    cut: list[RemotePath] = field(default_factory=list, compare=False, repr=False)
    """Folders that may hold more than the executor's storage listed; shared by all paths below."""

    @property
    def name(self) -> str:
        """The last name of the path, the owner's at the root."""
        return self.path.rpartition("/")[2] or self.owner.replace("/", "-")

    @property
    def content(self) -> str:
        """Where the file's bytes are."""
        return f"{self.base}/content"

    @property
    def params(self) -> Json:
        """The parameters of a request about it."""
        return {**self.query, "path": self.path}

    def child(self, path: str) -> RemotePath:
        """Return a path below this one."""
        return replace(self, path="/".join(part for part in (self.path, path) if part))

    def __str__(self) -> str:
        return printable(f"{spell_name(self.owner, ':')}:{self.path}")


def resolve_path(
    client: Client,
    ref: str,
    executor: str | None,
    job: str | None,
    task: str | None,
    attempt: int | None = None,
) -> RemotePath:
    """Return what was named; raises bad usage where that makes no sense."""
    if job is None:
        if task is not None or attempt is not None:
            raise typer.BadParameter("name the job as well", param_hint="--job")
        name, path, _ = take_name(ref, ":")
        name = options.without_version(name)
        if not name:
            raise typer.BadParameter("name the pipeline: PIPELINE:PATH, or a job by --job", param_hint="PIPELINE")
        return RemotePath(name, f"/api/pipelines/{quote_part(name)}/files", _clean(path), {"executor": executor})
    if executor is not None:
        raise typer.BadParameter("a task's outputs are where it ran: leave it out", param_hint="--executor")
    task = task or _only_task(client, job)
    base = f"/api/jobs/{quote_part(job)}/tasks/{quote_part(task)}/files"
    return RemotePath(task, base, _clean(ref.removeprefix(":")), {"attempt": attempt})


def _clean(path: str) -> str:
    """Return a path without what says nothing, and without the '/' in front that people write."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _only_task(client: Client, job: str) -> str:
    names = [shlex.quote(str(task["name"])) for task in client.pages(f"/api/jobs/{quote_part(job)}/tasks", 9)]
    if len(names) != 1:
        shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise CliError("the job has several tasks; say which one", f"--task TASK, one of: {shown}")
    return names[0]


def entries(client: Client, at: RemotePath) -> list[Json]:
    """Return what is in a folder; of a file, itself. Raises Rejected."""
    found: list[Json] = []
    cursor = None
    while True:
        page = client.get(at.base, **at.params, limit=_PAGE, cursor=cursor)
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            if page.get("may_be_cut"):
                at.cut.append(with_stored_spelling(at, found))
            return found


def file_or_entries(client: Client, at: RemotePath) -> tuple[Json | None, list[Json]]:
    """Return the file that is there, or None and what is in the folder."""
    found = entries(client, at)
    if len(found) == 1 and at.path and normal(found[0]["path"]) == normal(at.path):
        return found[0], []
    return None, found


def with_stored_spelling(at: RemotePath, found: list[Json]) -> RemotePath:
    """Return the path spelled as it is stored: accents may be decomposed there."""
    path = str(found[0]["path"]) if found else at.path
    for each in (path, path.rpartition("/")[0]):
        if normal(each) == normal(at.path):
            return replace(at, path=each)
    return at


def is_folder(client: Client, at: RemotePath) -> bool:
    """Whether there is a folder."""
    try:
        return file_or_entries(client, at)[0] is None
    except Rejected as refusal:
        if refusal.error.get("code") in ("no_such_file", "folder_missing"):
            return not at.path
        raise


def walk(client: Client, at: RemotePath, found: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield all that is below a folder, folders before what is in them, with the path from there."""
    left = list(reversed(found))
    at = with_stored_spelling(at, found)
    while left:
        entry = left.pop()
        yield _relative(at, entry), entry
        if entry["type"] == "folder":
            left += reversed(entries(client, replace(at, path=entry["path"])))


def _relative(at: RemotePath, entry: Json) -> str:
    """Return an entry's path from a folder; it becomes one on this machine, so nothing may lead out of that."""
    path = str(entry["path"])
    inside = path[len(at.path) :].removeprefix("/") if at.path else path
    if not path.startswith(at.path) or set(inside.split("/")) & {"", ".", ".."} or "\0" in inside:
        raise CliError(f"the server names a file {path!r} in {at}, where that can't be")
    return inside
