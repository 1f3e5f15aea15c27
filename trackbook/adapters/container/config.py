"""The settings of the container engine, and where it listens."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from trackbook.engine.names import did_you_mean

_SOCKETS = ("/run/podman/podman.sock", "{XDG_RUNTIME_DIR}/podman/podman.sock", "/var/run/docker.sock")
"""Where engines listen by default: Podman as root, Podman as a user, Docker."""
_VARIABLES = ("DOCKER_HOST", "CONTAINER_HOST")
_USER = re.compile(r"image|[0-9]+(?::[0-9]+)?")
_NUMBERS = {"limit": 1.0, "grace": 0.1, "unreachable_timeout": 0.1}
HINT = (
    "Start one (`systemctl start docker`, `systemctl --user start podman.socket`), or name its socket: "
    "DOCKER_HOST=unix:///path/to/engine.sock, or `socket` below [container] of executors.toml."
)


class Engine(Struct, frozen=True, kw_only=True):
    """An engine and how it is used. Durations are seconds.

    `socket` is a path or an address, '' for the usual ones. `image` is what tasks without an image run in.
    `network` is the engine's name of a network mode ('' for its default). `user` is who commands run as: '' for
    the account that Trackbook runs under, so that files are its own, `image` for what the image says, or
    `UID[:GID]`. `limit` sessions run at once (0: twice the cores). `grace` lies between TERM and KILL, and
    `unreachable_timeout` is how long a session that has not begun waits for the engine.
    """

    socket: str = ""
    image: str = ""
    network: str = ""
    user: str = ""
    limit: int = 0
    grace: float = 5.0
    unreachable_timeout: float = 120.0

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Engine:
        """Return the settings that a configuration has; raises ValueError, which names the key."""
        values: dict[str, Any] = {}
        for key, value in mapping.items():
            if key not in cls.__struct_fields__:
                hint = did_you_mean(str(key), list(cls.__struct_fields__))
                raise ValueError(f"{key!r} is not a setting{'. ' + hint if hint else ''}")
            values[key] = _number(key, value) if key in _NUMBERS else _text(key, value)
        if values.get("user") and not _USER.fullmatch(values["user"]):
            raise ValueError("user is 'image', or numbers: UID or UID:GID")
        if values.get("socket"):
            values["socket"] = _address(values["socket"])
        return cls(**values)

    def address(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return where the engine is to be found, None where none of the usual sockets is ours to use."""
        named = self.socket or next((environment[name] for name in _VARIABLES if environment.get(name)), "")
        if named:
            try:
                return _address(named)
            except ValueError:
                return named
        for socket in _SOCKETS:
            path = socket.format(XDG_RUNTIME_DIR=environment.get("XDG_RUNTIME_DIR") or "/nonexistent")
            if os.access(path, os.R_OK | os.W_OK):
                return f"unix://{path}"
        return None

    def missing(self) -> str:
        """Return in words that `address` found nothing."""
        places = ", ".join(socket.replace("{XDG_RUNTIME_DIR}", "$XDG_RUNTIME_DIR") for socket in _SOCKETS)
        named = " nor ".join(_VARIABLES)
        return f"no container engine was found: neither {named} is set, and of {places} none is ours to use"


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError(f"{key} must be text without blanks at its ends")
    return value


def _number(key: str, value: Any) -> int | float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or value < _NUMBERS[key] or (key == "limit" and value != int(value)):
        raise ValueError(f"{key} must be a number, at least {_NUMBERS[key]:g}")
    return int(value) if key == "limit" else float(value)


def _address(text: str) -> str:
    address = f"unix://{text}" if text.startswith("/") else text
    if not re.match(r"unix:///|tcp://|https?://", address):
        raise ValueError("socket is the path of a socket, or an address: unix:///… or tcp://HOST:PORT")
    return address
