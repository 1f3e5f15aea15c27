"""Whoever gave a command over HTTP reads what it did, without a word about sequences."""

from __future__ import annotations

from pathlib import Path

import httpx
from command_line import CommandLine


def test_a_read_after_a_command_shows_what_it_did(tmp_path: Path) -> None:
    """The answer to a command comes when the read model has it, so the next request never misses it."""
    trackbook = CommandLine(tmp_path)
    with (
        trackbook.up(),
        httpx.Client(base_url=trackbook.server_url(), headers=trackbook.server_headers()) as client,
    ):
        for number in range(20):
            made = client.post("/api/commands/pipeline/create", json={"name": f"p{number}"}).json()

            seen = client.get(f"/api/pipelines/{made['pipeline']}")

            assert (seen.status_code, seen.json()["name"]) == (200, f"p{number}")
