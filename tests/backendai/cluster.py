"""What a test knows of a real manager, and may do to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backendai.stack.client import Client
from backendai.stack.settings import IMAGE, KEYS, VERSIONS
from backendai.stack.stack import Stack


class Cluster:
    """A stack that was booted for the tests."""

    keys = KEYS
    image = "{}/{}:{}".format(*IMAGE)
    project = "default"
    domain = "default"
    scaling_group = "default"

    def __init__(self, own: Stack | None, series: str = "", endpoint: str = "") -> None:
        self._own = own
        self.series = own.settings.series if own else series
        self.endpoint = own.endpoint if own else endpoint

    @property
    def version(self) -> str:
        """The release of the manager."""
        return VERSIONS[self.series]

    @property
    def newer(self) -> bool:
        """Whether it is a 26, where only the admin's key may create sessions here."""
        return self.series.startswith("26")

    @property
    def key(self) -> str:
        """The account whose key tests use unless they are about accounts: one that can do all that users do."""
        return "admin" if self.newer else "user"

    @property
    def own(self) -> Stack:
        """The stack itself; skips the test where the manager isn't ours to stop."""
        if self._own is None:
            pytest.skip("needs a stack of its own")
        return self._own

    @property
    def volume(self) -> Path:
        """The folder of the host in which virtual folders lie."""
        return self.own.volume

    @property
    def agents(self) -> list[str]:
        """The names of the agents."""
        return self.own.agents

    def client(self, account: str = "") -> Client:
        """Return a client of the standard library, for looking behind the adapter's back."""
        return Client(self.endpoint, KEYS[account or self.key])

    def start(self, name: str) -> None:
        """Start manager, storage, agent1 …, and wait until it is ready."""
        self.own.start(name)

    def stop(self, name: str) -> None:
        """Stop a part as an operator does; an agent ends its sessions then."""
        self.own.stop(name)

    def kill(self, name: str) -> None:
        """End a part at once; sessions of an agent go on."""
        self.own.kill(name)

    @contextmanager
    def without(self, name: str, *, kill: bool = False) -> Iterator[None]:
        """Take a part away for a while; it is back afterwards, whatever the test does."""
        (self.kill if kill else self.stop)(name)
        try:
            yield
        finally:
            self.start(name)


class External(Cluster):
    """A manager that runs already and isn't ours."""

    def __init__(self, series: str, endpoint: str) -> None:
        super().__init__(None, series, endpoint.rstrip("/"))
