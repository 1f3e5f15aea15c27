"""What a stack is made of: its version, sizes, ports and accounts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

VERSIONS = {"23.09": "23.09.10", "26.8": "26.8.3"}
"""The series that can be booted, and the release that stands for each."""

ROOT = Path(__file__).resolve().parents[3]
IMAGE = ("sim-registry", "stable/python", "3.9-ubuntu20.04")
"""Registry, name and tag; nothing is ever pulled."""

NAMESPACE = "simtest"
MOST_AGENTS = 4
SPAN = 80
"""A stack uses this many ports from its base port on."""


class Key(NamedTuple):
    """A key pair of the stack, known to everybody: it opens nothing but loopback."""

    access: str
    secret: str


KEYS = {
    "admin": Key("AKIASIMADMIN00000001", "sim-admin-secret-0000000000000000000001a"),
    "user": Key("AKIASIMUSER000000001", "sim-user--secret-0000000000000000000001b"),
    "small": Key("AKIASIMSMALL00000001", "sim-small-secret-0000000000000000000001c"),
}
"""By account: a superadmin, an ordinary user, and one with 2 cpu, 2 GiB, 2 sessions and 1 container."""


class Unavailable(Exception):
    """The stack can't be had on this machine; the text says what is missing."""


@dataclass(frozen=True)
class Sizes:
    """What agents declare (nothing is measured) and what the ordinary policy allows."""

    agents: int = 2
    cpus: int = 128
    mem_gib: int = 256
    sessions: int = 400
    accelerators: str = "cuda.device=4"
    heartbeat_timeout: float = 20.0
    """Seconds of silence after which the manager calls an agent LOST; 40 by default. Agents report every 3 s."""


@dataclass(frozen=True)
class Settings:
    """One stack; `state` holds all that it writes, and must be traversable by the `postgres` account."""

    series: str
    state: Path
    base_port: int
    sizes: Sizes = field(default_factory=Sizes)
    cache: Path = ROOT / ".stack"
    venv: Path | None = None

    @property
    def version(self) -> str:
        """The release."""
        return VERSIONS[self.series]

    @property
    def newer(self) -> bool:
        """Whether it is a 26."""
        return self.series.startswith("26")

    def port(self, name: str, number: int = 0) -> int:
        """Return the port of a service, or one of the ports of the agent with the number (from 1)."""
        return self.base_port + PORTS[name] + number

    def at(self, base_port: int, state: Path) -> Settings:
        """Return the same at another place."""
        return replace(self, base_port=base_port, state=state)


PORTS = {
    "postgres": 0,
    "redis": 1,
    "etcd": 2,
    "etcd peer": 3,
    "manager": 10,
    "storage for clients": 11,
    "storage for manager": 12,
    "manager inside": 15,
    "storage inside": 16,
    "agent": 20,
    "agent service": 25,
    "agent socket": 30,
    "agent metadata": 35,
    "monitors": 40,
    "proxy": 60,
    "proxy worker": 61,
    "proxy monitors": 62,
    "proxied": 66,
}
"""Offsets from the base port; an agent's are one above another."""
