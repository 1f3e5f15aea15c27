"""The output of a session without an exit record, which the manager stores after it has ended the session."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.session import exit_artifacts
from trackbook.adapters.backendai.session.exit_artifacts import ExitArtifacts
from trackbook.adapters.backendai.session.observation import Observation
from trackbook.adapters.backendai.session.output import Output

KILLED = Session(
    "s1", "tb-1", "TERMINATED", "task-failed", "FAILURE", history={"RUNNING": "2026-11-29T12:00:00+00:00"}
)


async def nothing(start: int, size: int) -> bytes | None:
    """The folder has no output."""
    return None


class Manager:
    """Refuses the first requests with a status, then has the output."""

    def __init__(self, status: int, refusals: int) -> None:
        self._status = status
        self._refusals = refusals
        self.asked = 0

    async def get(self, path: str, **how: Any) -> dict[str, Any]:
        """Answer one request."""
        self.asked += 1
        if self.asked <= self._refusals:
            raise ClusterError("main", "unknown", "internal-server-error", "it broke", status=self._status)
        return {"result": {"logs": "its last words\n"}}


@pytest.mark.parametrize(
    ("status", "refusals", "kept", "asked"),
    [
        (500, 0, b"its last words\n", 1),
        (500, 2, b"its last words\n", 3),
        (500, 99, None, 4),
        (404, 1, None, 1),
        (0, 1, None, 1),
    ],
)
async def test_output_that_a_manager_has_late_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, refusals: int, kept: bytes | None, asked: int
) -> None:
    """A 500 is asked again, four times in all; a manager that doesn't know the session or is away is not."""
    monkeypatch.setattr(exit_artifacts, "_LOOKS", (0, 0, 0))
    manager: Any = Manager(status, refusals)
    parts: Any = SimpleNamespace(connection=SimpleNamespace(client=manager))
    spec: Any = SimpleNamespace(session="s1")

    await ExitArtifacts(spec, parts).complete(
        Output(tmp_path / "log", nothing), Observation(session=KILLED, no_record=True)
    )

    assert manager.asked == asked
    assert ((tmp_path / "log").read_bytes() if (tmp_path / "log").exists() else None) == kept
