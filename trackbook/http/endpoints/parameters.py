"""Parameters that several endpoints share."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from trackbook.http.ports import Services

LARGEST = 1 << 62
"""The largest number that is taken: no version or sequence comes near it, and the columns hold it."""

Served = NamedDependency[Services]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many items at most.")]
Cursor = Annotated[str | None, QueryParameter(description="`next` of the page before.", max_length=200)]
After = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=LARGEST,
        description="A sequence (`seq` of a command's reply): the answer includes at least everything up to it.",
    ),
]
PipelineKey = Annotated[str, PathParameter(description="A pipeline's name, id, or a unique beginning of its id.")]
JobKey = Annotated[str, PathParameter(description="A job's id, or a unique beginning of it.")]
TaskName = Annotated[str, PathParameter(description="A task's name.")]
Attempt = Annotated[
    int | None,
    QueryParameter(ge=1, le=LARGEST, description="The attempt whose outputs are meant; the latest by default."),
]
EventType = Annotated[str, QueryParameter(description="Only events of this type.")]
Total = Annotated[bool, QueryParameter(description="Count the whole list as well, in `total`.")]
Order = Annotated[Literal["newest", "oldest"], QueryParameter(description="Which come first.")]
ExecutorName = Annotated[
    str,
    QueryParameter(
        name="executor", description="The executor; the pipeline's own by default, or else the server's."
    ),
]
PAGE = 100
