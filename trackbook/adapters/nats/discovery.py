"""Finding the broker that another process runs on a data directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from trackbook.adapters.nats import broker_files
from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.errors import BrokerUnreachable

_LOOK = 0.05


def current_url(data: Path) -> str:
    """Return where the broker of `data` listens now, by what it announced last."""
    return f"nats://127.0.0.1:{broker_files.known_port(data / 'nats.json')}"


async def engine_access(data: Path, patience: float = 30.0) -> Access:
    """Return how our own processes reach the broker of `data`, once it has been started there.

    Raises BrokerUnreachable after `patience` seconds.
    """
    credentials, announced = data / "broker" / "credentials.json", data / "nats.json"
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        passwords = broker_files.read(credentials, broker_files.Credentials)
        port = broker_files.known_port(announced)
        if passwords is not None and port:
            return Access(url=current_url(data), user="engine", password=passwords.engine)
        if asyncio.get_running_loop().time() > deadline:
            raise BrokerUnreachable(
                f"no broker was started on {data}: run one there (`trackbook serve --role broker`), "
                "or name one by TRACKBOOK_NATS_URL"
            )
        await asyncio.sleep(_LOOK)
