"""The HTTP server: uvicorn inside our own loop, without its signal handlers, access log or ticking clock."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import uvicorn

from trackbook.http.transport.connections import Connections, LimitedProtocol, most_connections
from trackbook.http.transport.guard import Guard
from trackbook.http.transport.listener import QUEUED, bind_socket
from trackbook.runtime.process.descriptors import descriptor_limit

_GRACE = 2
"""Seconds that an answer under way gets when the server stops."""


_ACCEPTED_AT_ONCE = 32
"""Each takes a descriptor before the limit of connections can be looked at."""
_OUT_OF_DESCRIPTORS = "socket.accept() out of system resource"


class _Quiet(uvicorn.Server):
    """uvicorn's server wakes ten times a second to check whether to stop; this one waits for an event."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()
        self.listener: socket.socket | None = None

    async def main_loop(self) -> None:
        if self.listener is not None:
            self.listener.listen(QUEUED)  # asyncio has set it to the number that it accepts at once
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Take no more connections, and let what is under way finish within _GRACE."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := set(self.server_state.tasks):
            _, late = await asyncio.wait(tasks, timeout=_GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for server in self.servers:
            await server.wait_closed()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application. `url` says where, once it has started; port 0 picks a free one."""

    def __init__(
        self,
        app: Guard,
        host: str = "127.0.0.1",
        port: int = 9500,
        *,
        stopping: Callable[[], None] | None = None,
        connections: Connections | None = None,
    ) -> None:
        """Take the application; `stopping` is called first when it stops, so that streams can end."""
        self.connections = connections or Connections(most_connections(descriptor_limit()))
        self._app, self._host, self._port = app, host, port
        self._stopping = stopping
        self._before: Any = None
        self._server: _Quiet | None = None
        self._serving: asyncio.Task[None] | None = None
        self.url = ""

    async def start(self) -> str:
        """Listen and return the address, such as http://127.0.0.1:9500; raises BindRefusedError."""
        listener = bind_socket(self._host, self._port)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._app.hosts.add(host)
        config = uvicorn.Config(
            self._app,
            http=cast("Any", partial(LimitedProtocol, self.connections)),
            backlog=_ACCEPTED_AT_ONCE,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Quiet(config)
        self._watch_accepting()
        self._server.listener = listener
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        return self.url

    def _watch_accepting(self) -> None:
        """Report that the process has run out of descriptors; asyncio would log it for each connection."""
        loop = asyncio.get_running_loop()
        before = self._before = loop.get_exception_handler()

        def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if str(context.get("message", "")).startswith(_OUT_OF_DESCRIPTORS):
                self.connections.reached("descriptors")
            elif before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(report)

    async def stop(self) -> None:
        """Let streams end and answers finish, then close."""
        if self._stopping is not None:
            self._stopping()
        if self._server is not None and self._serving is not None:
            self._server.stopping.set()
            await self._serving
            asyncio.get_running_loop().set_exception_handler(self._before)
