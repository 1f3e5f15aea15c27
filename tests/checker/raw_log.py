"""Reads the raw streams of a data directory and its witness, and says what is damaged or lost.

    python tests/checker/raw_log.py DATA

A nats-server of its own runs on a copy of DATA/broker/store, so nothing of DATA is changed. Nothing of Trackbook
is imported, so no mistake of it can be shared. Exit 1 with what is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.errors import NotFoundError

EVENTS, BLOBS = "trackbook_events", "trackbook_blobs"
SCHEMA = 1
PATIENCE = 30.0
_CONFIGURATION = """
listen: "127.0.0.1:{port}"
max_payload: 8MB
jetstream {{ store_dir: "{store}" }}
accounts {{ ENGINE {{ jetstream: enabled, users: [{{user: checker, password: checker}}] }} }}
"""
_NAMED = re.compile(r'"(?:definition|code_sha256)": ?"([0-9a-f]{64})"')
Messages = dict[int, tuple[str, bytes]]


@dataclass
class Report:
    """What is wrong with the log, remarks about the witness file, and every message by its sequence."""

    wrong: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    events: Messages = field(default_factory=dict)
    blobs: Messages = field(default_factory=dict)

    def lost(self, earlier: Report) -> list[str]:
        """Return what an earlier report has that is gone or changed."""
        pairs = (("event", earlier.events, self.events), ("blob", earlier.blobs, self.blobs))
        return [f"{kind} {seq}" for kind, old, new in pairs for seq in old if new.get(seq) != old[seq]]


async def examine(data: Path) -> Report:
    """Return what is wrong with the log of a data directory."""
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        shutil.copytree(data / "broker" / "store", store)
        server, port = _start(Path(scratch), store)
        try:
            await _read(port, report)
        finally:
            server.kill()
            server.wait()
    bodies = _check_bodies(report)
    _check_commits(report, bodies)
    _check_witness(report, data / "witness.log")
    return report


def _start(scratch: Path, store: Path) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    (scratch / "nats.conf").write_text(_CONFIGURATION.format(port=port, store=store))
    program = Path(sys.executable).with_name("nats-server")
    found = str(program) if program.exists() else "nats-server"
    command = [found, "-c", str(scratch / "nats.conf")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), port


async def _read(port: int, report: Report) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            connection = await _connect(port)
            try:
                for stream, messages in ((EVENTS, report.events), (BLOBS, report.blobs)):
                    await _read_stream(connection, stream, messages, report)
            finally:
                await connection.close()
    except TimeoutError:
        report.wrong.append(f"the broker did not serve the streams within {PATIENCE:.0f} s")


async def _connect(port: int) -> Client:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        await asyncio.sleep(0.02)
    return await nats.connect(f"nats://127.0.0.1:{port}", user="checker", password="checker")


async def _read_stream(connection: Client, stream: str, messages: Messages, report: Report) -> None:
    context = connection.jetstream()
    try:
        state = (await context.stream_info(stream)).state
    except nats.errors.Error as problem:
        report.wrong.append(f"{stream}: {type(problem).__name__}")
        return
    for seq in range(1, state.last_seq + 1):
        try:
            message = await context.get_msg(stream, seq)
        except NotFoundError:
            report.wrong.append(f"{stream}: sequence {seq} is missing")
            continue
        except nats.errors.Error as problem:
            report.wrong.append(f"{stream}: sequence {seq} can't be read: {problem}")
            continue
        messages[seq] = (str(message.subject), message.data or b"")


def _check_bodies(report: Report) -> set[str]:
    """Put the large bodies together, and return the names of the whole ones."""
    parts: dict[str, dict[int, bytes]] = defaultdict(dict)
    for subject, chunk in report.blobs.values():
        *_, sha256, number = subject.split(".")
        parts[sha256][int(number) if number.isdecimal() else -1] = chunk
    joined = {sha256: b"".join(chunks[n] for n in sorted(chunks)) for sha256, chunks in parts.items()}
    whole = {sha256 for sha256, body in joined.items() if hashlib.sha256(body).hexdigest() == sha256}
    report.wrong += [f"blob {sha256} is not whole" for sha256 in joined if sha256 not in whole]
    return whole


def _check_commits(report: Report, bodies: set[str]) -> None:
    heads: dict[tuple[str, str], tuple[int, str]] = defaultdict(lambda: (0, ""))
    members: dict[str, int] = {}
    batches: list[tuple[int, list[str]]] = []
    for seq, (subject, data) in sorted(report.events.items()):
        try:
            commit = json.loads(data)
            wrong = _fault(commit, subject, heads)
            names = {*_NAMED.findall(data.decode()), *([blob["sha256"]] if (blob := commit.get("blob")) else [])}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            report.wrong.append(f"sequence {seq} is no commit: {type(problem).__name__}")
            continue
        if wrong:
            report.wrong.append(f"sequence {seq}, {commit['kind']}/{commit['id']}: {wrong}")
            continue
        heads[commit["kind"], commit["id"]] = (commit["version"], hashlib.sha256(data).hexdigest())
        report.wrong += [f"sequence {seq}: the body {name} is missing" for name in names if name not in bodies]
        members[f"{commit['kind']}/{commit['id']}/{commit['version']}"] = seq
        if commit.get("batch"):
            batches.append((seq, commit["batch"]))
    for seq, batch in batches:
        places = [members.get(member, 0) for member in batch]
        if 0 in places or places != list(range(places[0], places[0] + len(places))):
            report.wrong.append(f"sequence {seq}: half of an atomic batch of {len(batch)}")


def _fault(commit: dict[str, Any], subject: str, heads: dict[tuple[str, str], tuple[int, str]]) -> str:
    kind, aggregate = commit["kind"], commit["id"]
    version, sha256 = heads[kind, aggregate]
    if commit["schema"] != SCHEMA:
        return f"schema {commit['schema']}"
    if subject.split(".")[-3:] != ["evt", kind, aggregate]:
        return f"it is on {subject}"
    if commit["version"] != version + 1:
        return f"version {commit['version']} after {version}"
    if commit["prev"] != sha256:
        return "another hash of the commit before"
    return "" if commit.get("events") or commit.get("blob") else "no events"


def _check_witness(report: Report, path: Path) -> None:
    head: dict[str, Any] = {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], 1):
        checksum, _, text = line.partition(b" ")
        try:
            record = json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
        except ValueError:
            record = None
        if record is None:
            report.remarks.append(f"witness: line {number} is damaged")
        elif "head" in record:
            head = record["head"]
    if not head:
        report.remarks.append("witness: it has no head")
        return
    found = report.events.get(head["seq"])
    if head["seq"] > max(report.events, default=0):
        report.wrong.append(
            f"the witness knows sequence {head['seq']}, the log ends at {max(report.events, default=0)}"
        )
    elif found and hashlib.sha256(found[1]).hexdigest() != head["sha256"]:
        report.wrong.append(f"sequence {head['seq']} is not the message that the witness knows")


def main() -> int:
    """Print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    report = asyncio.run(examine(parser.parse_args().data))
    print(
        "\n".join([*report.wrong, *report.remarks, f"{len(report.events)} messages, {len(report.wrong)} wrong"])
    )
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
