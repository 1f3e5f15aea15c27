"""The contract of executors once more, on real managers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_executor import (
    test_a_command_that_looks_like_an_option,  # noqa: F401
    test_attempts_are_sessions_of_their_own,  # noqa: F401
    test_close_with_cancel,  # noqa: F401
    test_failure,  # noqa: F401
    test_launch_again_reports_again,  # noqa: F401
    test_limit_and_order,  # noqa: F401
    test_refused_reports_are_repeated,  # noqa: F401
    test_sessions_outlive_the_executor,  # noqa: F401
    test_start_of_a_long_session_is_reported,  # noqa: F401
    test_stop_before_launch,  # noqa: F401
    test_stop_is_idempotent,  # noqa: F401
    test_success,  # noqa: F401
)

from backendai.cluster import Cluster
from backendai.worlds import ClusterWorld


@pytest.fixture
async def world(stack: Cluster, tmp_path: Path) -> AsyncIterator[ClusterWorld]:
    """Give a world on the manager."""
    made = ClusterWorld(stack, tmp_path)
    yield made
    await made.close()
