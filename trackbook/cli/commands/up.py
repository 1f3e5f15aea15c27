"""`trackbook up` and `trackbook serve`: the whole system, or parts of it, until they are asked to stop."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Annotated, Any

import typer

from trackbook.cli import options
from trackbook.cli.command_table import commands
from trackbook.cli.server.connection import HOST, PORT
from trackbook.cli.server.stop_signals import on_first_signal
from trackbook.cli.terminal.escapes import escaping_output, raw
from trackbook.cli.terminal.streams import say

app = commands()

UP_EPILOG = """Examples:

  trackbook up

  trackbook up --data ./data --http 127.0.0.1:8080

  trackbook up --cancel      (Ctrl-C cancels the running jobs)

  trackbook up --fork --data ./copy      (a copy of a data directory; the original stays in use)"""

SERVE_EPILOG = """Examples:

  trackbook serve --role broker --role engine --data ./data

  trackbook serve --role executor --data ./data"""

Http = Annotated[
    str,
    typer.Option("--http", metavar="HOST:PORT", help="Address of the HTTP server; port 0 chooses a free one."),
]
Durability = Annotated[
    str,
    typer.Option(
        "--durability",
        metavar="always|fast",
        help="always: fsync each commit; fast: a power cut may lose the last seconds.",
    ),
]
Level = Annotated[str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")]
NoAuth = Annotated[
    bool,
    typer.Option(
        "--no-auth", help="Serve HTTP without a token: every user of this machine may then run commands as you."
    ),
]
WitnessFile = Annotated[
    Path | None,
    typer.Option(
        "--witness",
        metavar="FILE",
        envvar="TRACKBOOK_WITNESS",
        help="Record the end of the log there too, on another disk: detects a data directory that was put back.",
    ),
]
WitnessShell = Annotated[
    str | None,
    typer.Option(
        "--witness-command",
        metavar="COMMAND",
        envvar="TRACKBOOK_WITNESS_COMMAND",
        help="A command that receives each head of the log, and returns the last one at the start.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--sessions", min=1, help="Maximum of sessions at once; twice the cores by default."),
]


_SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread holds the interpreter while others wait for it.

SQLite's threads release it at each row and wait for it again. With Python's own 5 ms, a busy event loop leaves
them some hundred rows a second, and the read model falls far behind the log.
"""


@app.command(epilog=UP_EPILOG)
def up(
    *,
    data: options.Data = None,
    http: Http = f"{HOST}:{PORT}",
    durability: Durability = "always",
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the running jobs on stop.")] = False,
    sessions: Limit = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="The data directory was moved or restored; there is no other copy.")
    ] = False,
    fork: Annotated[
        bool, typer.Option("--fork", help="The data directory is a copy; the original stays in use.")
    ] = False,
    no_auth: NoAuth = False,
    witness: WitnessFile = None,
    witness_command: WitnessShell = None,
    log_level: Level = "info",
) -> None:
    """Run the whole system: broker, engine, executor and HTTP.

    Tasks keep running after Ctrl-C; the next start adopts them.
    """
    _check(http, durability, log_level)
    if adopt and fork:
        raise typer.BadParameter("give --adopt or --fork, not both", param_hint="--fork")
    place = options.server_options(None, data)

    def on_start(url: str) -> None:
        say(f"Trackbook serves {url} on {place.directory}.")
        say(f"Ctrl-C stops it{', and its jobs' if cancel else '; tasks keep running'}.")
        say(f"In another shell: trackbook run FILE.yaml{place.again()}")

    _hold(
        log_level, on_start,
        data=place.directory, http=http, durability=durability, limit=sessions, cancel_on_stop=cancel,
        ownership="adopt" if adopt else "fork" if fork else "",
        authenticates=not no_auth, witness=witness, witness_command=witness_command or "",
    )  # fmt: skip


@app.command(epilog=SERVE_EPILOG)
def serve(
    *,
    role: Annotated[
        list[str],
        typer.Option("--role", metavar="ROLE", help="broker, engine, executor or web; may be repeated."),
    ],
    data: options.Data = None,
    http: Http = f"{HOST}:{PORT}",
    durability: Durability = "always",
    sessions: Limit = None,
    no_auth: NoAuth = False,
    witness: WitnessFile = None,
    witness_command: WitnessShell = None,
    log_level: Level = "info",
) -> None:
    """Run only some roles of the system in this process (TRACKBOOK_NATS_URL names the broker)."""
    from trackbook.runtime.system import ROLES

    if unknown := sorted(set(role) - ROLES):
        raise typer.BadParameter(
            f"there is no role {unknown[0]!r}: {', '.join(sorted(ROLES))}", param_hint="--role"
        )
    _check(http, durability, log_level)
    place = options.server_options(None, data)

    def on_start(url: str) -> None:
        say(f"Trackbook runs {', '.join(role)} on {place.directory}{f', HTTP on {url}' if url else ''}.")

    _hold(
        log_level, on_start,
        data=place.directory, http=http, durability=durability, limit=sessions, roles=frozenset(role),
        authenticates=not no_auth, witness=witness, witness_command=witness_command or "",
    )  # fmt: skip


def _check(http: str, durability: str, log_level: str) -> None:
    host, _, port = http.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 65536):
        raise typer.BadParameter(f"{http!r} is not of the form HOST:PORT", param_hint="--http")
    for given, known, option in (
        (durability, ("always", "fast"), "--durability"),
        (log_level, ("debug", "info", "warning", "error"), "--log-level"),
    ):
        if given not in known:
            raise typer.BadParameter(f"{given!r} is not one of {', '.join(known)}", param_hint=option)


def _warn_open(no_auth: bool) -> None:
    if no_auth:
        say("trackbook: warning: HTTP requires no token (--no-auth): every user of this machine may run commands")


def _hold(log_level: str, on_start: Any, **config: Any) -> None:
    """Run the system until the first stop signal, also while it starts; the next one ends the process at once."""
    import trackbook.runtime.process.lean_imports  # noqa: F401 - before the others
    from trackbook.runtime.process import log_output

    stream = None if sys.__stderr__ is None else raw(sys.stderr)  # None: it was closed when Python started
    with redirect_stderr(log_output.stderr_or_file(stream, config["data"])), escaping_output():
        log_output.configure(level=log_level)
        _warn_open(not config["authenticates"])
        _run(on_start, config)


def _run(on_start: Any, config: dict[str, Any]) -> None:
    import asyncio

    from trackbook.cli.server.foreground import serve_until
    from trackbook.runtime.system import Config

    planned = Config(**config)
    if "web" in planned.roles and not planned.data.exists():
        from trackbook.http.transport.listener import refuse_unservable

        refuse_unservable(planned.http)  # before a data directory is made that nobody would use

    sys.setswitchinterval(_SWITCH_INTERVAL)

    async def hold() -> None:
        stop = asyncio.Event()

        def stopping() -> None:
            say("\nStopping …")
            stop.set()

        on_first_signal(stopping)
        await serve_until(stop, planned, lambda system: on_start(system.url))

    asyncio.run(hold())
