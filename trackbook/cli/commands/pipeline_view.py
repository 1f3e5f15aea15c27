"""Prints pipelines: lists of them and of their versions, one version, and the diff of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trackbook.cli.client.exchange import Json


def show_pipelines(items: Sequence[Json]) -> None:
    """Print pipelines as a table."""
    from trackbook.cli.terminal.formatting import local_time
    from trackbook.cli.terminal.tables import table

    table(
        ("NAME", "ID", "VERSION", "TASKS", "STATE", "CHANGED", "BY"),
        [
            (
                p["name"],
                p["id"][:8],
                p["version"],
                p["tasks"],
                p["state"],
                local_time(p["updated_at"]),
                p["actor"],
            )
            for p in items
        ],
    )


def show_pipeline(found: Json, moment: Json, version: int, folder: Json | None) -> None:
    """Print one version of a pipeline: its fields, its folder as its executor reports it, and its tasks."""
    from trackbook.cli.terminal.formatting import fields, local_time
    from trackbook.cli.terminal.tables import table

    content = moment["content"]
    fields(
        [
            ("pipeline", f"{content.get('name')}@{version}"),
            ("id", found["id"]),
            ("description", content.get("description")),
            ("state", found["state"]),
            ("changed", f"{local_time(moment['at'])} by {moment['actor']}"),
            ("folder", _folder(folder)),
            ("problem", found.get("problem")),
        ]
    )
    tasks = content.get("tasks") or {}
    rows = tasks.values() if isinstance(tasks, dict) else tasks
    print()
    table(
        ("TASK", "DEPENDS ON", "RESOURCES"),
        [(t["name"], ", ".join(t.get("dependencies") or ()), _resources(t)) for t in rows],
    )


def _folder(folder: dict[str, Any] | None) -> str:
    """Return the state of the pipeline's folder, if its executor answers in time."""
    if folder is None:
        return "its executor did not answer; see `trackbook files list`"
    if folder["state"] == "present":
        return f"{folder['name']} on {folder['executor']}"
    how = {"none": "none yet"}.get(folder["state"], folder["state"])
    return f"{how} on {folder['executor']}: {folder['message']}"


def _resources(task: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in (task.get("resources") or {}).items())


def show_versions(items: Sequence[Json]) -> None:
    """Print versions as a table: who changed what, and when."""
    from trackbook.cli.terminal.formatting import local_time
    from trackbook.cli.terminal.tables import table

    table(
        ("VERSION", "WHEN", "BY", "TASKS", "CHANGES"),
        [(v["version"], local_time(v["at"]), v["actor"], v["tasks"], _changes(v)) for v in items],
    )


def _changes(version: dict[str, Any]) -> str:
    from collections import Counter

    if version.get("restored"):
        return f"restored version {version['restored']}"
    counts = Counter(version["changes"])
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items())


def show_diff(changes: Sequence[Json], first: str, second: str) -> None:
    """Print what changed between two versions, a line each, and the lines of long commands that differ."""
    print(f"{first} → {second}:{'' if changes else ' no difference'}")
    for change in changes:
        print(f"  {change['text']}")
        for line in change.get("hunks", ()):
            print(f"    {line}")
