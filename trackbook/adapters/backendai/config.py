"""The settings of one cluster."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from trackbook.engine import amounts
from trackbook.engine.names import did_you_mean

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_REQUIRED = ("endpoint", "access_key", "secret_key")


class Cluster(Struct, frozen=True, kw_only=True):
    """A cluster and how it is spoken to. Durations are seconds; '' leaves the choice to the manager.

    `pending_timeout` is how long a session may wait for resources, `unreachable_timeout` how long the manager may
    be away, or a session silent, until that counts as lost; `stop_timeout` how long a session may take to end
    until it is ended by force, `service_timeout` how long a service may take to be healthy. `image` is what tasks
    without an image run in. `listing_limit` is the number of entries after which the storage proxy cuts a listing
    (its `scandir-limit`), 0 if it never does. `web_url` is the address of the cluster's web interface.
    """

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    project: str = "default"
    domain: str = "default"
    scaling_group: str = ""
    vfolder_host: str = ""
    image: str = ""
    poll_interval: float = 10.0
    pending_timeout: float = 86400.0
    unreachable_timeout: float = 900.0
    stop_timeout: float = 60.0
    service_timeout: float = 1800.0
    listing_limit: int = 1000
    verify_tls: bool = True
    web_url: str = ""

    def session_link(self, session: str) -> str:
        """Return where the cluster's web interface shows the session of that id, '' where that is not known.

        Its list of sessions opens the one that `sessionDetail` names (backend.ai-webui, issue 2784).
        """
        return f"{self.web_url}/session?sessionDetail={session}" if self.web_url else ""

    def __repr__(self) -> str:
        return f"Cluster(name={self.name!r}, endpoint={self.endpoint!r})"

    def __rich_repr__(self) -> Any:
        yield "name", self.name
        yield "endpoint", self.endpoint

    @classmethod
    def from_mapping(cls, name: str, mapping: Mapping[str, Any]) -> Cluster:
        """Return the cluster that a configuration describes; numbers and truths may be strings, as in variables.

        Raises ValueError, which names the key that is unknown, missing or wrong, never its value.
        """
        where = f"cluster {name!r}"
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} can't be the name of a cluster: letters, digits, '.', '_' and '-' are taken"
            )
        known = [key for key in cls.__struct_fields__ if key != "name"]
        for key in mapping:
            if key not in known:
                hint = did_you_mean(str(key), known)
                raise ValueError(f"{where}: {key!r} is not a setting{'. ' + hint if hint else ''}")
        missing = [key for key in _REQUIRED if not mapping.get(key)]
        if missing:
            raise ValueError(f"{where}: {' and '.join(missing)} must be set")
        values = {key: _read(where, key, value) for key, value in mapping.items()}
        values["endpoint"] = _address(where, "the endpoint", values["endpoint"])
        if values.get("web_url"):
            values["web_url"] = _address(where, "web_url", values["web_url"])
        return cls(name=name, **values)


_DURATIONS = ("poll_interval", "pending_timeout", "unreachable_timeout", "stop_timeout", "service_timeout")
_SHORTEST = 0.1


def _read(where: str, key: str, value: Any) -> Any:
    if key in _DURATIONS:
        return _duration(where, key, value)
    if key == "verify_tls":
        truth = amounts.truth(value)
        if truth is None:
            raise ValueError(f"{where}: {key} is either true or false")
        return truth
    if key == "listing_limit":
        number = amounts.whole(value)
        if number is None:
            raise ValueError(f"{where}: {key} must be a whole number from 0")
        return number
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} must be text")  # noqa: TRY004
    if not value.isprintable() or value != value.strip():
        raise ValueError(f"{where}: {key} has blanks at its ends, or characters that don't print")
    return value


def _duration(where: str, key: str, value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= _SHORTEST):
        raise ValueError(f"{where}: {key} must be a number of seconds, at least {_SHORTEST}")
    return seconds


def _address(where: str, what: str, address: str) -> str:
    example = "it looks like https://cluster.example.org or http://127.0.0.1:8081"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError(f"{where}: {what} is not an address: {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{where}: {what} is not an address: {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{where}: {what} has more than an address in it: {example}")
    return address.rstrip("/")
