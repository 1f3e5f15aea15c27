"""Numbers that no version has are refused, whatever their size."""

from __future__ import annotations

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
