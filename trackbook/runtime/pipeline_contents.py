"""Contents of pipelines at any version, folded from the log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

import msgspec

from trackbook.adapters.yaml.dump import dump
from trackbook.engine.diff import describe, diff, hunks
from trackbook.engine.errors import Refused
from trackbook.runtime import log_checks
from trackbook.runtime.aggregate_store import AggregateStore

_KEPT = 64


class History:
    """Reads contents from the log; versions never change, so the latest few are cached."""

    def __init__(self, aggregates: AggregateStore) -> None:
        self._aggregates = aggregates
        self._contents: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()

    async def content(self, pipeline: str, version: int) -> dict[str, Any]:
        """Return the content of a pipeline's version; raises Refused where there is none."""
        key = (pipeline, version)
        if key not in self._contents:
            state = await log_checks.state_at(self._aggregates, "pipeline", pipeline, version)
            if state.deleted and state.version < version:
                raise Refused("pipeline_version_not_found", f"version {version} deleted the pipeline")
            self._contents[key] = state.content
            while len(self._contents) > _KEPT:
                self._contents.popitem(last=False)
        self._contents.move_to_end(key)
        return self._contents[key]

    async def yaml(self, pipeline: str, version: int) -> str:
        """Return the content as YAML."""
        return await asyncio.to_thread(dump, await self.content(pipeline, version))

    async def diff(self, pipeline: str, first: int, last: int) -> list[dict[str, Any]]:
        """Return the changes between two versions, each with a line in `text` and the `hunks` of long texts."""
        old = await self.content(pipeline, first)
        new = await self.content(pipeline, last)

        def described() -> list[dict[str, Any]]:
            return [
                {**msgspec.to_builtins(event), "text": describe(event, old), "hunks": hunks(event, old)}
                for event in diff(old, new)
            ]

        return await asyncio.to_thread(described)

    def forget(self) -> None:
        """Drop what is kept: an operator left commits out."""
        self._contents.clear()
