"""Contents of pipelines at any version, folded from the log."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

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

    def forget(self) -> None:
        """Drop what is kept: an operator left commits out."""
        self._contents.clear()
