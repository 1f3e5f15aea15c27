"""Checks before every request: Host, token, origin and content type.

Every user of the machine can reach a server on loopback, so each request proves by the server's token that it may
ask. The other checks hold without a token (`--no-auth`) too: a page of a stranger in the user's browser can't set
the Host header (so a name that was made to point here is refused), can't hide its Origin when it posts, and can't
send JSON, put or delete anything without a preflight request, which is never granted.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_AS_WHAT = "send the body as JSON, with Content-Type: application/json (a file as application/octet-stream)"
OPEN = frozenset(("/health/live", "/health/ready"))
"""What is answered without a token: whether the server works, for those who watch it."""

_HOW_TO_ASK = (
    "Send `Authorization: Bearer TOKEN`; server.json in the data directory holds it. The command line takes it"
    " from there, or by --token-file and TRACKBOOK_TOKEN."
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHALLENGE = (b"www-authenticate", b'Bearer realm="trackbook"')
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
    """Wraps an ASGI application. With the token '' nobody is asked for one."""

    def __init__(self, app: Any, token: str, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self._token = token.encode()
        self.hosts = {host.lower() for host in (*LOOPBACK, *hosts)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse the request or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        if (refusal := self._unknown_host(headers)) is None and not self._may_ask(scope, headers):
            await _refuse(send, 401, "unauthorized", _unauthorized(headers), _HOW_TO_ASK, (_CHALLENGE,))
            return
        refusal = refusal or _refusal(scope["method"], headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, send_guarded)

    def _unknown_host(self, headers: dict[str, str]) -> tuple[int, str, str] | None:
        host = headers.get("host", "")
        if _name(host) in self.hosts:
            return None
        return 421, "unknown_host", f"this server isn't {host!r}: use the address that it printed"

    def _may_ask(self, scope: Any, headers: dict[str, str]) -> bool:
        if not self._token or (scope["path"] in OPEN and scope["method"] in ("GET", "HEAD")):
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = secrets.compare_digest(given.strip().encode(), self._token)
        return known and scheme.lower() == "bearer"


def _refusal(method: str, headers: dict[str, str]) -> tuple[int, str, str] | None:
    if method in _SAFE:
        return None
    origin = headers.get("origin")
    if origin is not None and _netloc(origin) != headers.get("host", "").lower():
        return 403, "foreign_origin", f"commands from pages of {origin} are refused"
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return 403, "foreign_origin", "commands from pages of other sites are refused"
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    file = method == "PUT" and kind == "application/octet-stream"
    if kind != "application/json" and not file and (kind or not empty):
        return 415, "not_json", _AS_WHAT
    return None


def _unauthorized(headers: dict[str, str]) -> str:
    return "this is not the server's token" if "authorization" in headers else "this server asks for a token"


def _headers(scope: Any) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _name(host: str) -> str:
    """Return the name of a Host header without its port, '' for one that can't be read."""
    try:
        parts = urlsplit(f"//{host}")
        usable = parts.port is None or parts.port > 0
    except ValueError:  # also for a port that none can be
        return ""
    return (parts.hostname or "") if usable else ""


def _netloc(origin: str) -> str | None:
    """Return the host and port of an Origin header, None for one that can't be read."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


async def _refuse(
    send: Any, status: int, code: str, message: str, hint: str = "", more: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    error = {"code": code, "message": message} | ({"hint": hint} if hint else {})
    body = msgspec.json.encode({"error": error})
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", b"application/json"), length, *more, *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
