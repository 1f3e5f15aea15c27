"""Shell completion: names and ids, from a running server."""

from __future__ import annotations

from collections.abc import Iterator

from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client, quote_part
from trackbook.cli.errors import CliError
from trackbook.cli.quoting import spell_name, take_name
from trackbook.cli.server.connection import Where

_OFFERED = 50


def pipeline_names(incomplete: str) -> list[str]:
    """Return names of pipelines that begin so."""
    return [item["name"] for item in _items("/api/pipelines") if item["name"].startswith(incomplete)]


def job_ids(incomplete: str) -> list[tuple[str, str]]:
    """Return ids of jobs that begin so, each with what it is."""
    return [
        (item["id"], f"{item['pipeline_name']} {item['state']}")
        for item in _items("/api/jobs")
        if item["id"].startswith(incomplete)
    ]


def damaged_histories(incomplete: str) -> list[str]:
    """Return damaged histories, as KIND/ID, that begin so."""
    names = (f"{item['kind']}/{item['aggregate_id']}" for item in _items("/api/quarantine") if item["kind"])
    return sorted({name for name in names if name.startswith(incomplete)})


def executor_names(incomplete: str) -> list[str]:
    """Return names of executors that begin so."""
    place = Where()
    try:
        items = Client(place.find, patience=0).get("/api/executors")["items"] if place.find() else []
    except CliError:
        return []
    return [item["name"] for item in items if item["name"].startswith(incomplete)]


def file_paths(incomplete: str) -> list[str]:
    """Return `PIPELINE:PATH`s that begin so: first the pipelines, then what is in the folder that was typed."""
    try:
        name, path, colon = take_name(incomplete, ":")
    except CliError:  # the quotes around it are not closed yet
        name, path, colon = incomplete.removeprefix('"'), "", False
    if not colon:
        return [f"{spell_name(each, ':')}:" for each in pipeline_names(name)]
    folder = path.rpartition("/")[0]
    items = _items(f"/api/pipelines/{quote_part(name)}/files", path=folder)
    return [
        f"{spell_name(name, ':')}:{item['path']}{'/' if item['type'] == 'folder' else ''}"
        for item in items
        if item["path"].startswith(path)
    ]


def _items(path: str, /, **query: str) -> Iterator[Json]:
    """Yield the first items of a list; none where no server runs: completion never starts one."""
    place = Where()
    try:
        if place.find():
            yield from Client(place.find, patience=0).pages(path, _OFFERED, **query)
    except CliError:
        return
