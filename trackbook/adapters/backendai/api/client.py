"""One cluster's HTTP API: signed requests, and refusals as ClusterError."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import structlog

from trackbook.adapters.backendai.api import signing
from trackbook.adapters.backendai.api.errors import ClusterError, no_answer, query_refusal, refusal
from trackbook.adapters.backendai.api.proxies import Transport, through
from trackbook.adapters.backendai.config import Cluster

_log = structlog.get_logger(__name__)
for _name in ("httpx", "httpcore"):  # their finer levels write signatures, and addresses with tokens
    logging.getLogger(_name).setLevel(logging.WARNING)
TIMEOUT = 30.0
"""Seconds that an answer may take unless a call says otherwise."""
_CONNECT = 5.0
_QUEUE = 120.0
"""Seconds that a request may wait for a connection: a burst of 200 sessions has to pass."""
_CONNECTIONS = 32
_KEPT = 20.0
"""Seconds that an idle connection is kept; managers close theirs after 75."""
_CORRECTIONS = 4
"""How often a request is sent at most while its date is refused: two clocks may jump one after the other."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class Client:
    """Speaks to one manager, over connections that it keeps; `close` it at last.

    Where the manager refuses a request for its date alone, the client takes over the manager's time, says so in
    the log, and asks again. `skew` is by how many seconds the manager's clock was last seen ahead of ours.
    """

    def __init__(self, cluster: Cluster, *, clock: Clock = utc_now) -> None:
        self.cluster = cluster
        self.skew: float | None = None
        self._clock = clock
        self._correction = timedelta()
        self.http = httpx.AsyncClient(
            timeout=httpx.Timeout(TIMEOUT, connect=_CONNECT, pool=_QUEUE),
            transport=Transport(
                verify=cluster.verify_tls,
                limits=httpx.Limits(
                    max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=_KEPT
                ),
            ),
            trust_env=False,  # Transport sees to proxies; a netrc file would take the place of the signature
            headers={"User-Agent": "trackbook"},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    @property
    def correction(self) -> float:
        """By how many seconds requests are dated other than our clock says."""
        return self._correction.total_seconds()

    async def get(self, path: str, query: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT) -> Any:
        """Return the JSON answer to a GET. Raises ClusterError."""
        return await self.request("GET", path, query=query, timeout=timeout)

    async def query(self, text: str, timeout: float = TIMEOUT, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL query, which changes nothing. Raises ClusterError."""
        body = {"query": text, "variables": variables}
        answer = await self.request("POST", "/admin/gql", body=body, timeout=timeout, changes=False)
        problems = answer.get("errors") if isinstance(answer, dict) else [{"message": "no JSON object"}]
        if problems:
            raise query_refusal(self.cluster.name, [str(problem.get("message")) for problem in problems])
        data: dict[str, Any] = answer.get("data") or {}
        return data

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout: float = TIMEOUT,
        changes: bool | None = None,
    ) -> Any:
        """Return the JSON answer, None for an empty one. Raises ClusterError.

        `path` is escaped already (see `part`). `changes` says whether the request is to change anything (default:
        whether it is no GET); one that isn't is asked again at once where its connection breaks.
        """
        changing = method not in ("GET", "HEAD") if changes is None else changes
        content = None if body is None else json.dumps(body).encode()
        tries = 1 if changing else 2
        while True:
            tries -= 1
            try:
                answer = await self._ask(method, path, query, content, timeout)
            except httpx.HTTPError as lost:
                error = no_answer(self.cluster.name, lost, changes=changing)
                if error.slug == "broken" and tries:
                    continue
                raise error from None
            if answer.is_success:
                return self._decode(answer)
            raise self._refusal(answer, changing)

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, Any] | None = None, *, silence: float
    ) -> AsyncIterator[httpx.Response]:
        """Open a GET whose answer is read as it comes; a silence of that many seconds breaks it.

        Raises ClusterError at the opening, and httpx.HTTPError where it breaks afterwards.
        """
        try:
            answer = await self._ask("GET", path, query, None, silence, stream=True)
        except httpx.HTTPError as lost:
            raise no_answer(self.cluster.name, lost, changes=False) from None
        try:
            if not answer.is_success:
                await answer.aread()
                raise self._refusal(answer, changing=False)
            yield answer
        finally:
            await answer.aclose()

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        content: bytes | None,
        timeout: float,
        *,
        stream: bool = False,
    ) -> httpx.Response:
        """Ask, and again by the manager's time where it refuses ours: nothing was done then.

        Of requests on their way at once one corrects the time, and all that had the wrong one are repeated.
        """
        for _ in range(_CORRECTIONS):
            dated = self._correction
            answer = await self.http.send(self._sign(method, path, query, content, timeout), stream=stream)
            self._see_clock(answer)
            if answer.status_code != httpx.codes.BAD_REQUEST:
                break
            await answer.aread()
            if not self._refusal(answer, changing=False).is_clock:
                break
            self._correct()
            if self._correction == dated:
                break
        return answer

    def _sign(
        self, method: str, path: str, query: Mapping[str, Any] | None, content: bytes | None, timeout: float
    ) -> httpx.Request:
        url = httpx.URL(self.cluster.endpoint + path + encode_query(query))
        request = self.http.build_request(
            method, url, content=content, timeout=httpx.Timeout(timeout, connect=_CONNECT, pool=_QUEUE)
        )
        date = self._clock() + self._correction
        request.headers.update(
            signing.sign(
                method,
                request.url.raw_path.decode("ascii"),
                request.headers["Host"],
                date,
                self.cluster.access_key,
                self.cluster.secret_key,
            )
        )
        return request

    # The clock ----------------------------------------------------------------------------------------------

    def _see_clock(self, answer: httpx.Response) -> None:
        try:
            theirs = parsedate_to_datetime(answer.headers["Date"])
        except (KeyError, ValueError):
            return
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        seconds = (theirs - self._clock()).total_seconds()
        self.skew = 0.0 if -2 < seconds < 1 else round(seconds)  # the header has whole seconds

    def _correct(self) -> None:
        """Take over the manager's time as last seen."""
        if self.skew is None or abs(self.skew - self.correction) < 1:
            return
        self._correction = timedelta(seconds=self.skew)
        _log.warning("the cluster's clock is not ours", cluster=self.cluster.name, ahead_by_seconds=self.skew)

    def _refusal(self, answer: httpx.Response, changing: bool) -> ClusterError:
        error = refusal(self.cluster.name, answer, answer.content, changes=changing)
        if error.is_clock and self.skew:
            way = "ahead of" if self.skew > 0 else "behind"
            error.message += f" (its clock is {abs(self.skew):.0f} seconds {way} ours)"
        return error

    def _decode(self, answer: httpx.Response) -> Any:
        if not answer.content:
            return None
        try:
            return json.loads(answer.content)
        except ValueError:
            message = f"it answered something that is not JSON: is there a manager at {self.cluster.endpoint}?"
            if words := through(answer):
                message += f" The request went through {words}."
            raise ClusterError(
                self.cluster.name, "operator", "not-json", message, status=answer.status_code
            ) from None


def part(name: str) -> str:
    """Return a name or id as one segment of a path."""
    return quote(name, safe="")


def encode_query(query: Mapping[str, Any] | None) -> str:
    """Return a query as it stands behind the path; what is None is left out."""
    asked = urlencode(
        {
            key: str(value).lower() if isinstance(value, bool) else value
            for key, value in (query or {}).items()
            if value is not None
        },
        quote_via=quote,
        safe="",
    )
    return f"?{asked}" if asked else ""
