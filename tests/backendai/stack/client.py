"""The smallest client of a manager, of the standard library alone: it proves the stack, not the adapter."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from backendai.stack.settings import Key

API_VERSION = "v7.20230615"
KIND = "application/json"


def signed(method: str, path: str, host: str, date: datetime, key: Key) -> dict[str, str]:
    """Return the headers of a request; the path includes the query, exactly as sent."""
    stamp = date.isoformat()
    empty = hashlib.sha256(b"").hexdigest()
    lines = [
        method,
        path,
        stamp,
        f"host:{host}",
        f"content-type:{KIND}",
        f"x-backendai-version:{API_VERSION}",
        empty,
    ]
    signing = hmac.digest(key.secret.encode(), date.strftime("%Y%m%d").encode(), "sha256")
    signing = hmac.digest(signing, host.encode(), "sha256")
    signature = hmac.new(signing, "\n".join(lines).encode(), "sha256").hexdigest()
    return {
        "Date": stamp,
        "X-BackendAI-Version": API_VERSION,
        "Content-Type": KIND,
        "Authorization": f"BackendAI signMethod=HMAC-SHA256, credential={key.access}:{signature}",
    }


class Client:
    """One account at one endpoint; every call opens a connection of its own."""

    def __init__(self, endpoint: str, key: Key) -> None:
        self._host = urlsplit(endpoint).netloc
        self._key = key

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> tuple[int, Any]:
        """Return the status and the decoded answer."""
        full = path + ("?" + urlencode(query) if query else "")
        headers = signed(method, full, self._host, datetime.now(UTC), self._key)
        connection = http.client.HTTPConnection(self._host, timeout=timeout)
        try:
            connection.request(method, full, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(data) if data else None
        except ValueError:
            return response.status, data.decode(errors="replace")

    def gql(self, query: str, **variables: object) -> Any:
        """Return the data of a GraphQL query; raise AssertionError on errors."""
        status, answer = self.call("POST", "/admin/gql", {"query": query, "variables": variables})
        assert status == 200, answer
        assert not answer.get("errors"), answer
        return answer["data"]
