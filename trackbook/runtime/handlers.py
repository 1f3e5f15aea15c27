"""The table of commands and their handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from trackbook.engine.ports import Executor
from trackbook.runtime.book import Book
from trackbook.runtime.checking import Checks
from trackbook.runtime.executors import Backends
from trackbook.runtime.gateway import Asked, Gateway
from trackbook.runtime.history import History
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.log_commands import LogCommands
from trackbook.runtime.pipelines import Pipelines
from trackbook.runtime.preparing import Preparing
from trackbook.runtime.requests import Reply
from trackbook.runtime.starting import JobCommands

Handler = Callable[[Asked], Awaitable[Reply]]


async def _unchanging() -> None:
    """Executors stay as they are."""


def new_gateway(
    book: Book,
    jobs: Jobs,
    history: History,
    backends: Backends,
    executors: Mapping[str, Executor],
    refresh: Callable[[], Awaitable[None]] = _unchanging,
) -> Gateway:
    """Return the gateway of an engine; `backends` are the executors that a job may ask for, by name.

    `refresh` reads their configuration again if it changed.
    """

    def refreshed(handler: Handler) -> Handler:
        async def handle(asked: Asked) -> Reply:
            await refresh()
            return await handler(asked)

        return handle

    async def resume() -> None:
        """Drop what was folded before an operator decided about damage, and resume the open jobs."""
        history.forget()
        pipelines.forget()
        await jobs.resume()

    pipelines = Pipelines(book, history)
    on_log = LogCommands(book, resume)
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
            ("job", "start"): refreshed(commands.start),
            ("job", "cancel"): commands.cancel,
            ("job", "pause"): commands.pause,
            ("job", "resume"): commands.resume,
            ("job", "check"): refreshed(checks.check),
            ("executor", "sweep"): refreshed(checks.sweep),
            ("log", "accept-loss"): on_log.accept_loss,
            ("quarantine", "release"): on_log.release,
        },
    )
