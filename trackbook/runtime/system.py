"""The configuration of a process, and what all roles in it stand on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from msgspec import Struct, field

from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.connection import Connection
from trackbook.adapters.nats.errors import Unanswered
from trackbook.runtime.data_directory.identity import Identity, Ownership
from trackbook.runtime.process.start_phase import StartLimits, StartTimedOut, phase
from trackbook.runtime.process.watchdog import Watchdog

ROLES = frozenset(("broker", "engine", "executor", "web"))
"""Parts of the system; `trackbook up` has all of them in one process, `trackbook serve` some."""


class Config(Struct, kw_only=True):
    """What a process runs. `http` is HOST:PORT, port 0 for any free one; `limit` counts sessions at once.

    `ownership` says whose a copied data directory is. `witness` (a file) and `witness_command` remember the end
    of the log outside of the data directory: its rollback is noticed. HTTP asks for a token, new at each
    start, unless `authenticates` is false.
    """

    data: Path
    roles: frozenset[str] = ROLES
    http: str = "127.0.0.1:9500"
    durability: str = "always"
    prefix: str = field(default_factory=lambda: os.environ.get("TRACKBOOK_PREFIX", "trackbook"))
    limit: int | None = None
    grace: float = 5.0
    pass_environment: list[str] = field(
        default_factory=lambda: [n for n in os.environ.get("TRACKBOOK_PASS_ENV", "").split(",") if n]
    )
    takes_up_jobs: bool = True
    for_command: bool = False
    authenticates: bool = True
    cancel_on_stop: bool = False
    ownership: Ownership = ""
    witness: Path | None = field(default_factory=lambda: _path("TRACKBOOK_WITNESS"))
    witness_command: str = field(default_factory=lambda: os.environ.get("TRACKBOOK_WITNESS_COMMAND", ""))
    start_limits: StartLimits = StartLimits()


def _path(variable: str) -> Path | None:
    return Path(given) if (given := os.environ.get(variable)) else None


class Base(Struct, frozen=True, kw_only=True):
    """What every role of a process stands on; `broker` is the embedded one, if it runs here."""

    config: Config
    identity: Identity
    access: Access
    connection: Connection
    broker: EmbeddedBroker | None = None
    watchdog: Watchdog | None = None
    token: str = ""

    def phase(
        self, what: str, hint: str = "", progress: Callable[[], int] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Report and bound a wait of the start, see `start_phase`."""
        return start_phase(self.config, what, hint, progress)

    def answers(self) -> int:
        """Return how many messages came from the broker: the progress of what reads much from it."""
        return self.connection.stats["in_msgs"]


@asynccontextmanager
async def start_phase(
    config: Config, what: str, hint: str = "", progress: Callable[[], int] | None = None
) -> AsyncIterator[None]:
    """Report and bound a wait of the start; the broker is what to look at unless there is another `hint`.

    Raises StartTimedOut, also where the broker leaves a request without an answer.
    """
    hint = hint or broker_hint(config)
    try:
        async with phase(what, hint, limits=config.start_limits, progress=progress):
            yield
    except Unanswered as error:
        raise StartTimedOut(f"the start waited for {what}, and the broker gave none: {error}", hint) from error


def broker_hint(config: Config) -> str:
    """Return where to look when the broker does not do what it is asked for."""
    if Access.from_env() is None:
        return f"See {config.data / 'broker' / 'nats.log'}, and start again."
    return "Look at the broker that TRACKBOOK_NATS_URL names: its address, its log and its disk."
