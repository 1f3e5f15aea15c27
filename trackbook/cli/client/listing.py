"""Lists with a note when they are cut."""

from __future__ import annotations

from typing import Any, NamedTuple

from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client
from trackbook.cli.terminal.streams import say


class Listing(NamedTuple):
    """The first items of a list, and how many it has; `total` is None where all are shown, or nobody knows."""

    items: list[Json]
    total: int | None

    def say_cut(self, what: str) -> None:
        """Say on stderr that there is more: `20 of 47 jobs`."""
        if self.total is not None and self.total > len(self.items):
            say(f"{len(self.items):,} of {self.total:,} {what}; --limit shows more")


def listing(client: Client, path: str, limit: int, /, **query: Any) -> Listing:
    """Return the first `limit` items of a list; it is counted only where there are more."""
    items = list(client.pages(path, limit + 1, **query))
    if len(items) <= limit:
        return Listing(items, None)
    counted = client.get(path, **query, limit=1, total="true")
    return Listing(items[:limit], counted.get("total"))
