"""Clean up after attempts that had a copy of the pipeline's code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from trackbook.adapters.execution.code_archive import remove_copy

_log = structlog.get_logger(__name__)


async def discard_copy(folder: Path) -> None:
    """Delete an ended attempt's copy, which is in its session's folder; one that can't be deleted is logged."""
    try:
        await asyncio.to_thread(remove_copy, folder)
    except OSError as error:
        _log.warning("a copy of the code can't be deleted", folder=str(folder), error=str(error))
