"""Which handler answers which command."""

from __future__ import annotations

from collections.abc import Mapping

from trackbook.engine.ports import Executor
from trackbook.runtime.book import Book
from trackbook.runtime.checking import Checks
from trackbook.runtime.executors import Backends
from trackbook.runtime.gateway import Gateway
from trackbook.runtime.history import History
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.pipelines import Pipelines
from trackbook.runtime.preparing import Preparing
from trackbook.runtime.starting import JobCommands


def new_gateway(
    book: Book, jobs: Jobs, history: History, backends: Backends, executors: Mapping[str, Executor]
) -> Gateway:
    """Return the gateway of an engine; `backends` are the executors that a job may ask for, by name."""
    pipelines = Pipelines(book, history)
    preparing = Preparing(book.blobs, history, backends, executors)
    commands = JobCommands(book, jobs, pipelines, preparing)
    checks = Checks(jobs, pipelines, preparing, backends)
    return Gateway(
        book,
        {
            ("pipeline", "create"): pipelines.create,
            ("pipeline", "apply"): pipelines.apply,
            ("pipeline", "edit"): pipelines.edit,
            ("pipeline", "rename"): pipelines.rename,
            ("pipeline", "restore"): pipelines.restore,
            ("pipeline", "delete"): pipelines.delete,
            ("job", "start"): commands.start,
            ("job", "cancel"): commands.cancel,
            ("job", "check"): checks.check,
            ("executor", "sweep"): checks.sweep,
        },
    )
