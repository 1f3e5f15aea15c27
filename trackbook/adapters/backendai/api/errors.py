"""What a cluster refuses, and what that means for the one who asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import httpx

from trackbook.adapters.backendai.api.proxies import ProxyUnusable, through

Kind = Literal["permanent", "infrastructure", "operator", "unknown"]
"""permanent: asking again brings the same; infrastructure: it may work later, and nothing was done;
operator: somebody must mend key, rights or clock; unknown: it may have been done, look before asking again."""

_CLOCK = "date/time sync error"
_NO_AGENTS = "no agents serving"
_LONGEST = 500
_VALUES = ("input", "ctx", "url", "existingSessionId")
"""Keys of a problem's data that have no words about parameters, or the values sent."""
_ABOUT_QUERY = ("Cannot query field", "Unknown ", "Variable ", "Syntax Error")


class ClusterError(Exception):
    """A request that failed; `str()` says on which cluster, what, and why, in the manager's own words.

    `message` is what the manager says alone. `status` is that of HTTP, 0 where there was no answer. `slug` is the
    last part of the problem's type (`session-already-exists`); without one it is `unreachable`, `timeout` or
    `broken` (no answer), `proxy` (one is named that can't be used), `graphql` (a query refused), `not-json` or
    `http-<status>`. `data` is what the manager adds.
    """

    def __init__(
        self, cluster: str, kind: Kind, slug: str, message: str, *, status: int = 0, data: Any = None
    ) -> None:
        super().__init__(message)
        self.cluster = cluster
        self.kind: Kind = kind
        self.slug = slug
        self.message = message
        self.status = status
        self.data = data

    def __str__(self) -> str:
        return f"cluster {self.cluster!r}: {self.message}"

    @property
    def existing_session(self) -> str | None:
        """The id of the live session that has the name already, where the manager tells."""
        found = self.data.get("existingSessionId") if isinstance(self.data, dict) else None
        return str(found) if found else None

    @property
    def missing(self) -> bool:
        """Whether what was asked for is not there."""
        return self.status == 404

    @property
    def is_clock(self) -> bool:
        """Whether the request was refused for its date: the two clocks differ by more than the manager takes."""
        return self.status == 400 and _CLOCK in self.message.lower()


def classify(status: int, slug: str, message: str = "", *, changes: bool) -> Kind:
    """Return what an answer means; `changes` says that the request was to change something.

    Seen on 23.09 and 26.8: 409 and 500 come from races between equal requests of which one succeeds, so after
    them nobody knows. A wrong clock is a 400 among others, and on 26.8 so is that no agent lives.
    """
    if status in (401, 403) or slug == "invalid-auth-params" or _CLOCK in message.lower():
        return "operator"
    if status == 429 or _NO_AGENTS in message.lower():  # refused before anything is done, for now
        return "infrastructure"
    if status == 409 or status >= 500:
        return "unknown" if changes else "infrastructure"
    return "permanent"


def error_in(cluster: str, status: int, content: bytes, *, changes: bool) -> ClusterError:
    """Return the error that an answer tells of, in `application/problem+json` or not."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "type" not in problem:
        slug, words, data = f"http-{status}", f"it answered with status {status}", None
    else:
        slug = str(problem["type"]).rstrip("/").rpartition("/")[2]
        data = problem.get("data")
        words = _words(problem, data) or f"it answered with status {status} ({slug})"
    return ClusterError(
        cluster, classify(status, slug, words, changes=changes), slug, words, status=status, data=data
    )


def refusal(cluster: str, answer: httpx.Response, content: bytes, *, changes: bool) -> ClusterError:
    """Return the error that an answer tells of; one that a proxy may have given names that."""
    error = error_in(cluster, answer.status_code, content, changes=changes)
    if error.slug.startswith("http-") and (words := through(answer)):
        error.message += f" (through {words})"
        if answer.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            error.kind = "operator"
    return error


def query_refusal(cluster: str, messages: list[str]) -> ClusterError:
    """Return the error of a GraphQL query, which is answered with status 200.

    A failure inside the manager (its database is away) looks the same, but for words about the query itself.
    """
    first = [message.strip().partition("\n")[0] for message in messages[:3]]
    kind: Kind = "permanent" if any(message.startswith(_ABOUT_QUERY) for message in first) else "infrastructure"
    words = "it refused a query: " + "; ".join(first)
    return ClusterError(cluster, kind, "graphql", words[:_LONGEST], status=200)


def no_answer(cluster: str, lost: httpx.HTTPError, *, changes: bool) -> ClusterError:
    """Return the error for a request that had no answer; where it was never sent, nothing was done."""
    reason = str(lost) or type(lost).__name__
    if isinstance(lost, ProxyUnusable):
        return ClusterError(cluster, "operator", "proxy", f"it can't be reached: {reason}")
    if isinstance(lost, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
        return ClusterError(cluster, "infrastructure", "unreachable", f"it can't be reached: {reason}")
    kind: Kind = "unknown" if changes else "infrastructure"
    if isinstance(lost, httpx.TimeoutException):
        words = f" {reason[at:]}" if (at := reason.find("(through ")) >= 0 else ""
        return ClusterError(cluster, kind, "timeout", f"it did not answer in time{words}")
    return ClusterError(cluster, kind, "broken", f"the connection broke before the answer: {reason}")


def _words(problem: dict[str, Any], data: Any) -> str:
    """Return title and message in one; of data only where parameters are wrong, never the values sent."""
    title, message = (str(problem.get(key) or "").strip() for key in ("title", "msg"))
    words = f"{title.rstrip('.')}: {message}" if title and message and title not in message else message or title
    wrong = _parameters(data)
    return f"{words} ({wrong})"[:_LONGEST] if wrong else words[:_LONGEST]


def _parameters(data: Any) -> str:
    return "; ".join(f"{path}: {words}" if path else words for path, words in _wrong(data, ()))


def _wrong(data: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with which parameter: 23.09 nests it by their names, 26.8 lists `loc` and `msg`."""
    if isinstance(data, str):
        yield ".".join(path), " ".join(data.split())
    elif isinstance(data, list):
        for item in data:
            yield from _wrong(item, path)
    elif isinstance(data, dict) and "msg" in data:
        yield ".".join((*path, *map(str, data.get("loc") or ()))), str(data["msg"])
    elif isinstance(data, dict):
        for key, value in data.items():
            if key not in _VALUES:
                yield from _wrong(value, (*path, str(key)))
