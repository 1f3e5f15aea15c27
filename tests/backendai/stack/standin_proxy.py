"""A stand-in for an app proxy's coordinator, for 23.09: no app proxy of its time is in the package index.

It takes what the manager tells a coordinator, answers with an address that leads nowhere, and shows at / what it
was reported.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

reported: dict[str, Any] = {}


class Handler(BaseHTTPRequestHandler):
    """GET /status; POST and DELETE /v2/endpoints/<id> with the manager's token."""

    def do_GET(self) -> None:
        """Answer what kind of app proxy this is, and what it received."""
        self._answer(200, {"api_version": "v2", "advertise_address": self._own, "reported": reported})

    def do_POST(self) -> None:
        """Give a service its address."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._may():
            reported[self.path.split("/")[3]] = body
            self._answer(200, {"endpoint": f"{self._own}/serves/{body['service_name']}"})

    def do_DELETE(self) -> None:
        """Forget a service."""
        if self._may():
            reported.pop(self.path.split("/")[3], None)
            self._answer(200, {"success": True})

    @property
    def _own(self) -> str:
        return f"http://127.0.0.1:{sys.argv[1]}"

    def _may(self) -> bool:
        if self.headers.get("X-BackendAI-Token") == sys.argv[2]:
            return True
        self._answer(401, {})
        return False

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
