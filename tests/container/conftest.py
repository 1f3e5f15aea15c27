"""A world on the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from container.engine import ContainerEngine
from container.world import World, opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an engine."""
    for item in items:
        if "container_engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.container)


@pytest.fixture
async def world(container_engine: ContainerEngine, tmp_path: Path) -> AsyncIterator[World]:
    """Give an installation of its own."""
    async with opened(tmp_path, container_engine) as made:
        yield made
