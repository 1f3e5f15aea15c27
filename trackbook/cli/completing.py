"""What the shell offers after TAB: names and ids of what is there, asked of a running server."""

from __future__ import annotations

from collections.abc import Iterator

from trackbook.cli.client import Client, Json
from trackbook.cli.server import Where
from trackbook.cli.trouble import Trouble

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


def _items(path: str) -> Iterator[Json]:
    """Yield the newest items of a list; none where no server runs: completion never starts one."""
    place = Where()
    try:
        if place.find():
            yield from Client(place.find, patience=0).pages(path, _OFFERED)
    except Trouble:
        return
