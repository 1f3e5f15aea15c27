"""An HTTP client for a server: requests, commands with retries, and streams that resume.

The standard library's HTTP client is used, since it is imported in a tenth of the time that larger ones take.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from trackbook.cli.client.address import Address
from trackbook.cli.client.exchange import (
    Json,
    Output,
    Unavailable,
    actor,
    decode_body,
    is_open,
    is_reply,
    parse_value,
    raise_rejected,
    read_frames,
    reason_of,
    target_of,
)
from trackbook.cli.errors import Rejected, Unreachable

PATIENCE = 30.0
"""Seconds for which a server that answered before may be away, as it is while it restarts."""
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0
_QUIET = 1.0
_PAGE = 500
_BROKEN = (OSError, http.client.HTTPException)

T = TypeVar("T")


def quote_part(part: str) -> str:
    """Return a name or id as one segment of a path; raises CliError if it is not UTF-8."""
    return quote(parse_value(part), safe="")


class Client:
    """One server. `find` returns its address, and is asked again while it is away: it may come back elsewhere.

    So it is where the token is refused, since each start of a server makes a new one. A server that never
    answered is an error at once; one that did may be unreachable for PATIENCE seconds.
    """

    def __init__(
        self,
        find: Callable[[], Address | None],
        *,
        patience: float = PATIENCE,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.find = find
        self.patience = patience
        self.say = say or (lambda text: print(text, file=sys.stderr))
        self.address = find() or Address("")
        self._answered = False
        self._connection: http.client.HTTPConnection | None = None

    @property
    def url(self) -> str:
        """Where the server is."""
        return self.address.url

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Questions and commands ---------------------------------------------------------------------------------

    def get(self, path: str, /, **query: Any) -> Any:
        """Return the JSON answer; raises Rejected or Unreachable. Parameters that are None are left out."""
        return self._json("GET", path, query)

    def post(self, path: str, /, **query: Any) -> Any:
        """Post without a body and return the JSON answer, for what may be asked twice."""
        return self._json("POST", path, query)

    def delete(self, path: str, /, **query: Any) -> Any:
        """Delete and return the JSON answer; what was deleted already is not there when it is asked again."""
        return self._json("DELETE", path, query)

    def text(self, path: str, /, **query: Any) -> str:
        """Return the answer as text."""
        _, body = self._persist(lambda: self._exchange("GET", target_of(path, query), None))
        return body.decode(errors="replace")

    def probe(self, path: str) -> Any:
        """Return the JSON answer of a health check, whatever its status; raises Unreachable."""
        connection = self.address.connect(10)
        try:
            connection.request("GET", self.address.base_path + path, headers=self.address.headers)
            return decode_body(connection.getresponse().read())
        except _BROKEN as lost:
            raise self._unreachable(lost) from None
        finally:
            connection.close()

    def briefly(self, path: str, seconds: float, /, **query: Any) -> Any:
        """Return the JSON answer, or None where none comes in time: of what is good to know and not needed."""
        connection = self.address.connect(seconds)
        try:
            connection.request(
                "GET", self.address.base_path + target_of(path, query), headers=self.address.headers
            )
            answer = connection.getresponse()
            body = answer.read()
            return decode_body(body) if answer.status < 400 else None
        except _BROKEN:
            return None
        finally:
            connection.close()

    def pages(self, path: str, /, limit: int | None = None, **query: Any) -> Iterator[Json]:
        """Yield the items of a list, page by page, `limit` at most."""
        cursor = None
        while limit is None or limit > 0:
            page = self.get(path, **query, cursor=cursor, limit=min(limit or _PAGE, _PAGE))
            yield from page["items"][:limit]
            limit = None if limit is None else limit - len(page["items"])
            cursor = page.get("next")
            if cursor is None:
                return

    def command(self, kind: str, verb: str, payload: Json, source: str = "") -> Json:
        """Have a command carried out once, however often it must be sent, and return the reply.

        Raises Rejected, with `source` as the name of the file that was sent.
        """
        sent = {"command_id": uuid.uuid4().hex} | {k: v for k, v in payload.items() if v is not None}
        body = parse_value(json.dumps(sent, ensure_ascii=False)).encode()

        def attempt() -> Json:
            _, answer = self._exchange("POST", f"/api/commands/{kind}/{verb}", body)
            reply: Json = decode_body(answer)
            if (reply.get("error") or {}).get("code") == "unavailable":
                raise Unavailable(str(reply["error"].get("message")))
            return reply

        reply = self._persist(attempt)
        if reply.get("status") != "accepted":
            raise Rejected(reply.get("error") or {"message": f"unexpected answer: {reply}"}, source)
        return reply

    def _json(self, method: str, path: str, query: Json) -> Any:
        _, body = self._persist(lambda: self._exchange(method, target_of(path, query), None))
        return decode_body(body)

    # Streams ------------------------------------------------------------------------------------------------

    def events(self, last: str = "", **query: Any) -> Generator[tuple[str, str, Json], None, None]:
        """Yield (id, event, data) of `/api/events` after the id `last` for ever, resumed where it broke.

        An event `reset` says that the server does not know the id: read the state again.
        """
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            connection, answer = self._persist(partial(self._open, target_of("/api/events", query), headers))
            try:
                for at, event, data in read_frames(answer):
                    last = at or last
                    yield at, event, decode_body(data.encode())
            except _BROKEN:
                pass
            finally:
                answer.close()
                connection.close()

    def open(
        self, path: str, headers: dict[str, str], /, **query: Any
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Ask on a connection of its own; it and the answer are to be closed. Raises Rejected or Unreachable."""
        return self._persist(partial(self._open, target_of(path, query), headers))

    def _open(
        self, target: str, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Ask on a connection of its own, which keepalive watches while it is quiet; both are to be closed."""
        connection = self.address.connect()
        try:
            known = {**self.address.headers, **(headers or {})}
            connection.request("GET", self.address.base_path + target, headers=known)
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise_rejected(answer.status, answer.read())
        except BaseException:
            connection.close()
            raise
        self._answered = True
        return connection, answer

    def output(self, path: str, /, *, resumes: bool = False, **query: Any) -> Output:
        """Return a part of a task's output as it arrives.

        If the connection breaks, its bytes end for a caller that `resumes`; others get Unreachable.
        """
        connection, answer = self._persist(lambda: self._open(target_of(path, query)))
        offset, written = (int(answer.headers.get(f"trackbook-log-{of}") or 0) for of in ("offset", "size"))
        return Output(offset, written, self._arriving(connection, answer, resumes))

    def _arriving(
        self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, resumes: bool
    ) -> Iterator[bytes]:
        try:
            while chunk := answer.read1(65536):
                yield chunk
        except _BROKEN as lost:
            if not resumes:
                raise Unreachable(f"the connection to {self.url} broke: {reason_of(lost)}") from None
        finally:
            answer.close()
            connection.close()

    def send(self, path: str, size: int, chunks: Callable[[], Iterator[bytes]], /, **query: Any) -> Any:
        """Put `size` bytes and return the JSON answer; `chunks` is called again each time they must be sent."""
        return self._persist(lambda: self._send(target_of(path, query), size, chunks()))

    def _send(self, target: str, size: int, chunks: Iterator[bytes]) -> Any:
        connection = self.address.connect()
        try:
            connection.putrequest("PUT", self.address.base_path + target)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
            for name, value in (headers | self.address.headers).items():
                connection.putheader(name, value)
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
            if is_open(connection.sock):
                with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: read why
                    for chunk in chunks:
                        connection.send(chunk)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        self._answered = True
        if answer.status >= 400:
            raise_rejected(answer.status, body)
        return decode_body(body)

    # One exchange -------------------------------------------------------------------------------------------

    def _exchange(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
        kept, self._connection = self._connection, None
        answer = None
        if kept is not None:
            with suppress(*_BROKEN):  # a server closes idle connections: that says nothing about its health
                answer = self._ask(kept, method, target, body)
        status, data = answer or self._ask(self.address.connect(), method, target, body)
        if status >= 400 and not is_reply(data):
            raise_rejected(status, data)
        return status, data

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None
    ) -> tuple[int, bytes]:
        """Ask on a connection and keep it for the next question, or close it where it broke."""
        headers = {"Accept": "*/*", "Trackbook-Actor": actor(), **self.address.headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self.address.base_path + target, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except BaseException:
            connection.close()
            raise
        self._answered = True
        self._connection = connection
        return answer.status, data

    def _persist(self, attempt: Callable[[], T]) -> T:
        """Try until it works, while the server is away for a moment only; raises Unreachable."""
        began, announced, wait = time.monotonic(), False, _FIRST_WAIT
        while True:
            try:
                return attempt()
            except Rejected as refused:
                if not self._token_may_change(refused) or time.monotonic() - began > self.patience:
                    raise
            except _BROKEN as lost:
                away = time.monotonic() - began
                if not self._answered or away > self.patience:
                    raise self._unreachable(lost) from None
                if away > _QUIET and not announced:
                    why = f"{self.url} is unreachable ({reason_of(lost)})"
                    self.say(f"trackbook: {why}; retrying for {self.patience:.0f} s …")
                    announced = True
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
            self.address = self.find() or self.address

    def _token_may_change(self, refused: Rejected) -> bool:
        """Whether the server may have been restarted: another token is known now, or about to be."""
        if refused.error.get("code") != "unauthorized" or not self.address.token:
            return False
        found = self.find()
        return found is None or found.token != self.address.token

    def _unreachable(self, lost: Exception) -> Unreachable:
        if isinstance(lost, Unavailable):
            return Unreachable(f"the server at {self.url} can't do that now: {lost}")
        return Unreachable(
            f"there is no server at {self.url or 'any known address'}: {reason_of(lost)}",
            "Start one with `trackbook up`, or set TRACKBOOK_URL (or --url) to where one runs.",
        )
