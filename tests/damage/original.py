"""The undamaged store: made once through the public surface, with every answer recorded."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from checker.raw_log import Report, examine
from kill import processes

from damage.answers import Answers, outcomes, read_all
from damage.server import PATIENCE, Hang, Server

KILLED, STOPPED = "killed", "stopped"
_FILL = 30_000
"""Bytes of a value that fills a block; as text, and before and after the edit, it takes four times as many."""
_LONG = "sleep 900"
STATES = ("succeeded", "failed", "cancelled")


@dataclass
class Original:
    """Data directories in three states, and what an undamaged server shows of the last two after a start.

    `stopped` ended cleanly, `killed` by kill -9; `older` is a copy from the middle of their history. `answers`
    and `reports` (the raw log) are by state, KILLED or STOPPED. `refused` are commands with their replies,
    `versions` the pipelines' last versions by name; `jobs` had ended and `running` had not when all was killed.
    """

    folder: Path
    answers: dict[str, Answers] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    refused: list[tuple[dict[str, Any], tuple[int, Any]]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def state(self, name: str) -> Path:
        """Return the directory after a clean stop, or after kill -9 of the whole tree."""
        return self.folder / name

    def witness(self, name: str) -> Path:
        """Return the outside witness (`--witness`) of that moment."""
        return self.folder / f"{name}.witness"

    def shown(self, name: str, answers: Answers) -> Answers:
        """Return the answers of a server that started on a state, with what each start decides anew left out."""
        return outcomes(answers, self.running) if name == KILLED else answers

    @property
    def older(self) -> Path:
        """The directory in the middle of its history, stopped cleanly."""
        return self.folder / "older"


def copy(source: Path, target: Path) -> None:
    """Copy a data directory as a disk's image would be put back: it believes to be where it was."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock", "ports"))
    (target / "nats.json").unlink(missing_ok=True)  # its port may be another copy's by now
    path = target / "identity.json"
    identity = json.loads(path.read_text())
    identity["location"]["inode"] = target.stat().st_ino
    identity["path"] = str(target)
    path.write_text(json.dumps(identity))


def build(folder: Path, random: Random, pipelines: int = 45, jobs: int = 4, *, large: bool = False) -> Original:
    """Make the store: about twice as many aggregates as pipelines, since each name is one as well.

    A `large` one has more than one block of events, of 8 MB each.
    """
    original = Original(folder)
    data, witness = folder / "made", folder / "made.witness"
    data.mkdir(parents=True)
    server = Server(data, witness)
    try:
        server.wait_ready()
        _make(original, server, random, range(pipelines // 2), jobs // 2, large)
        server.wait_projected()
        server.stop()
        copy(data, original.older)
        server = Server(data, witness)
        server.wait_ready()
        _make(original, server, random, range(pipelines // 2, pipelines), jobs - jobs // 2, large)
        original.running = [_start(server, f"running-{number}", _LONG) for number in range(jobs)]
        for job in original.running:
            wait_state(server, job, ("running",))
        server.wait_projected()
        before = read_all(server)
    finally:
        server.kill()
        _kill_sessions(data)
    _keep(original, KILLED)
    server = Server(data, witness)
    try:
        server.wait_ready()
        for job in original.running:
            wait_state(server, job)
        server.wait_projected()
        after = read_all(server)
        server.stop()
    finally:
        server.kill()
    _keep(original, STOPPED)
    original.answers[STOPPED] = after
    of_running = {path: after[path] for path in after if any(job in path for job in original.running)}
    expected = before | of_running | {"/api/jobs": after["/api/jobs"]}
    original.answers[KILLED] = original.shown(KILLED, expected)
    return original


def _kill_sessions(data: Path) -> None:
    """Kill what runs the tasks too: it outlives the server, but no power cut."""
    for claim in (data / "sessions").glob("*/claim"):
        if not claim.with_name("exit").exists():
            found = json.loads(claim.read_text())
            processes.kill(found["pid"], "box/spawner.py")
            processes.kill(found["command_pid"], _LONG.split(maxsplit=1)[0])


def _keep(original: Original, name: str) -> None:
    copy(original.folder / "made", original.state(name))
    shutil.copyfile(original.folder / "made.witness", original.witness(name))
    report = original.reports[name] = asyncio.run(examine(original.state(name)))
    assert not report.wrong, report.wrong


def _make(
    original: Original, server: Server, random: Random, numbers: range, jobs: int, large: bool = False
) -> None:
    filler = f"filler-{numbers[0]}"
    original.versions[filler] = _accepted(server, "pipeline", "create", name=filler)["version"]
    for number in numbers:
        name = f"pipeline-{number:03}"
        _accepted(server, "pipeline", "create", name=name, description=random.randbytes(20).hex())
        original.versions[name] = 1
        for _ in range(random.randint(0, 4)):
            edit(server, original.versions, name, random)
        for _ in range(2 if large else 0):
            edit(server, original.versions, filler, random, _FILL)
        if number == numbers[0]:
            changes = [_set(f"LARGE{part}", random.randbytes(60_000).hex()) for part in range(3)]
            edited = _accepted(server, "pipeline", "edit", pipeline=name, changes=changes)
            original.versions[name] = edited["version"]
        if number % 5 == 4:
            _refused(original, server, {"name": name, "command_id": f"refused-{number}"})
    _accepted(server, "pipeline", "delete", pipeline=f"pipeline-{numbers[1]:03}")
    del original.versions[f"pipeline-{numbers[1]:03}"]
    for number in range(jobs):
        original.jobs.append(_start(server, f"job-{numbers[0]}-{number}", "true"))
        wait_state(server, original.jobs[-1])


def edit(server: Server, versions: dict[str, int], name: str, random: Random, size: int = 30) -> None:
    """Make another version; a value of `size` bytes is new in it."""
    change = _set(f"V{random.randint(0, 99) if size < _FILL else 0}", random.randbytes(size).hex())
    versions[name] = _accepted(server, "pipeline", "edit", pipeline=name, changes=[change])["version"]


def _set(variable: str, value: str) -> dict[str, Any]:
    return {"op": "set_variable", "variable": variable, "value": value}


def _accepted(server: Server, kind: str, verb: str, **payload: Any) -> dict[str, Any]:
    status, reply = server.command(kind, verb, **payload)
    assert status == 200, (kind, verb, str(payload)[:200], status, str(reply)[:500])
    return dict(reply)


def _refused(original: Original, server: Server, payload: dict[str, Any]) -> None:
    answer = server.command("pipeline", "create", **payload)
    assert 400 <= answer[0] < 500, answer
    original.refused.append((payload, answer))


def _start(server: Server, name: str, command: str) -> str:
    tasks = [{"name": "one", "command": command}, {"name": "two", "command": "true", "dependencies": ["one"]}]
    _accepted(server, "pipeline", "apply", definition={"name": name, "tasks": tasks})
    return str(_accepted(server, "job", "start", pipeline=name)["job"])


def wait_state(server: Server, job: str, states: Sequence[str] = STATES) -> None:
    """Wait until a job is in one of the states. Raises Hang."""
    deadline = time.monotonic() + 4 * PATIENCE
    while True:
        status, shown = server.get(f"/api/jobs/{job}")
        if status == 200 and shown["state"] in states:
            return
        if time.monotonic() > deadline:
            raise Hang(f"job {job} is not in {states}: {status} {shown}")
        time.sleep(0.05)
