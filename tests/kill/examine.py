"""What must hold once everything has come to rest: each check on its own, none by the engine's own word alone."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from checker.check import Message, check

from kill import processes, stream
from kill.pipelines import FAILURE
from kill.workload import Job
from kill.world import World

LOST = "launcher died"
"""The words by which a job's cause says that a session was lost with its launcher."""


async def all_is_well(
    world: World, jobs: Sequence[Job], *, earlier: Sequence[Message] = (), lost: int = 0
) -> dict[str, int]:
    """Assert every invariant of a world at rest, stop it, and return how many of each check were made.

    `lost` sessions may be lost beside those whose launchers the world has killed, to failpoints.
    """
    counts: dict[str, int] = {}
    messages = await log_is_well(world, world.ledger.read_text().splitlines(), jobs, earlier, counts)
    counts["job ends"] = _jobs_ended_as_meant(world, messages, jobs, lost)
    counts["sessions gone"] = await _sessions_are_gone(world)
    return counts


async def log_is_well(
    world: World,
    ledger: Sequence[str],
    jobs: Sequence[Job],
    earlier: Sequence[Message] = (),
    counts: dict[str, int] | None = None,
) -> list[Message]:
    """Assert what holds of the log, the ledger, outcomes, read models and replays; returns the log's messages.

    `counts` gets how many of each check were made.
    """
    assert not world.complaints(), f"{world.complaints()} ({world})"
    messages = await stream.dump(world.data)
    stream.save(messages, world.folder / "stream.jsonl")
    blobs = await stream.blobs(world.data)
    wrong = check(messages, ledger, blobs, earlier=earlier)
    assert not wrong, f"{world}: " + "\n".join(wrong)
    made = {"stream and ledger": 1, "I3 by an earlier dump": int(bool(earlier))}
    made["outcomes"] = outcomes_agree(world)
    made["rebuilds"] = await _rebuild_changes_nothing(world, messages[-1][0])
    made["verified"] = await _log_is_intact(world)
    made["replays"] = await _replays_agree(world, jobs)
    (counts if counts is not None else {}).update(made)
    return messages


def _jobs_ended_as_meant(world: World, messages: list[Message], jobs: Sequence[Job], lost: int) -> int:
    """A job may end otherwise only because a launcher of its own was killed, and then says so in words."""
    ours = world.lost_to_us()
    ends: dict[str, dict[str, Any]] = {}
    sessions: dict[tuple[str, str], str] = {}
    beside = 0
    for name, event in stream.job_events(messages):
        if event["type"] == "TaskLaunchRequested":
            sessions[name, event["task"]] = event["session"]
        elif event["type"] == "AttemptFailed" and LOST in event["error"]["message"]:
            beside += sessions[name, event["task"]] not in ours
        elif event["type"] in stream.ENDS:
            ends[name] = event
    assert beside <= lost, f"{beside} sessions were lost whose launchers nobody has killed ({world})"
    assert ends.keys() == {job.id for job in jobs}, f"the log has other jobs than were started ({world})"
    for job in jobs:
        _ended_as_meant(world, job, ends[job.id])
    return len(jobs)


def _ended_as_meant(world: World, job: Job, end: dict[str, Any]) -> None:
    words = f"{job.kind} job {job.id} ended with {end} ({world})"
    if end["type"] == "JobFailed":
        of_itself = job.kind == "failing" and end["error"].get("exit_code") == FAILURE
        assert of_itself or LOST in end["error"]["message"], words
    elif end["type"] == "JobCancelled":
        assert job.kind == "cancelled", words
    else:
        assert job.kind != "failing", words


def outcomes_agree(world: World) -> int:
    """Everyone who asks, however often, gets the same answer."""
    for command, reported in world.client.outcomes.items():
        assert all(reply == reported[0] for reply in reported), (
            f"{command} had several outcomes ({world}): {reported}"
        )
        assert reported[0]["command_id"] == command
    return sum(len(reported) for reported in world.client.outcomes.values())


async def _rebuild_changes_nothing(world: World, head: int) -> int:
    """The rows are what the whole log makes of them."""
    await world.client.get(f"/api/jobs?limit=1&after={head}")
    live = rows(world.data / "readmodel.db")
    await world.client.post("/api/projection/rebuild")
    again = rows(world.data / "readmodel.db")
    for table in live:
        assert live[table] == again[table], f"the read model differs from a rebuild in {table} ({world})"
    assert live.keys() == again.keys()
    assert sum(map(len, live.values())) > 10
    return sum(map(len, live.values()))


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables of a SQLite file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [
            row[0]
            for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            if not row[0].startswith("sqlite_")
        ]
        return {
            table: sorted(database.execute(f'SELECT * FROM "{table}"').fetchall(), key=repr) for table in tables
        }


async def _log_is_intact(world: World) -> int:
    found = await world.client.get("/api/audit/verify")
    assert found["ok"], f"{found} ({world})"
    return int(found["commits"])


async def _replays_agree(world: World, jobs: Sequence[Job]) -> int:
    """Today's code decides each job's history again as it stands."""
    for job in jobs:
        found = await world.client.get(f"/api/jobs/{job.id}/replay")
        assert found["divergence"] is None, f"{found} ({world})"
    return len(jobs)


async def _sessions_are_gone(world: World) -> int:
    """No process of any task is left, and every session that was claimed has its record."""
    folders = [folder for folder in (world.data / "sessions").glob("tb-*") if (folder / "claim").exists()]
    unrecorded = [folder.name for folder in folders if not _recorded(folder)]
    assert not unrecorded, f"sessions without a record: {unrecorded} ({world})"

    async def gone() -> bool:
        return not [each for each in processes.of(world.data) if "TRACKBOOK_SESSION=" in each.mark]

    await world.until(gone, "tasks were left running", 5)
    return len(folders)


def _recorded(session: Path) -> bool:
    """Whether the session's end is on disk: by itself, or in the claim by which it was withdrawn."""
    if (session / "exit").exists():
        return True
    said = json.loads((session / "claim").read_bytes().partition(b"\n")[0])
    return said.get("record") is not None


async def nothing_is_left(world: World) -> None:
    """Once the world has been stopped, none of its processes lives."""
    left: list[processes.Process] = []
    for _ in range(250):
        left = processes.of(world.data)
        if not left:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"processes are left over ({world}): {[(each.pid, each.command) for each in left]}")
