"""Parts of HTTP requests and responses: targets, bodies, errors, and the frames of a stream."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import re
import select
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from trackbook.cli.errors import CliError, Rejected

_CONSENT_WITHIN = 2.0
"""Seconds for a server to say that it takes a file, before its bytes are sent anyway."""

Json = dict[str, Any]


class Output(NamedTuple):
    """A part of a task's output: its offset, how many bytes were written when it was asked for, and its bytes."""

    offset: int
    written: int
    chunks: Iterator[bytes]


class Unavailable(ConnectionError):
    """The server answers and says: try the same command again."""


def actor() -> str:
    """Return the name of the current user, reduced to the letters that the server accepts."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return "user:" + re.sub(r"[^\w.@+-]", "_", name)[:59]


def parse_value(text: str) -> str:
    """Return text as it was typed, whatever encoding the locale has; raises CliError if it is not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape").decode()
    except UnicodeError as error:
        at: int = getattr(error, "start", 0)
        shown = text.encode("utf-8", "surrogatepass")[max(0, at - 40) : at + 40]
        raise CliError(f"{shown.decode(errors='backslashreplace')!r} is not UTF-8 text") from None


def _parse_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_parse_value(each) for each in value]
    return parse_value(value) if isinstance(value, str) else value


def target_of(path: str, query: Json) -> str:
    """Return a path with its query; parameters that are None are left out."""
    given = {key: value for key, value in query.items() if value is not None}
    asked = urlencode({key: _parse_value(value) for key, value in given.items()}, doseq=True)
    return f"{path}?{asked}" if asked else path


def is_open(connection: socket.socket) -> bool:
    """Whether the body is to be sent: the server says so, or refuses; one that says nothing is taken to agree."""
    if not select.select([connection], [], [], _CONSENT_WITHIN)[0]:
        return True
    try:
        line = connection.recv(12, socket.MSG_PEEK)
    except ValueError:  # what TLS has received can't be looked at before it is read
        return True
    except OSError:
        return False
    return line.startswith(b"HTTP/1.1 100")


def decode_body(body: bytes) -> Any:
    """Return the JSON of an answer; raises CliError."""
    try:
        return json.loads(body or b"null")
    except ValueError:
        raise CliError(f"the server answered something that is not JSON: {body[:200]!r}") from None


def is_reply(body: bytes) -> bool:
    """Whether an answer is the reply to a command, whose refusals carry a status of 4xx as well."""
    return body.startswith(b"{") and b'"status":"rejected"' in body.replace(b": ", b":")


def raise_rejected(status: int, body: bytes) -> None:
    """Raise what an answer of 4xx or 5xx says: Unavailable, or Rejected."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    error = answer.get("error") or answer
    if status == http.client.SERVICE_UNAVAILABLE and error.get("code") != "executor_unavailable":
        raise Unavailable(str(error.get("message") or error.get("detail") or "it is not ready"))
    message = error.get("message") or error.get("detail") or f"the server answered with status {status}"
    raise Rejected({"code": error.get("code") or f"http_{status}", **error, "message": message})


def reason_of(lost: Exception) -> str:
    """Return why a connection broke."""
    return str(getattr(lost, "strerror", None) or lost or type(lost).__name__)


def read_frames(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str, str]]:
    """Yield the events of a stream; what was cut off in the middle is dropped, as the format demands."""
    at, event = "", "message"
    data: list[str] = []
    while raw := answer.readline():
        line = raw.decode().rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                yield at, event, "\n".join(data)
            event, data = "message", []
        elif field == "id":
            at = value
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)
