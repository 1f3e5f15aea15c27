"""Messages on the event stream that no engine wrote, published with the engine's own credentials."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import nats
from checker.raw_log import Report

from damage.original import Original

_PREFIX = "trackbook.evt.job."
_AT = "2026-01-01T00:00:00.000000Z"
Made = tuple[str, bytes]
Make = Callable[[Random, Original, Report], Made]


def _commit(job: str, version: int, prev: str, **changed: Any) -> bytes:
    commit = {
        "schema": 1,
        "kind": "job",
        "id": job,
        "version": version,
        "at": _AT,
        "prev": prev,
        "inputs": [{"actor": "engine", "command": {"type": "CancelJob", "reason": "?"}}],
        "events": [{"type": "JobCancelled"}],
        "causes": [0],
    }
    return json.dumps(commit | changed).encode()


def _unknown(random: Random) -> str:
    return random.randbytes(8).hex()


def _last(job: str, report: Report) -> tuple[int, str]:
    found = [data for subject, data in report.events.values() if subject == _PREFIX + job]
    return len(found), hashlib.sha256(found[-1]).hexdigest()


def _follows(random: Random, original: Original, report: Report, **changed: Any) -> Made:
    job = random.choice(original.jobs)
    version, sha256 = _last(job, report)
    return job, _commit(job, version + 1, **{"prev": sha256, **changed})


FOREIGN: dict[str, Make] = {
    "garbage": lambda r, o, _: (r.choice([_unknown(r), r.choice(o.jobs)]), r.randbytes(200)),
    "empty": lambda r, o, _: (r.choice([_unknown(r), r.choice(o.jobs)]), b""),
    "deep": lambda r, _, __: (_unknown(r), b"[" * 5000 + b"]" * 5000),
    "version 7": lambda r, _, __: (job := _unknown(r), _commit(job, 7, "0" * 64)),
    "schema 99": lambda r, o, report: _follows(r, o, report, schema=99),
    "can't follow": lambda r, o, report: _follows(
        r, o, report, events=[{"type": "TaskStarted", "task": 99, "attempt": 1, "at": _AT}]
    ),
    "unknown event": lambda r, o, report: _follows(r, o, report, events=[{"type": "Nonsense"}]),
    "first can't follow": lambda r, _, __: (job := _unknown(r), _commit(job, 1, "")),
    "wrong prev": lambda r, o, report: _follows(r, o, report, prev="0" * 64),
}
"""How each kind makes a job's id and the message that is published as its next commit."""


def publish(data: Path, made: Made) -> None:
    """Publish the message to the stream of a running server."""
    asyncio.run(_publish(data, *made))


async def _publish(data: Path, job: str, message: bytes) -> None:
    access = json.loads((data / "broker" / "engine.json").read_text())
    connection = await nats.connect(access["url"], user=access["user"], password=access["password"])
    try:
        await connection.jetstream().publish(_PREFIX + job, message, timeout=10)
    finally:
        await connection.close()
