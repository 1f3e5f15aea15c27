"""Waiting for conditions instead of for time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which a condition counts as one that never holds: long, since machines are busy now and then."""
_LOOK_AGAIN = 0.01


async def holds(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Return once the condition holds; fails if it never does. For what no event announces."""
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, f"never held: {condition}"
        await asyncio.sleep(_LOOK_AGAIN)


def wait_until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Return once the condition holds; for tests without a loop."""
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, f"never held: {condition}"
        time.sleep(_LOOK_AGAIN)
