"""The table of commands and their handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from trackbook.engine.ports import Executor
from trackbook.runtime.commands.gateway import Gateway
from trackbook.runtime.commands.jobs import JobCommands
from trackbook.runtime.commands.log import LogCommands
from trackbook.runtime.commands.pipelines import PipelineCommands
from trackbook.runtime.commands.preflight import Checks
from trackbook.runtime.commands.requests import CommandRequest, Handler, Reply
from trackbook.runtime.commands.run_plan import RunPlanner
from trackbook.runtime.executors.registry import Backends
from trackbook.runtime.jobs import Jobs
from trackbook.runtime.owner import Owner
from trackbook.runtime.pipeline_contents import History


async def _no_refresh() -> None:
    """Executors stay as they are."""


def new_gateway(
    owner: Owner,
    jobs: Jobs,
    history: History,
    backends: Backends,
    executors: Mapping[str, Executor],
    refresh: Callable[[], Awaitable[None]] = _no_refresh,
) -> Gateway:
    """Return the gateway of an engine; `backends` are the executors that a job may ask for, by name.

    `refresh` reads their configuration again if it changed.
    """

    def refreshed(handler: Handler) -> Handler:
        async def handle(asked: CommandRequest) -> Reply:
            await refresh()
            return await handler(asked)

        return handle

    async def resume() -> None:
        """Drop what was folded before an operator decided about damage, and resume the open jobs."""
        history.forget()
        owner.forget()
        await jobs.recover()

    aggregates = owner.aggregates
    pipelines = PipelineCommands(owner, history)
    on_log = LogCommands(aggregates, resume)
    planner = RunPlanner(aggregates.blobs, history, backends, executors)
    commands = JobCommands(owner, pipelines, planner)
    checks = Checks(jobs, pipelines, planner, backends)
    return Gateway(
        aggregates,
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
