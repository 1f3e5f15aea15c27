"""NATS JetStream: the event store, blobs, the embedded broker, command ingress.

nats-py imports aiohttp wherever that is installed, for WebSockets: a fifth of what a server imports. It is left
out here, and `allow_web_sockets` has it where a broker's address asks for it.
"""

from __future__ import annotations

import importlib
import sys

_OPTIONAL = ("aiohttp", "multidict")


def _import_without_web_sockets() -> None:
    """Import the client as where aiohttp is not installed, unless somebody has imported either."""
    if "aiohttp" in sys.modules or "nats" in sys.modules:
        return
    sys.modules["aiohttp"] = None  # type: ignore[assignment]  # makes its import raise ModuleNotFoundError
    try:
        importlib.import_module("nats.aio.transport")
    finally:
        del sys.modules["aiohttp"]


def allow_web_sockets() -> None:
    """Give nats-py what it needs for ws:// and wss://. Raises ImportError."""
    transport = importlib.import_module("nats.aio.transport")
    for name in _OPTIONAL:
        setattr(transport, name, importlib.import_module(name))


_import_without_web_sockets()
