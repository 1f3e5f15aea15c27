"""A living session that can't be watched just now is looked at again, and the executor works meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hard_deadline import hard_deadline

from trackbook.adapters.local import attempt_state, executor
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.ports import SessionSpec
from trackbook.testing.reports import Reports


async def test_a_session_without_a_descriptor_to_watch_it_is_adopted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no pidfd can be opened, adopting a session neither blocks the event loop nor loses the session."""
    go = tmp_path / "go"
    spec = SessionSpec(
        f"tb-watch-{os.getpid()}", "j1", "p1", "pipe", "a", index=0, attempt=1,
        command=f"until [ -e {go} ]; do sleep 0.05; done",
    )  # fmt: skip
    first, reports = LocalExecutor(tmp_path, grace=0.3, durable=False), Reports()
    first.use_private_root = False
    await first.start(reports)
    await first.launch(spec)
    await reports.started("a")
    await first.close()

    refused = iter(range(2 * executor._LOOKS))
    watch = attempt_state.watch
    monkeypatch.setattr(executor, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(
        attempt_state, "watch", lambda *of: None if next(refused, None) is not None else watch(*of)
    )
    second, reports = LocalExecutor(tmp_path, grace=0.3, durable=False), Reports()
    await second.start(reports)
    with hard_deadline(30):
        await second.launch(spec)
        await reports.started("a")
        go.touch()
        ended = await reports.ended("a")

    assert ended.outcome == "succeeded"
    assert next(refused, None) is None
    await second.close()
