"""Numbers that no version has are refused, whatever their size."""

from __future__ import annotations

import base64
from pathlib import Path

from histories.made import History
from histories.served import site


async def test_numbers_beyond_64_bits_are_refused(tmp_path: Path) -> None:
    """No such number reaches the read model, whose columns could not hold it."""
    huge = "9" * 20
    versions = "/api/pipelines/p/versions"
    async with site(History(), tmp_path / "readmodel.db") as served:
        for path in (
            f"{versions}/{huge}",
            f"{versions}/{huge}/yaml",
            f"/api/pipelines/p/diff?from={huge}",
            f"/api/pipelines/p/diff?from=1&to={huge}",
            f"/api/jobs?after={huge}",
            f"/api/jobs/j/at/{huge}",
        ):
            answer = await served.client.get(path)

            assert (path, answer.status_code) in ((path, 400), (path, 404)), answer.text


async def test_what_cannot_be_read_in_a_request_is_refused(tmp_path: Path) -> None:
    """Cursors with numbers that no place has, an Origin or Host that is no address: the client's fault."""
    async with site(History(), tmp_path / "readmodel.db") as served:
        cursor = base64.urlsafe_b64encode(b"[%d]" % 10**30).decode().rstrip("=")
        for method, path, headers, status in (
            ("GET", f"/api/pipelines?cursor={cursor}", {}, 400),
            ("GET", f"/api/jobs?cursor={cursor}", {}, 400),
            ("POST", "/api/commands/job/start", {"origin": "http://[::1"}, 403),
            ("GET", "/api/jobs", {"host": "127.0.0.1:99999999"}, 421),
            ("OPTIONS", "/api/jobs", {}, 204),
        ):
            answer = await served.client.request(method, path, headers=headers)

            assert (path, answer.status_code) == (path, status), answer.text
