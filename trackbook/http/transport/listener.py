"""The socket that HTTP listens on: loopback only, with a clear error when it can't be bound."""

from __future__ import annotations

import errno
import ipaddress
import socket

from trackbook.errors import UserError

QUEUED = 512
"""Connections that the kernel keeps until they are accepted."""
_HINTS = {
    errno.EADDRINUSE: "Another program listens there; give another port with --http, or :0 for any.",
    errno.EACCES: "Only root may use ports below 1024; give another with --http, or :0 for any.",
    errno.EADDRNOTAVAIL: "This machine has no such address; 127.0.0.1 is usual.",
}


class BindRefusedError(UserError):
    """The address can't be served: it isn't one of loopback, it is taken, or it isn't ours."""


def refuse_unservable(http: str) -> None:
    """Raise BindRefusedError for a HOST:PORT that can't be served, before anything is made for a server there."""
    host, _, port = http.rpartition(":")
    bind_socket(host, int(port)).close()


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raises BindRefusedError."""
    address = _loopback(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named (it cost 40 ms an answer).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
        listener.listen(QUEUED)
    except OSError as error:
        listener.close()
        hint = _HINTS.get(error.errno or 0, "Give another address with --http.")
        raise BindRefusedError(f"{host}:{port} can't be served: {error.strerror}. {hint}") from error
    listener.setblocking(False)
    return listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    name = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise BindRefusedError(f"{host!r} is not an address; try 127.0.0.1") from None
    if not address.is_loopback:
        raise BindRefusedError(
            f"{host} is open to other machines, and what goes over HTTP can be read there: bind "
            "127.0.0.1 and reach it through an SSH tunnel"
        )
    return address
