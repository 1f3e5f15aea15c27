"""What stands before every request: who may be addressed, from where, and with what; and headers on every answer.

A page of a stranger in the user's browser can reach a server on loopback. It can't set the Host header (so a
name that it made point here is refused), can't hide its Origin when it posts, and can't send JSON without asking;
nor can it put or delete anything without asking, whatever it sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_AS_WHAT = "send the body as JSON, with Content-Type: application/json (a file as application/octet-stream)"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """Wraps an ASGI application."""

    def __init__(self, app: Any, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = {host.lower() for host in (*LOOPBACK, *hosts)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse the request or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], _headers(scope))
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: dict[str, str]) -> tuple[int, str, str] | None:
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            return 421, "unknown_host", f"this server isn't {host!r}: use the address that it printed"
        if method in _SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "foreign_origin", f"commands from pages of {origin} are refused"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "foreign_origin", "commands from pages of other sites are refused"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        file = method == "PUT" and kind == "application/octet-stream"
        if kind != "application/json" and not file and (kind or not empty):
            return 415, "not_json", _AS_WHAT
        return None


def _headers(scope: Any) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _name(host: str) -> str:
    """Return the name of a Host header without its port, '' for one that can't be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _refuse(send: Any, status: int, code: str, message: str) -> None:
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
