"""A server that outlives the command that starts it, and `trackbook down`, which stops one."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from trackbook.cli import options
from trackbook.cli.client.http_client import Client
from trackbook.cli.command_table import commands
from trackbook.cli.errors import CliError
from trackbook.cli.server.connection import HOST, PORT, Where
from trackbook.cli.server.stop_signals import interruptible
from trackbook.cli.states import UNFINISHED
from trackbook.cli.terminal.streams import say
from trackbook.private_files import private_file, private_folder
from trackbook.runtime.data_directory.directory import ServerRecord, server_record

app = commands()

DOWN_EPILOG = """Examples:

  trackbook down

  trackbook down --data ./data --timeout 10

Exit codes: 0 no server is running (any more), 1 it could not be stopped."""
_TELL_AFTER = 2.0
_STOP_WITHIN = 60.0
_LOOK_EVERY = 0.02


@app.command(epilog=DOWN_EPILOG)
def down(
    data: options.Data = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="Seconds to wait for its exit.")
    ] = _STOP_WITHIN,
    json: options.Json = False,
) -> None:
    """Stop the server of a data directory, and wait until it has exited.

    Its tasks continue, and the next start adopts them; `up --cancel` ends them. The server gets SIGTERM.
    """
    from trackbook.cli.terminal.formatting import emit

    directory = options.server_options(None, data).directory
    stopped = stop(directory, timeout)
    if json:
        return emit(
            {"stopped": stopped is not None, "pid": stopped.pid if stopped else None, "data": str(directory)}
        )
    if stopped is None:
        return print(f"No server is running on {directory}.")
    return print(f"The server on {directory} (process {stopped.pid}) has stopped.")


def stop(data: Path, timeout: float = _STOP_WITHIN) -> ServerRecord | None:
    """Stop the server of a data directory and return what it was, None if none runs; raises CliError."""
    deadline = time.monotonic() + timeout
    record = server_record(data)
    while record is not None and not record.url and time.monotonic() < deadline:  # it is starting
        time.sleep(_LOOK_EVERY)
        record = server_record(data)
    if record is None:
        return None
    if record.for_command:
        raise CliError(
            f"process {record.pid} uses {data} for a command, such as `trackbook run`; it is no server",
            "It ends with its command; Ctrl-C in its terminal ends it now.",
        )
    _terminate(record.pid, data)
    while (still := server_record(data)) is not None and still.pid == record.pid:
        if time.monotonic() > deadline:
            raise CliError(
                f"the server on {data} (process {record.pid}) has not ended within {timeout:g} s",
                f"See {data / 'trackbook.log'}; `kill -9 {record.pid}` ends it at once, and its tasks continue.",
            )
        time.sleep(_LOOK_EVERY)
    return record


def _terminate(pid: int, data: Path) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        raise CliError(
            f"the server on {data} is process {pid}, which can't be seen from here",
            "Stop it where it runs: in another container, or on another machine.",
        ) from None
    except PermissionError:
        raise CliError(f"the server on {data} (process {pid}) belongs to another user") from None


@contextmanager
def detached(where: Where, durability: str = "always") -> Iterator[tuple[Client, int | None]]:
    """Start a server that outlives this command; yields a client of it and its process id once it listens.

    The id is None if another command was quicker, and its server is used. If the block raises, the server that
    was started is stopped again, unless it has jobs by then.
    """
    child = _start(where, durability)
    with Client(where.find) as client:
        ours = _is_holder(where.directory, child.pid)
        try:
            yield client, child.pid if ours else None
        except BaseException:
            if ours and not _has_jobs(client):
                stop(where.directory)
            raise


def _is_holder(data: Path, pid: int) -> bool:
    record = server_record(data)
    return record is not None and record.pid == pid


def _has_jobs(client: Client) -> bool:
    """Whether a server has jobs that have not ended; True if it does not say."""
    try:
        return bool(client.get("/api/jobs", state=list(UNFINISHED), limit=1)["items"])
    except CliError:
        return True


def _start(where: Where, durability: str) -> subprocess.Popen[bytes]:
    """Start a server and wait until one listens; raises CliError after which none is left."""
    directory = private_folder(where.directory)
    log = private_file(directory / "trackbook.log")
    # -P: else the caller's directory would be the first in which the server looks for modules.
    program = [sys.executable, "-P", "-m", "trackbook"]
    command = [*program, "up", "--data", str(directory), "--durability", durability]
    with log.open("ab") as output:
        began = output.tell()
        child = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            [*command, "--http", f"{HOST}:{_free_port()}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(os.environ),
            start_new_session=True,
        )
    try:
        with interruptible():
            _await_start(where, child, log, began)
    except BaseException:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_WITHIN)
        raise
    return child


def _await_start(where: Where, child: subprocess.Popen[bytes], log: Path, began: int) -> None:
    """Wait until a server listens, or the one that was started has ended: it bounds its start itself."""
    tell_at = time.monotonic() + _TELL_AFTER
    while not where.find():
        if child.poll() is not None:
            raise CliError("the server did not start", _last_words(log, began))
        if time.monotonic() > tell_at:
            say(f"trackbook: waiting for the server (process {child.pid}) to start; see {log}")
            tell_at = math.inf
        time.sleep(_LOOK_EVERY)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server that is started: relative entries of PYTHONPATH are left out of it."""
    kept = [entry for entry in ours.get("PYTHONPATH", "").split(os.pathsep) if Path(entry).is_absolute()]
    others = {name: value for name, value in ours.items() if name != "PYTHONPATH"}
    return others | ({"PYTHONPATH": os.pathsep.join(kept)} if kept else {})


def _last_words(log: Path, began: int) -> str:
    with log.open("rb") as written:
        written.seek(began)
        lines = written.read().decode(errors="replace").strip().split("\n")
    return "\n  ".join([f"The end of {log}:", *lines[-5:]])


def _free_port() -> int:
    """Return the usual port where nothing listens on it, else 0: any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, PORT))
        except OSError:
            return 0
    return PORT
