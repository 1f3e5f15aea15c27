"""The address of a server and its token."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from trackbook.cli.errors import CliError


class Address(NamedTuple):
    """The URL of a server and its token, '' where it asks for none."""

    url: str
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that identify us to the server."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def base_path(self) -> str:
        """The path before that of the interface, '' as a rule."""
        return urlsplit(self.url).path.rstrip("/")

    def connect(self, timeout: float | None = None) -> http.client.HTTPConnection:
        """Return a connection, not opened yet; raises CliError for what is no address."""
        try:
            parts = urlsplit(self.url if "//" in self.url else f"http://{self.url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or not host.isprintable() or " " in host or parts.scheme not in ("http", "https"):
            raise CliError(f"{self.url!r} is not the address of a server", "It looks like http://127.0.0.1:9500.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=timeout)


def token_in(text: str, source: str) -> str:
    """Return the token that an option or variable holds; raises CliError without repeating it."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CliError(f"{source} holds no token", "A token is one line of letters, digits, - and _.")
    return token


def token_of(file: Path) -> str:
    """Return the token in a file; raises CliError."""
    try:
        text = file.read_bytes()[:4096].decode("ascii", "replace")
    except OSError as error:
        raise CliError(f"the token can't be read from {file}: {error.strerror}") from None
    return token_in(text, str(file))
