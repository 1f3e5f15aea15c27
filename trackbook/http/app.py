"""The application: endpoints, errors and the OpenAPI document, behind the guard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from litestar import Litestar, MediaType, get
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin

from trackbook import __version__
from trackbook.engine.ports import Blobs
from trackbook.http.endpoints import (
    audit,
    backup,
    code,
    commands,
    event_stream,
    files,
    folders,
    health,
    jobs,
    log_checks,
    pipelines,
    task_files,
)
from trackbook.http.endpoints.commands import BODY_LIMIT
from trackbook.http.errors import HANDLERS
from trackbook.http.ports import Backups, CommandGateway, Executors, History, LogSource, Services, Status, Tools
from trackbook.http.transport.guard import Guard
from trackbook.http.transport.request_checks import answer_head, refuse_unknown_parameters
from trackbook.projections.read.finders import ReadModel

_INDEX = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Trackbook</title>
<h1>Trackbook</h1>
<ul>
<li><a href="/api/pipelines">Pipelines</a>
<li><a href="/api/jobs">Jobs</a>
<li><a href="/api/executors">Executors</a>
<li><a href="/api/audit">Audit: who did what, and when</a>
<li><a href="/api/quarantine">Quarantine: what could not be projected</a>
<li><a href="/api/events">Events as they happen</a>
<li><a href="/health/ready">Health</a>, <a href="/metrics">metrics</a>
<li><a href="/schema/openapi.json">OpenAPI document</a>
</ul>
</html>
"""


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def index() -> str:
    """List where to look."""
    return _INDEX


class _App(Litestar):
    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        """Leave out what serves pydantic and attrs: their import took a fifth of a second at every start."""
        return [*plugins, MsgspecDIPlugin()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; HEAD as GET would be."""
        await answer_head(super().__call__, scope, receive, send)


def create_app(
    read: ReadModel,
    gateway: CommandGateway,
    logs: LogSource,
    history: History,
    status: Status,
    tools: Tools,
    executors: Executors,
    *,
    blobs: Blobs,
    backups: Backups | None = None,
    token: str,
    hosts: Iterable[str] = (),
) -> Guard:
    """Return the ASGI application; `hosts` are names by which it is addressed beside those of loopback.

    Requests must carry `token`; with '' anybody is served who can reach it.

    The Litestar application itself is `.app` of what is returned.
    """
    services = Services(read, gateway, logs, history, status, tools, executors, blobs, backups)
    app = _App(
        route_handlers=[
            index,
            pipelines.router,
            folders.router,
            files.router,
            code.router,
            jobs.router,
            task_files.router,
            event_stream.router,
            audit.router,
            commands.router,
            health.router,
            log_checks.router,
            backup.router,
        ],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        before_request=refuse_unknown_parameters,
        openapi_config=OpenAPIConfig(
            title="Trackbook",
            version=__version__,
            description="Reads, the live stream of events, and commands. Times are RFC 3339 in UTC.",
            path="/schema",
            render_plugins=[JsonRenderPlugin()],
        ),
        request_max_body_size=BODY_LIMIT,
        logging_config=None,  # the runtime says where logs go
    )
    return Guard(app, token, hosts)
